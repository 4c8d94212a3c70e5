// One run: success, curves, videos, its pages and its settings.
import { useMemo, useState } from "preact/hooks";
import { url } from "../api";
import type { PageProps } from "../main";
import { compared, type RunCurves } from "../parts/curves";
import { Interval } from "../parts/interval";
import { ago, query, short, to, useLoad } from "../parts/load";
import { Plot } from "../parts/plot";
import type { Evaluation, RunSummary } from "../parts/types";
import "../data.css";

const LOOK_MS = 5000;

type Success = { step: number[]; value: number[]; low: number[]; high: number[]; episodes: number };
type RunInfo = RunSummary & { config: Record<string, unknown>; training_success: Partial<Success>; evaluations: Evaluation[] };

export function Run({ words: [name] }: PageProps) {
  const { data, problem } = useLoad<RunInfo>(name ? `runs/run${query({ run: name })}` : null, LOOK_MS);
  return (
    <>
      <p class="quiet">
        <a href={to("runs")}>Runs</a> /
      </p>
      <h1>{name ?? "Run"}</h1>
      {problem && <p class="problem">{problem}</p>}
      {data && <Shown run={data} />}
    </>
  );
}

function Shown({ run }: { run: RunInfo }) {
  const { data } = useLoad<RunCurves>(run.has_curves ? `runs/curves${query({ run: run.name })}` : null, LOOK_MS);
  const charts = useMemo(() => (data ? compared(data).filter((chart) => !/^(return_(low|high|std)|success_rate)$/.test(chart.name)) : []), [data]);
  const file = (name: string) => url(`runs/files/${run.name.split("/").map(encodeURIComponent).join("/")}/${encodeURIComponent(name)}`);
  const success = run.training_success;
  const lines = useMemo(
    () => [
      { name: "success rate", values: success.value ?? [] },
      { name: "95 % low", values: success.low ?? [], dash: true },
      { name: "95 % high", values: success.high ?? [], dash: true },
    ],
    [JSON.stringify(success)],
  );
  return (
    <>
      <p class="quiet">
        {[run.algorithm, run.learns_from, run.seed !== null && `seed ${run.seed}`, run.step !== null && `step ${run.step}`, run.wall_s && `${short(run.wall_s)} s`, `last written ${ago(run.updated_s)}`]
          .filter(Boolean)
          .join(" · ")}
      </p>
      {run.evaluations.length > 0 && (
        <div class="card scroll" tabIndex={0} role="region" aria-label="Success">
          <h2>Success</h2>
          <table class="cards">
            <thead>
              <tr>
                <th>Judged by</th>
                <th>Task</th>
                <th>Success, 95 % interval</th>
                <th class="number">Return</th>
                <th class="number">Steps an episode</th>
              </tr>
            </thead>
            <tbody>
              {run.evaluations.map((one) => (
                <tr key={one.name}>
                  <td data-label="Judged by">{one.name}</td>
                  <td data-label="Task">{one.task}</td>
                  <td data-label="Success">
                    <Interval rate={one.success_rate} bounds={one.success_ci95} episodes={one.episodes} />
                  </td>
                  <td class="number" data-label="Return">{short(one.return_mean)}</td>
                  <td class="number" data-label="Steps">{short(one.mean_episode_steps)}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      {run.videos.length > 0 && (
        <section aria-label="Videos" class="videos">
          {run.videos.map((video) => (
            <figure key={video} class="card">
              <video src={file(video)} controls muted playsInline preload="metadata" aria-label={video} />
              <figcaption class="quiet">{video}</figcaption>
            </figure>
          ))}
        </section>
      )}
      {run.pages.map((page) => (
        <Page key={page} name={page} address={file(page)} />
      ))}
      {(charts.length > 0 || !!success.step?.length) && <h2 class="above">Curves</h2>}
      <div class="plots">
        {!!success.step?.length && (
          <div class="card">
            <Plot title={`success rate of ${success.episodes} episodes, 95 % interval`} x={success.step} lines={lines} band={[1, 2]} />
          </div>
        )}
        {charts.map((chart) => (
          <div key={chart.name} class="card">
            <Plot title={chart.name} x={chart.x} lines={chart.lines} />
          </div>
        ))}
      </div>
      {Object.keys(run.config).length > 0 && (
        <details class="card">
          <summary>Settings</summary>
          <pre class="mono">{JSON.stringify(run.config, null, 2)}</pre>
        </details>
      )}
    </>
  );
}

/** An audit or a report: it runs no script and reaches nothing of this page. */
function Page({ name, address }: { name: string; address: string }) {
  const [open, setOpen] = useState(false);
  return (
    <details class="card" onToggle={(e) => e.currentTarget.open && setOpen(true)}>
      <summary>{name}</summary>
      <p>
        <a href={address} target="_blank" rel="noreferrer">
          open alone
        </a>
      </p>
      {open && <iframe class="page" src={address} title={name} sandbox="allow-same-origin" />}
    </details>
  );
}
