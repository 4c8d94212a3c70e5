// Annotating an episode by keys: stages, success, instruction. Saved at once.
import { useSignal } from "@preact/signals";
import { useEffect, useRef, useState } from "preact/hooks";
import type { PageProps } from "../main";
import { Agreed, Author, author } from "../parts/author";
import { Success } from "../parts/edits";
import { Choose } from "../parts/choose";
import { query, to, useKeys, useLoad } from "../parts/load";
import { refused, save, sendLeftovers, waiting } from "../parts/saver";
import { Timeline, type Stage } from "../parts/timeline";
import { useTyped } from "../parts/typed";
import type { Agreement, EpisodeInfo } from "../parts/types";
import { Viewer } from "../parts/viewer";
import "../data.css";

const LOOK_MS = 4000; // at what others say

type Said = {
  length: number;
  labels: string[];
  stages: Record<string, Stage[]>;
  success: boolean | null;
  success_by: Record<string, boolean>;
  instruction: string;
  stage_agreement: Agreement;
  success_agreement: Agreement;
};

export function Annotate({ words: [dataset, id] }: PageProps) {
  useEffect(sendLeftovers, []);
  if (!dataset) return <Choose title="Annotate" page="annotate" />;
  if (!id) return <First dataset={dataset} />;
  return <Loaded key={`${dataset} ${id}`} dataset={dataset} id={id} />;
}

/** The first episode that this person has not annotated. */
function First({ dataset }: { dataset: string }) {
  const { data, problem } = useLoad<{ episode: string | null }>(`annotate/next${query({ dataset, author: author.peek() })}`);
  useEffect(() => {
    if (data?.episode) location.replace(to("annotate", dataset, data.episode));
  }, [data]);
  return (
    <>
      <h1>Annotate</h1>
      <p class={problem ? "problem" : "quiet"}>{problem || (data?.episode === null ? "This dataset has no episodes." : "Loading ...")}</p>
    </>
  );
}

function Loaded({ dataset, id }: { dataset: string; id: string }) {
  const info = useLoad<EpisodeInfo>(`datasets/episode${query({ dataset, episode: id })}`);
  const said = useLoad<Said>(`annotate/episode${query({ dataset, episode: id })}`, LOOK_MS);
  const problem = info.problem || said.problem;
  if (!info.data || !said.data)
    return (
      <>
        <h1>Annotate</h1>
        <p class={problem ? "problem" : "quiet"}>{problem || "Loading ..."}</p>
      </>
    );
  return <Desk dataset={dataset} info={info.data} said={said.data} reload={said.reload} />;
}

/** What somebody says of the episode; what undo goes back to. */
type Mine = { stages: Stage[]; success: boolean | null; instruction: string };

/** Every stage lasts until the next one begins, the last one until the end. */
function joined(stages: Stage[], length: number): Stage[] {
  const sorted = [...stages].sort((a, b) => a.start - b.start);
  return sorted.map((stage, n) => ({ ...stage, stop: sorted[n + 1]?.start ?? length }));
}

function Desk({ dataset, info, said, reload }: { dataset: string; info: EpisodeInfo; said: Said; reload: () => void }) {
  const step = useSignal(0);
  const me = author.value;
  const theirs: Mine = { stages: said.stages[me] ?? [], success: said.success_by[me] ?? null, instruction: said.instruction };
  const [changed, setChanged] = useState<{ author: string; now: Mine } | null>(null); // what is not in `said` yet
  const [more, setMore] = useState<string[]>([]);
  const past = useRef<{ author: string; before: Mine[] }>({ author: me, before: [] });
  if (past.current.author !== me) past.current = { author: me, before: [] };
  const mine = changed?.author === me ? changed.now : theirs;
  const labels = [...new Set([...said.labels, ...more])];
  useEffect(() => {
    // An effect may come after the next key, whose change is newer than the one of this drawing.
    setChanged((newest) => (newest && JSON.stringify(newest.now) === JSON.stringify(theirs) ? null : newest));
  }, [said]);

  const store = async (now: Mine) => {
    setChanged({ author: me, now });
    const at = { dataset, episode: info.id };
    const key = `${dataset} ${info.id} ${me}`;
    const same = (name: keyof Mine) => JSON.stringify(now[name]) === JSON.stringify(mine[name]);
    const sent = [
      same("stages") || save(`${key} stages`, "annotate/stages", { ...at, author: me, stages: now.stages }),
      same("success") || save(`${key} success`, "annotate/success", { ...at, author: me, success: now.success }),
      same("instruction") || save(`${key} instruction`, "annotate/instruction", { ...at, instruction: now.instruction }),
    ];
    await Promise.all(sent);
    if (refused.value) setChanged(null); // show what is true
    reload();
  };
  const change = (part: Partial<Mine>) => {
    if (!me) return document.querySelector<HTMLInputElement>(".who-am-i input")?.focus();
    past.current.before.push(mine);
    return store({ ...mine, ...part });
  };
  const undo = () => {
    const before = past.current.before.pop();
    if (before) store(before);
  };
  const begin = (label: string) => {
    const others = mine.stages.filter((stage) => stage.label !== label && stage.start !== step.peek());
    change({ stages: joined([...others, { label, start: step.peek(), stop: 0 }], info.length) });
  };
  const current = () => mine.stages.find((stage) => stage.start <= step.value && step.value < stage.stop);
  const drop = () => {
    const stage = current();
    if (stage) change({ stages: joined(mine.stages.filter((one) => one !== stage), info.length) });
  };
  const words = useTyped(mine.instruction, (instruction) => change({ instruction }));
  const go = (id: string | null) => id && (location.hash = to("annotate", dataset, id));
  const keys: Record<string, () => void> = {
    s: () => change({ success: true }),
    f: () => change({ success: false }),
    u: undo,
    Backspace: drop,
    Delete: drop,
    backspace: drop,
    delete: drop,
    n: () => go(info.after),
    p: () => go(info.before),
  };
  labels.slice(0, 9).forEach((label, n) => (keys[String(n + 1)] = () => begin(label)));
  useKeys(keys);

  const rows = { ...said.stages, [me || "you"]: mine.stages };
  return (
    <>
      <p class="quiet">
        <a href={to("annotate")}>Annotate</a> / <a href={to("datasets", dataset)}>{dataset}</a> /
      </p>
      <div class="spread">
        <h1>
          Episode {info.index} <span class="quiet">of {info.episodes}</span>
        </h1>
        <div class="row who-am-i">
          <Author />
          <button disabled={!info.before} onClick={() => go(info.before)}>
            ← <kbd>P</kbd>
          </button>
          <button disabled={!info.after} onClick={() => go(info.after)}>
            <kbd>N</kbd> →
          </button>
        </div>
      </div>
      <p role="status" class={refused.value ? "problem" : waiting.value ? "warn" : "quiet"} data-saved={!waiting.value && !refused.value}>
        {refused.value || waiting.value || (me ? "All is saved." : "Say who you are, then annotate.")}
      </p>
      <div class="sides">
        <div class="card">
          <Viewer dataset={dataset} info={info} step={step} />
          <Timeline length={info.length} rows={rows} labels={labels} step={step} mine={me || "you"} />
          <fieldset class="row" disabled={!me}>
            <legend>Here begins</legend>
            {labels.map((label, n) => (
              <button key={label} onClick={() => begin(label)} aria-pressed={current()?.label === label}>
                {n < 9 && <kbd>{n + 1}</kbd>} {label}
              </button>
            ))}
            <NewLabel onLabel={(label) => (setMore([...more, label]), begin(label))} />
            <button onClick={drop} disabled={!current()}>
              <kbd>⌫</kbd> take this stage away
            </button>
          </fieldset>
          <p class="quiet">{verdict(mine.stages, labels)}</p>
        </div>
        <aside class="card grid" aria-label="Episode">
          <fieldset class="row" disabled={!me}>
            <legend>Was it a success?</legend>
            <button aria-pressed={mine.success === true} onClick={() => change({ success: true })}>
              <kbd>S</kbd> success
            </button>
            <button aria-pressed={mine.success === false} onClick={() => change({ success: false })}>
              <kbd>F</kbd> failure
            </button>
            <button disabled={mine.success === null} onClick={() => change({ success: null })}>
              no answer
            </button>
          </fieldset>
          <p>
            In the dataset: <Success value={said.success} />
            {Object.keys(said.success_by).length > 0 && (
              <span class="quiet">
                {" "}
                by {Object.entries(said.success_by).map(([name, word]) => `${name} (${word ? "success" : "failure"})`).join(", ")}
              </span>
            )}
          </p>
          <label>
            Instruction
            <textarea rows={2} disabled={!me} {...words} />
          </label>
          <div>
            <button onClick={undo} disabled={!past.current.before.length}>
              <kbd>U</kbd> undo
            </button>
          </div>
          <div>
            <h2>Agreement</h2>
            <Agreed what="Stages" found={said.stage_agreement} of="steps" />
            <Agreed what="Success" found={said.success_agreement} of="episodes" />
          </div>
          <a href={to("episode", dataset, info.id)}>curves and edits of this episode</a>
        </aside>
      </div>
    </>
  );
}

/** Whether the stages are what a model of progress learns from. */
function verdict(stages: Stage[], labels: string[]): string {
  if (!stages.length) return "Go to where a stage begins and press its number.";
  if (stages[0].start > 0) return `The steps before ${stages[0].start} have no stage yet; progress is learned from whole episodes.`;
  const order = stages.map((stage) => labels.indexOf(stage.label));
  if (order.some((place, n) => n > 0 && place < order[n - 1])) return "The stages are not in the task's order; progress is learned in that order.";
  return `${stages.length} stages cover the whole episode.`;
}

function NewLabel({ onLabel }: { onLabel: (label: string) => void }) {
  const [label, setLabel] = useState("");
  return (
    <form
      class="row"
      onSubmit={(event) => {
        event.preventDefault();
        if (label.trim()) onLabel(label.trim());
        setLabel("");
      }}
    >
      <input class="small" aria-label="A stage of another name" placeholder="another stage" value={label} onInput={(e) => setLabel(e.currentTarget.value)} />
    </form>
  );
}
