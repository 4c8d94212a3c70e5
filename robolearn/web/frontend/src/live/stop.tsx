// The stop button and the robot's safety state, on every page.
import { ask, connected, hasGraph, state, stop, stopAsked, stopUnheard } from "./connection";
import { useState } from "preact/hooks";

export const SAFETY_WORDS: Record<string, string> = {
  unknown: "No robot",
  idle: "Idle",
  moving: "Moving",
  holding: "Holding",
  stopping: "Stopping",
  stopped: "Stopped",
};

addEventListener("keydown", (event) => {
  if (event.key === "Escape" && hasGraph.value && !event.repeat) stop();
});

export function StopBar() {
  const [problem, setProblem] = useState("");
  if (!hasGraph.value) return null;
  const safety = state.value.safety;
  const kind = !connected.value ? "lost" : stopAsked.value ? "stopping" : (safety?.state ?? "unknown");
  const resume = () => ask("resume").then(() => setProblem(""), (error: Error) => setProblem(error.message));
  return (
    <div class="stopbar">
      <p class={`safety ${kind}`} role="status">
        <span class="dot" aria-hidden="true" />
        <span>{kind === "lost" ? "No connection" : SAFETY_WORDS[kind]}</span>
      </p>
      {kind === "stopped" && <button onClick={resume}>Resume</button>}
      {problem && <span class="problem" role="alert">{problem}</span>}
      {stopUnheard.value && <strong class="problem" role="alert">No robot has confirmed the stop</strong>}
      <button class="stop" onClick={stop} aria-keyshortcuts="Escape" title="Stop the robot (Esc)">
        Stop
      </button>
    </div>
  );
}
