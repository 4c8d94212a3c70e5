// The episodes of a dataset: search, choose, edit.
import { useEffect, useState } from "preact/hooks";
import { post } from "../api";
import { Dialog } from "./dialog";
import { query, to, useLoad } from "./load";
import { brief, Success, TagDialog } from "./edits";
import { NewDataset } from "./new-dataset";
import { DatasetStatistics } from "./statistics";
import type { Row } from "./types";

type Answer = {
  episodes: number;
  found: string[];
  found_steps: number;
  rows: Row[];
  choices: { task: string[]; operator: string[]; stage: string[]; tag: string[] };
  last_edit: string;
  control_hz: number;
};

const PAGE = 100;
const SUCCESS = ["success", "failure", "unknown"];
const EMPTY = { text: "", task: "", success: "", stage: "", operator: "", tag: "", min_steps: "", max_steps: "" };

export function Episodes({ dataset }: { dataset: string }) {
  const [filter, setFilter] = useState(EMPTY);
  const [first, setFirst] = useState(0);
  const [chosen, setChosen] = useState<Set<string>>(new Set());
  const [asking, setAsking] = useState<"delete" | "tag" | "split" | null>(null);
  const [said, setSaid] = useState("");
  const [busy, setBusy] = useState(false); // an edit of many episodes takes seconds
  const [problem, setProblem] = useState("");
  const [statistics, setStatistics] = useState(false);
  const loaded = useLoad<Answer>(`datasets/episodes${query({ dataset, ...filter, first, count: PAGE })}`);
  const found = loaded.data?.found ?? [];
  useEffect(() => setChosen(new Set()), [dataset]);

  const set = (name: keyof typeof EMPTY) => (e: Event) => {
    setFilter({ ...filter, [name]: (e.currentTarget as HTMLInputElement).value });
    setFirst(0);
  };
  const choose = (ids: string[], on: boolean) => {
    const next = new Set(chosen);
    ids.forEach((id) => (on ? next.add(id) : next.delete(id)));
    setChosen(next);
  };
  const change = async (what: () => Promise<string>) => {
    setAsking(null);
    setBusy(true);
    setSaid("working on it ...");
    try {
      setSaid(await what());
      setProblem("");
    } catch (error) {
      setSaid("");
      setProblem((error as Error).message);
    }
    setBusy(false);
    loaded.reload();
  };
  const edit = (action: string, episodes: string[], more: object = {}) =>
    change(async () => {
      await post("datasets/edit", { dataset, action, episodes, ...more });
      if (action === "delete") setChosen(new Set());
      return `${action}: ${episodes.length} episodes`;
    });
  const undo = () =>
    change(async () => {
      const answer = await post<{ undone: string }>("datasets/undo", { dataset, expected: loaded.data?.last_edit });
      return `taken back: ${brief(answer.undone)}`;
    });
  const choice = (name: "task" | "success" | "stage" | "operator" | "tag", options: string[]) => (
    <label>
      {name}{" "}
      <select value={filter[name]} onChange={set(name)}>
        <option value="">any</option>
        {options.map((one) => (
          <option key={one}>{one}</option>
        ))}
      </select>
    </label>
  );

  const data = loaded.data;
  const ids = found.filter((id) => chosen.has(id));
  const last = data?.last_edit ?? "";
  return (
    <>
      <p class="quiet">
        <a href={to("datasets")}>Datasets</a> /
      </p>
      <div class="spread">
        <h1>{dataset}</h1>
        <div class="row">
          <a class="button" href={to("annotate", dataset)}>
            Annotate
          </a>
          <a class="button" href={to("preferences", dataset)}>
            Compare moments
          </a>
        </div>
      </div>
      {(problem || loaded.problem) && (
        <p class="problem" role="alert">
          {problem || loaded.problem}
        </p>
      )}
      {data && (
        <>
          <form class="card filters" role="search" aria-label="Episodes" onSubmit={(e) => e.preventDefault()}>
            <label class="wide">
              search{" "}
              <input type="search" value={filter.text} placeholder="words of id, task, reason, tag" onInput={set("text")} />
            </label>
            {choice("task", data.choices.task)}
            {choice("success", SUCCESS)}
            {choice("stage", data.choices.stage)}
            {choice("operator", data.choices.operator)}
            {choice("tag", data.choices.tag)}
            <label>
              steps from <input type="number" min="0" value={filter.min_steps} onInput={set("min_steps")} />
            </label>
            <label>
              to <input type="number" min="0" value={filter.max_steps} onInput={set("max_steps")} />
            </label>
            <button type="button" onClick={() => (setFilter(EMPTY), setFirst(0))}>
              Clear
            </button>
          </form>
          <details class="card" onToggle={(e) => e.currentTarget.open && setStatistics(true)}>
            <summary>Statistics: lengths, actions, coverage, TQ and SACo</summary>
            {statistics && <DatasetStatistics dataset={dataset} />}
          </details>
          <div class="spread tools">
            <p role="status">
              {found.length} of {data.episodes} episodes, {data.found_steps} steps,{" "}
              {(data.found_steps / data.control_hz / 60).toFixed(1)} min{said && ` · ${said}`}
            </p>
            <div class="row">
              <button disabled={!found.length} onClick={() => choose(found, ids.length < found.length)}>
                {found.length && ids.length === found.length ? "Choose none" : "Choose all found"}
              </button>
              <button class="danger" disabled={busy || !ids.length} onClick={() => setAsking("delete")}>
                Delete {ids.length || ""}
              </button>
              <button disabled={busy || !ids.length} onClick={() => setAsking("tag")}>
                Tag {ids.length || ""}
              </button>
              <button disabled={busy || !ids.length} onClick={() => setAsking("split")}>
                Copy {ids.length || ""} to a new dataset
              </button>
              <button disabled={busy || !last} onClick={undo} title={last}>
                Undo {brief(last)}
              </button>
            </div>
          </div>
          {!found.length && (
            <p class="card quiet">
              {data.episodes ? "No episode is like that." : "This dataset has no episodes yet: `robolearn record` and `collect` add some."}
            </p>
          )}
          <div class="scroll card" tabIndex={0} role="region" aria-label="Episodes" hidden={!found.length}>
            <table class="cards">
              <thead>
                <tr>
                  <th>
                    <span class="hidden">Chosen</span>
                  </th>
                  <th class="number">#</th>
                  <th>Episode</th>
                  <th>Success</th>
                  <th class="number">Steps</th>
                  <th>Task</th>
                  <th>Operator</th>
                  <th>Stages</th>
                  <th>Tags</th>
                  <th>How it ended</th>
                </tr>
              </thead>
              <tbody>
                {data.rows.map((row) => (
                  <tr key={row.id}>
                    <td>
                      <input
                        type="checkbox"
                        aria-label={`Choose episode ${row.index}`}
                        checked={chosen.has(row.id)}
                        onChange={(e) => choose([row.id], e.currentTarget.checked)}
                      />
                    </td>
                    <td class="number" data-label="#">{row.index}</td>
                    <td data-label="Episode">
                      <a class="mono" href={to("episode", dataset, row.id)}>
                        {row.id}
                      </a>
                    </td>
                    <td data-label="Success">
                      <Success value={row.success} />
                    </td>
                    <td class="number" data-label="Steps">{row.length}</td>
                    <td data-label="Task">{row.task}</td>
                    <td data-label="Operator">{row.operator}</td>
                    <td data-label="Stages">{row.stages.join(", ")}</td>
                    <td data-label="Tags">
                      {row.tag_names.map((tag) => (
                        <span key={tag} class="tag">
                          {tag}
                        </span>
                      ))}
                    </td>
                    <td data-label="Ended">{row.reason || (row.terminated ? "terminated" : row.truncated ? "truncated" : "")}</td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
          {found.length > PAGE && (
            <nav class="row" aria-label="Pages of episodes">
              <button disabled={first === 0} onClick={() => setFirst(Math.max(first - PAGE, 0))}>
                Earlier
              </button>
              <span class="number">
                {first + 1} to {Math.min(first + PAGE, found.length)} of {found.length}
              </span>
              <button disabled={first + PAGE >= found.length} onClick={() => setFirst(first + PAGE)}>
                Later
              </button>
            </nav>
          )}
        </>
      )}
      {asking === "delete" && (
        <Dialog title={`Delete ${ids.length} episodes?`} act="Delete" danger onAct={() => edit("delete", ids)} onClose={() => setAsking(null)}>
          <p>They are hidden, and Undo brings them back, until `robolearn dataset gc` frees their room.</p>
        </Dialog>
      )}
      {asking === "tag" && <TagDialog count={ids.length} onTag={(tags) => edit("tag", ids, { tags })} onClose={() => setAsking(null)} />}
      {asking === "split" && (
        <NewDataset
          title={`Copy ${ids.length} episodes to a new dataset`}
          onClose={() => setAsking(null)}
          onName={async (out) => {
            const made = await post<{ episodes: string[] }>("datasets/split", { dataset, episodes: ids, out });
            setSaid(`${out} has ${made.episodes.length} episodes`);
          }}
        />
      )}
    </>
  );
}
