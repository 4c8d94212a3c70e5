// All datasets; and with a name in the address, the episodes of one.
import { useState } from "preact/hooks";
import { post } from "../api";
import type { PageProps } from "../main";
import { Episodes } from "../parts/episodes";
import { to, useLoad } from "../parts/load";
import { NewDataset } from "../parts/new-dataset";
import type { DatasetSummary } from "../parts/types";
import "../data.css";

export function Datasets({ words }: PageProps) {
  return words.length ? <Episodes key={words[0]} dataset={words[0]} /> : <AllDatasets />;
}

function AllDatasets() {
  const { data, problem, reload } = useLoad<DatasetSummary[]>("datasets");
  const [chosen, setChosen] = useState<string[]>([]);
  const [merging, setMerging] = useState(false);
  const [said, setSaid] = useState("");
  const choose = (name: string, on: boolean) => setChosen(on ? [...chosen, name] : chosen.filter((one) => one !== name));
  return (
    <>
      <div class="spread">
        <h1>Datasets</h1>
        <button disabled={chosen.length < 2} onClick={() => setMerging(true)}>
          Merge {chosen.length > 1 ? chosen.length : "several"}
        </button>
      </div>
      <p class="quiet">Choose two or more to merge them into a new one; nothing of theirs changes.</p>
      {problem && <p class="problem">{problem}</p>}
      <p role="status">{said}</p>
      {data && !data.length && (
        <p class="card">
          There is no dataset below the data folders. Record one on the Live page, or with{" "}
          <code>robolearn collect reach-v1 --episodes 5 --out runs/reach.zarr</code>
        </p>
      )}
      {data && data.length > 0 && (
        <div class="scroll card" tabIndex={0} role="region" aria-label="List of datasets">
          <table class="cards">
            <thead>
              <tr>
                <th>
                  <span class="hidden">Chosen</span>
                </th>
                <th>Dataset</th>
                <th class="number">Episodes</th>
                <th class="number">Steps</th>
                <th>Success</th>
                <th>Tasks</th>
                <th>Robot</th>
                <th>Open</th>
              </tr>
            </thead>
            <tbody>
              {data.map((one) => (
                <tr key={one.name}>
                  <td>
                    <input
                      type="checkbox"
                      aria-label={`Choose ${one.name}`}
                      disabled={!!one.problem}
                      checked={chosen.includes(one.name)}
                      onChange={(e) => choose(one.name, e.currentTarget.checked)}
                    />
                  </td>
                  {one.problem ? (
                    <td colSpan={7}>
                      <strong>{one.name}</strong>
                      <p class="problem">{one.problem}</p>
                    </td>
                  ) : (
                    <>
                      <td data-label="Dataset">
                        <a href={to("datasets", one.name)}>{one.name}</a>
                        {one.unfinished > 0 && <span class="warn"> {one.unfinished} unfinished</span>}
                      </td>
                      <td class="number" data-label="Episodes">{one.episodes}</td>
                      <td class="number" data-label="Steps">{one.steps}</td>
                      <td data-label="Success">
                        <span class="good">{one.successes} ✓</span> <span class="problem">{one.failures} ✗</span>
                      </td>
                      <td data-label="Tasks">{one.tasks.join(", ")}</td>
                      <td data-label="Robot">{one.robot}</td>
                      <td data-label="Open">
                        <span class="row">
                          <a href={to("annotate", one.name)}>annotate</a>
                          <a href={to("preferences", one.name)}>compare</a>
                        </span>
                      </td>
                    </>
                  )}
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      {merging && (
        <NewDataset
          title={`Merge ${chosen.join(", ")}`}
          onClose={() => setMerging(false)}
          onName={async (out) => {
            const made = await post<{ episodes: string[] }>("datasets/merge", { datasets: chosen, out });
            setSaid(`${out} has ${made.episodes.length} episodes`);
            setChosen([]);
            reload();
          }}
        />
      )}
    </>
  );
}
