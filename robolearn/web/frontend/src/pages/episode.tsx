// One episode: its pictures in step, its curves, what is known of it, and edits.
import { useSignal, type Signal } from "@preact/signals";
import { useEffect, useMemo, useState } from "preact/hooks";
import { post } from "../api";
import type { PageProps } from "../main";
import { Dialog } from "../parts/dialog";
import { brief, Success, TagDialog } from "../parts/edits";
import { query, short, to, useKeys, useLoad } from "../parts/load";
import { Plot, type Line } from "../parts/plot";
import { Timeline, type Stage } from "../parts/timeline";
import type { Curves, EpisodeInfo, Series } from "../parts/types";
import { Viewer } from "../parts/viewer";
import "../data.css";

export function Episode({ words: [dataset, id], query: asked }: PageProps) {
  const loaded = useLoad<EpisodeInfo>(`datasets/episode${query({ dataset, episode: id })}`);
  if (loaded.data?.id !== id)
    return (
      <>
        <h1>Episode</h1>
        <p class={loaded.problem ? "problem" : "quiet"}>{loaded.problem || "Loading ..."}</p>
        {dataset && <a href={to("datasets", dataset)}>all episodes of {dataset}</a>}
      </>
    );
  const { data, reload, problem } = loaded;
  return <Shown key={id} dataset={dataset} info={data} reload={reload} gone={problem} first={Number(asked.get("step") ?? 0)} />;
}

type Props = { dataset: string; info: EpisodeInfo; reload: () => void; gone: string; first: number };

/** gone: why what is shown cannot be asked for any more. */
function Shown({ dataset, info, reload, gone, first }: Props) {
  const step = useSignal(Math.min(Math.max(first || 0, 0), Math.max(info.length - 1, 0)));
  const [asking, setAsking] = useState<"delete" | "tag" | "trim" | null>(null);
  const [problem, setProblem] = useState("");
  const [said, setSaid] = useState("");
  const [range, setRange] = useState<[number, number]>([0, info.length]);
  useEffect(() => setRange([0, info.length]), [info.length]);
  const go = (id: string | null) => id && (location.hash = to("episode", dataset, id));
  useKeys({ "[": () => go(info.before), "]": () => go(info.after) });

  const act = async (what: () => Promise<unknown>, words: string, then?: () => void) => {
    setAsking(null);
    try {
      await what();
      setProblem("");
      setSaid(words);
      if (then) return then();
    } catch (error) {
      setProblem((error as Error).message);
    }
    reload();
  };
  const edit = (action: string, more: object = {}) => () => post("datasets/edit", { dataset, action, episodes: [info.id], ...more });
  const rows: Record<string, Stage[]> = {};
  info.annotations.forEach((note) => (rows[note.author] ??= []).push(note));
  const facts: [string, unknown][] = [
    ["task", info.task],
    ["instruction", info.instruction],
    ["operator", info.operator],
    ["seed", info.seed],
    ["ended", info.reason || (info.terminated ? "terminated" : "truncated")],
    ["recorded", info.created_ns ? new Date(info.created_ns / 1e6).toLocaleString() : ""],
    ["masked", Object.entries(info.masked).map(([name, steps]) => `${name} in ${steps} steps`).join(", ")],
    ["tags", Object.entries(info.tags).map(([name, value]) => `${name}: ${JSON.stringify(value)}`).join(", ")],
  ];
  return (
    <>
      <p class="quiet">
        <a href={to("datasets")}>Datasets</a> / <a href={to("datasets", dataset)}>{dataset}</a> /
      </p>
      <div class="spread">
        <h1>
          Episode {info.index} <span class="quiet mono small">{info.id}</span>
        </h1>
        <nav class="row" aria-label="Episodes">
          <button disabled={!info.before} onClick={() => go(info.before)}>
            ← previous <kbd>[</kbd>
          </button>
          <button disabled={!info.after} onClick={() => go(info.after)}>
            next <kbd>]</kbd> →
          </button>
        </nav>
      </div>
      {(problem || gone) && (
        <p class="problem" role="alert">
          {problem || gone}
        </p>
      )}
      <p role="status">{said}</p>
      <div class="sides">
        <div class="card">
          <Viewer dataset={dataset} info={info} step={step} />
          {info.annotations.length > 0 && (
            <Timeline length={info.length} rows={rows} labels={[...new Set(info.annotations.map((n) => n.label))]} step={step} />
          )}
          <p class="quiet keys">
            <kbd>space</kbd> plays, <kbd>←</kbd> <kbd>→</kbd> a step, with <kbd>shift</kbd> ten, <kbd>Home</kbd> <kbd>End</kbd>
          </p>
        </div>
        <aside class="card" aria-label="What is known">
          <h2>
            <Success value={info.success} />, {info.length} steps
          </h2>
          <dl class="facts">
            {facts
              .filter(([, value]) => value !== "" && value !== null)
              .map(([name, value]) => (
                <div key={name}>
                  <dt>{name}</dt>
                  <dd>{String(value)}</dd>
                </div>
              ))}
          </dl>
          <div class="row">
            <a class="button primary" href={to("annotate", dataset, info.id)}>
              Annotate
            </a>
            <button onClick={() => setAsking("tag")}>Tag</button>
            <button onClick={() => setAsking("trim")}>Trim</button>
            <button class="danger" onClick={() => setAsking("delete")}>
              Delete
            </button>
            <button
              disabled={!info.last_edit}
              title={info.last_edit}
              onClick={() => act(() => post("datasets/undo", { dataset, expected: info.last_edit }), `taken back: ${brief(info.last_edit)}`)}
            >
              Undo {brief(info.last_edit)}
            </button>
          </div>
        </aside>
      </div>
      <Plots dataset={dataset} info={info} step={step} />
      {asking === "delete" && (
        <Dialog
          title="Delete this episode?"
          act="Delete"
          danger
          onClose={() => setAsking(null)}
          onAct={() => act(edit("delete"), "", () => (location.hash = to("datasets", dataset)))}
        >
          <p>It is hidden, and Undo brings it back, until `robolearn dataset gc` frees its room.</p>
        </Dialog>
      )}
      {asking === "tag" && (
        <TagDialog count={1} onTag={(tags) => act(edit("tag", { tags }), "tagged")} onClose={() => setAsking(null)} />
      )}
      {asking === "trim" && (
        <Dialog
          title="Keep a part of this episode?"
          act="Trim"
          danger
          onClose={() => setAsking(null)}
          onAct={() => act(edit("trim", { start: range[0], stop: range[1] }), "trimmed")}
        >
          <label>
            first step that stays{" "}
            <input type="number" min="0" max={info.length - 1} value={range[0]} onInput={(e) => setRange([Number(e.currentTarget.value), range[1]])} />
          </label>
          <label>
            step behind the last one{" "}
            <input type="number" min="1" max={info.length} value={range[1]} onInput={(e) => setRange([range[0], Number(e.currentTarget.value)])} />
          </label>
          <p>
            Shown now: step {step.value}. Undo brings the rest back.
          </p>
        </Dialog>
      )}
    </>
  );
}

type Chart = { title: string; unit: string; lines: Line[]; open: boolean };

/** A chart for each field, joints' positions and velocities apart; the columns come first. */
function charts(series: Series): Chart[] {
  const found: Chart[] = [];
  const add = (title: string, curves: Curves, open: boolean) => {
    const lines = curves.names.map((name, n) => ({ name, values: curves.values[n] }));
    const kinds = new Set(lines.map((line) => /\.(\w+)$/.exec(line.name)?.[1] ?? ""));
    const units = curves.unit.split(", ");
    [...kinds].forEach((kind, n) => {
      const part = lines.filter((line) => (/\.(\w+)$/.exec(line.name)?.[1] ?? "") === kind);
      found.push({ title: kind ? `${title}: ${kind}` : title, unit: units.length === kinds.size ? units[n] : curves.unit, lines: part, open: open && n === 0 });
    });
  };
  Object.entries(series.columns).forEach(([name, curves]) => add(name, curves, true));
  Object.entries(series.fields).forEach(([name, curves]) => add(name, curves, name === "action" || name === "proprio" || name === "reward"));
  Object.entries(series.streams).forEach(([name, curves]) => add(`${name} (stream)`, curves, true));
  return [...found.filter((chart) => chart.open), ...found.filter((chart) => !chart.open)];
}

function Plots({ dataset, info, step }: { dataset: string; info: EpisodeInfo; step: Signal<number> }) {
  const { data, problem } = useLoad<Series>(`datasets/series${query({ dataset, episode: info.id, version: info.version })}`);
  const columns = Object.keys(data?.columns ?? {});
  const [overlay, setOverlay] = useState<string | null>(null);
  const chosen = overlay ?? columns.find((name) => name.startsWith("reward")) ?? columns[0] ?? "";
  const all = useMemo(() => (data ? charts(data) : []), [data]);
  const shown = useMemo(
    () =>
      all.map((chart) => {
        const above = data?.columns[chosen];
        const alone = !above || chart.title.startsWith(chosen);
        return { ...chart, lines: alone ? chart.lines : [...chart.lines, { name: chosen, values: above.values[0], overlay: true }] };
      }),
    [all, chosen],
  );
  if (problem) return <p class="problem">{problem}</p>;
  if (!data) return <p class="quiet">Loading curves ...</p>;
  return (
    <section aria-label="Curves">
      <div class="spread">
        <h2>Curves</h2>
        {columns.length > 0 && (
          <label>
            laid over each{" "}
            <select value={chosen} onChange={(e) => setOverlay(e.currentTarget.value)}>
              <option value="">nothing</option>
              {columns.map((name) => (
                <option key={name}>{name}</option>
              ))}
            </select>
          </label>
        )}
      </div>
      <p class="quiet">
        {data.time_s.length > 0 && `${short(data.time_s[data.time_s.length - 1])} s. `}Click into a curve to go to its step.
      </p>
      <div class="plots">
        {shown.map((chart) => (
          <Chart key={chart.title} chart={chart} x={data.step} step={step} />
        ))}
      </div>
    </section>
  );
}

function Chart({ chart, x, step }: { chart: Chart; x: number[]; step: Signal<number> }) {
  const [open, setOpen] = useState(chart.open);
  return (
    <details class="card" open={open} onToggle={(e) => setOpen(e.currentTarget.open)}>
      <summary>
        {chart.title} <span class="quiet">{chart.unit && `[${chart.unit}]`}</span>
      </summary>
      {open && <Plot untitled title={chart.title} unit={chart.unit} x={x} lines={chart.lines} step={step} />}
    </details>
  );
}
