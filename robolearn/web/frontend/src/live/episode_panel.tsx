// The episode that runs: task, instruction, what the reward models say; starting, ending, marking it.
import { useState } from "preact/hooks";
import { ask, state } from "./connection";

export function EpisodePanel() {
  const { episode, recorder, offers = [], supervisor, safety, progress, reward = {} } = state.value;
  const [problem, setProblem] = useState("");
  const [busy, setBusy] = useState("");
  const running = episode?.running ?? false;
  const waits = supervisor?.waits_for_operator === "True";
  const request = (what: string) => () => {
    setBusy(what);
    ask(what)
      .then(() => setProblem(""), (error: Error) => setProblem(error.message))
      .finally(() => setBusy(""));
  };
  const button = (what: string, text: string, when: boolean, kind = "") => (
    <button class={kind} disabled={!when || busy !== "" || !offers.includes(what)} onClick={request(what)}>
      {text}
    </button>
  );
  const next = running ? null : supervisor; // what it will ask for
  const kept = !running && (recorder?.episodes ?? 0) > 0;
  return (
    <section class="card" aria-labelledby="episode">
      <div class="spread">
        <h2 id="episode">Episode</h2>
        <span class={running ? "tag on" : "tag"} role="status">
          {running ? (recorder?.recording ? "Recording" : "Running") : waits ? "Ready to start" : "Between episodes"}
        </span>
      </div>
      <p class="instruction">{next?.instruction || episode?.instruction || "No instruction yet"}</p>
      <p class="quiet">
        {next?.task || episode?.task || "no task"}
        {supervisor && ` · ${supervisor.episodes_done} of ${supervisor.episodes} episodes done`}
        {recorder && ` · ${recorder.episodes} kept in ${recorder.path.split("/").at(-1)}`}
      </p>
      <div class="row actions">
        {button("start", "Start", !running && waits && safety?.state !== "stopped", "primary")}
        {button("success", "Success", running)}
        {button("failure", "Failure", running)}
        {button("discard", "Discard", running, "danger")}
      </div>
      {!running && episode && (
        <div class="row">
          <span>
            Last: {episode.discarded ? "discarded" : !episode.judged ? "not judged" : episode.success ? "success" : "no success"},{" "}
            <span class="number">{episode.num_steps}</span> steps{episode.reason && `; ${episode.reason}`}
          </span>
          {button("mark_success", "Mark success", kept)}
          {button("mark_failure", "Mark failure", kept)}
          {button("discard_last", "Discard it", kept, "danger")}
        </div>
      )}
      {problem && (
        <p class="problem" role="alert">
          {problem}
        </p>
      )}
      {progress && (
        <div class="stages">
          <label>
            Progress <progress max={1} value={progress.progress} /> <span class="number">{Math.round(progress.progress * 100)} %</span>
          </label>
          <ol>
            {progress.stages.map((name, i) => (
              <li key={name} aria-current={i === progress.stage ? "step" : undefined}>
                {name}
              </li>
            ))}
          </ol>
        </div>
      )}
      {Object.entries(reward).map(([model, value]) => (
        <p key={model}>
          <strong>{model}</strong> {value.kind} <span class="number">{value.value.toFixed(3)}</span>{" "}
          <span class="quiet">confidence {value.confidence.toFixed(2)}</span>
        </p>
      ))}
    </section>
  );
}
