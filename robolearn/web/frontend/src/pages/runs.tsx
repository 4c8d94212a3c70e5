// All runs, and chosen ones beside each other. `#/runs?run=a&run=b` compares a and b.
import { useMemo } from "preact/hooks";
import type { PageProps } from "../main";
import { compared, type RunCurves } from "../parts/curves";
import { Interval } from "../parts/interval";
import { ago, query, short, to, useLoad } from "../parts/load";
import { Plot } from "../parts/plot";
import type { RunSummary } from "../parts/types";
import "../data.css";

const LOOK_MS = 5000;

export function Runs({ query: asked }: PageProps) {
  const { data, problem } = useLoad<RunSummary[]>("runs", LOOK_MS);
  const chosen = asked.getAll("run");
  const choose = (name: string, on: boolean) => {
    const next = on ? [...chosen, name] : chosen.filter((one) => one !== name);
    location.replace(`#/runs${next.length ? query({ run: next }) : ""}`);
  };
  return (
    <>
      <h1>Runs</h1>
      <p class="quiet">Choose runs to lay their curves over each other.</p>
      {problem && <p class="problem">{problem}</p>}
      {data?.length === 0 && (
        <p class="card">
          There is no run below the runs folder yet. Begin one: <code>robolearn train bc --dataset demos.zarr --out runs/bc</code>
        </p>
      )}
      {data && data.length > 0 && (
        <div class="scroll card" tabIndex={0} role="region" aria-label="List of runs">
          <table class="cards">
            <thead>
              <tr>
                <th>
                  <span class="hidden">Chosen</span>
                </th>
                <th>Run</th>
                <th>Algorithm</th>
                <th>Learns from</th>
                <th class="number">Seed</th>
                <th class="number">Step</th>
                <th>Success, 95 % interval</th>
                <th>Last written</th>
                <th>Pages</th>
              </tr>
            </thead>
            <tbody>
              {data.map((run) => (
                <tr key={run.name}>
                  <td>
                    <input
                      type="checkbox"
                      aria-label={`Compare ${run.name}`}
                      disabled={!run.has_curves}
                      checked={chosen.includes(run.name)}
                      onChange={(e) => choose(run.name, e.currentTarget.checked)}
                    />
                  </td>
                  <td data-label="Run">
                    <a href={to("run", run.name)}>{run.name}</a>
                    {run.problem && <p class="problem">{run.problem}</p>}
                  </td>
                  <td data-label="Algorithm">{run.algorithm}</td>
                  <td data-label="Learns from">{run.learns_from}</td>
                  <td class="number" data-label="Seed">{run.seed}</td>
                  <td class="number" data-label="Step">{run.step}</td>
                  <td data-label="Success">
                    {run.evaluation && (
                      <Interval rate={run.evaluation.success_rate} bounds={run.evaluation.success_ci95} episodes={run.evaluation.episodes} />
                    )}
                  </td>
                  <td data-label="Written">{ago(run.updated_s)}</td>
                  <td data-label="Pages">{[...run.pages, ...run.videos].join(", ")}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      {chosen.length > 0 && <Comparison runs={chosen} all={data ?? []} />}
    </>
  );
}

function Comparison({ runs, all }: { runs: string[]; all: RunSummary[] }) {
  const { data, problem } = useLoad<RunCurves>(`runs/curves${query({ run: runs })}`, LOOK_MS);
  const charts = useMemo(() => (data ? compared(data) : []), [data]);
  const judged = all.filter((run) => runs.includes(run.name) && run.evaluation);
  return (
    <section aria-label="Comparison">
      <h2 class="above">Compared: {runs.join(", ")}</h2>
      {problem && <p class="problem">{problem}</p>}
      {judged.length > 1 && (
        <table class="card">
          <tbody>
            {judged.map((run) => (
              <tr key={run.name}>
                <th scope="row">{run.name}</th>
                <td>
                  <Interval rate={run.evaluation!.success_rate} bounds={run.evaluation!.success_ci95} episodes={run.evaluation!.episodes} />
                </td>
                <td class="number">{run.evaluation!.return_mean != null && `return ${short(run.evaluation!.return_mean)}`}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
      <div class="plots">
        {charts.map((chart) => (
          <div key={chart.name} class="card">
            <Plot title={chart.name} x={chart.x} lines={chart.lines} />
          </div>
        ))}
      </div>
    </section>
  );
}
