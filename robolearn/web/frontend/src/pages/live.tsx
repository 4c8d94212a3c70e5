// Watching and driving what the graph does now.
import { useEffect, useState } from "preact/hooks";
import { Camera } from "../live/camera";
import { DrivePanel } from "../live/drive_panel";
import { EpisodePanel } from "../live/episode_panel";
import { GraphPanel } from "../live/graph_panel";
import { connected, hasGraph, roundTripMs, rowCount, rows, state } from "../live/connection";
import type { PageProps } from "../main";
import { LivePlot } from "../live/live_plot"
import { COLOURS } from "../parts/plot";
import { SAFETY_WORDS } from "../live/stop";

const PLOT_MS = 100;

export function Live(_: PageProps) {
  if (hasGraph.value === false) {
    return (
      <section class="card narrow">
        <h1>Live</h1>
        <p>This page was started without a graph. The other pages work.</p>
        <p class="quiet">
          To see a robot or a twin: <code>robolearn web</code>, or <code>robolearn record --twin pick_place-v1 --teleop web ...</code>
        </p>
      </section>
    );
  }
  if (!connected.value) {
    return (
      <section class="card narrow">
        <h1>Live</h1>
        <p>No connection to the server: what the robot does is not known. It is tried again and again.</p>
      </section>
    );
  }
  const cameras = state.value.cameras ?? [];
  return (
    <div class="live">
      <h1 class="hidden">Live</h1>
      <section class="cameras" aria-label="Cameras">
        {cameras.length ? cameras.map((name) => <Camera key={name} name={name} />) : <p class="card quiet">No camera publishes pictures.</p>}
      </section>
      <div class="side">
        <EpisodePanel />
        <DrivePanel />
        <Figures />
      </div>
      <section class="card curves" aria-label="Plots">
        <Plots />
      </section>
      <div class="below">
        <GraphPanel />
      </div>
    </div>
  );
}

function Figures() {
  const { loop, safety } = state.value;
  const number = (value: number | null | undefined, digits = 1) => (value == null ? "-" : value.toFixed(digits));
  return (
    <section class="card" aria-labelledby="robot">
      <h2 id="robot">Robot</h2>
      <p>
        <strong>{SAFETY_WORDS[safety?.state ?? "unknown"]}</strong>
        {safety?.reason && <span class="quiet">: {safety.reason}</span>}
      </p>
      <dl class="figures">
        <Figure name="Control rate" value={number(loop?.states_hz)} unit="Hz" />
        <Figure name="Commands" value={number(loop?.commands_hz)} unit="Hz" />
        <Figure name="Latency p50" value={number(loop?.latency_p50_ms)} unit="ms" />
        <Figure name="Latency p99" value={number(loop?.latency_p99_ms)} unit="ms" />
        <Figure name="Commanded by" value={loop?.commander || "-"} />
        <Figure name="Page" value={number(roundTripMs.value, 0)} unit="ms" />
      </dl>
    </section>
  );
}

function Figure({ name, value, unit = "" }: { name: string; value: string; unit?: string }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd class="number">
        {value} <span class="quiet">{unit}</span>
      </dd>
    </div>
  );
}

function Plots() {
  const joints = state.value.joints ?? [];
  const [, setCount] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => setCount(rowCount.peek()), PLOT_MS);
    return () => clearInterval(timer);
  }, []);
  if (!joints.length) return <p class="quiet">No joint states yet.</p>;
  const newest = (rows.at(-1)?.[0] ?? 0) as number;
  const column = (i: number) => rows.map((row) => row[i] ?? null);
  const time = rows.map((row) => (row[0] as number) - newest);
  const hasReward = rows.some((row) => row[1 + 2 * joints.length] != null);
  return (
    <>
      <h2>Joints, last half minute [s]</h2>
      <div class="plotgrid">
        {joints.map((joint, i) => (
          <LivePlot
            key={joint}
            title={joint}
            unit="rad"
            height={120}
            lines={[
              { label: "measured", color: COLOURS[i % COLOURS.length] },
              { label: "commanded", color: "#8a94a0", dashed: true },
            ]}
            data={[time, column(1 + i), column(1 + joints.length + i)]}
          />
        ))}
        {hasReward && (
          <LivePlot title="reward" height={120} lines={[{ label: "newest", color: COLOURS[3] }]} data={[time, column(1 + 2 * joints.length)]} />
        )}
      </div>
    </>
  );
}
