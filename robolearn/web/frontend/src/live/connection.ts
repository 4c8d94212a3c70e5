// What the graph does now, as signals; one WebSocket that every page holds open, and the stop button's two ways out.
import { signal } from "@preact/signals";
import { get, post, signedIn, socketUrl } from "../api";

export type Safety = { state: "unknown" | "idle" | "moving" | "holding" | "stopping" | "stopped"; reason: string };
export type Health = {
  name: string;
  level: number | null;
  message: string;
  values: Record<string, string>;
  silent: boolean;
};
export type Episode = {
  running: boolean;
  episode_id: string;
  task: string;
  instruction: string;
  num_steps: number;
  judged: boolean;
  success: boolean;
  discarded: boolean;
  reason: string;
  held_steps: number;
};
export type State = {
  safety: Safety;
  loop: {
    states_hz: number;
    commands_hz: number;
    latency_p50_ms: number | null;
    latency_p99_ms: number | null;
    commander: string;
  };
  joints: string[];
  episode: Episode | null;
  recorder: {
    path: string;
    episodes: number;
    steps: number;
    recording: string;
    last_episode: string;
    control_hz: number;
  } | null;
  reward: Record<string, { value: number; kind: string; confidence: number }>;
  progress: { stages: string[]; stage: number; stage_progress: number; progress: number } | null;
  supervisor: Record<string, string> | null;
  nodes: Health[];
  links: [string, string, string][];
  offers: string[];
  cameras: string[];
  driving: { you: number; driver: number | null; refusal: string };
};
export type Row = (number | null)[];

/** null: not known yet; false: the server has no graph. */
export const hasGraph = signal<boolean | null>(null);
export const connected = signal(false);
export const state = signal<Partial<State>>({});
/** Bumped when rows came; the rows themselves are in `rows`, oldest first. */
export const rowCount = signal(0);
export const rows: Row[] = [];
export const roundTripMs = signal<number | null>(null);
/** When the stop button was pressed and the robot has not said yet that it holds. */
export const stopAsked = signal(false);
/** Whether the robot never said so. */
export const stopUnheard = signal(false);

const MOST_ROWS = 900;
const RETRY_MS = 700;
const ECHO_MS = 1000;
const CONFIRM_MS = 1500;
const SILENT_MS = 3000; // the server says something twenty times a second
let socket: WebSocket | null = null;
let heard = 0;
let watch = 0;
let echo = 0;
let last = -1;
/** The server's stamp of the newest state, which commands carry. */
export let seen = 0;

type Message = { t: number; changes: Partial<State>; last: number; rows: Row[] };
type Echo = { echo: number };

export async function connect(): Promise<void> {
  try {
    // Each time, for the server may be another one, which wants another token or has no graph.
    hasGraph.value = (await get<{ graph: boolean }>("live/graph", AbortSignal.timeout(SILENT_MS))).graph;
  } catch {
    if (signedIn.value) setTimeout(connect, RETRY_MS);
    return;
  }
  if (!hasGraph.value || socket) return;
  socket = new WebSocket(socketUrl("live/state"));
  heard = performance.now();
  echo = window.setInterval(() => send({ echo: performance.now() }), ECHO_MS);
  watch = window.setInterval(() => performance.now() - heard > SILENT_MS && lose(), SILENT_MS / 4);
  socket.onmessage = (event) => {
    heard = performance.now();
    take(JSON.parse(event.data as string) as Message | Echo);
  };
  socket.onclose = lose;
}

/** Of a link that is dead a browser learns after minutes: who is silent for three seconds is gone, and no state stays on the screen. */
function lose(): void {
  if (!socket) return;
  socket.onmessage = socket.onclose = null;
  socket.close();
  socket = null;
  clearInterval(echo);
  clearInterval(watch);
  connected.value = false;
  state.value = {};
  setTimeout(connect, RETRY_MS);
}

function take(message: Message | Echo): void {
  if ("echo" in message) {
    roundTripMs.value = performance.now() - message.echo;
    return;
  }
  connected.value = true;
  seen = message.t;
  if (message.rows.length) {
    if (message.last - message.rows.length !== last) rows.length = 0; // all that the server has kept
    for (const row of message.rows) {
      const before = rows.at(-1)?.[0];
      if (typeof before === "number" && (row[0] as number) <= before) rows.length = 0; // the clock began anew
      rows.push(row);
    }
    rows.splice(0, rows.length - MOST_ROWS);
    rowCount.value += message.rows.length;
  }
  last = message.last;
  if (Object.keys(message.changes).length) state.value = { ...state.value, ...message.changes };
  const safety = message.changes.safety?.state;
  if (safety === "stopped") stopAsked.value = stopUnheard.value = false;
}

export function send(message: object): boolean {
  if (socket?.readyState !== WebSocket.OPEN) return false;
  socket.send(JSON.stringify(message));
  return true;
}

/** Said over both ways: the socket may be half dead, and requests may queue behind pictures. */
export function stop(): void {
  if (state.value.safety?.state !== "stopped" || !connected.value) {
    stopAsked.value = true;
    setTimeout(() => {
      stopUnheard.value = stopAsked.value;
      stopAsked.value = false;
    }, CONFIRM_MS);
  }
  send({ stop: true });
  post("live/stop").catch(() => undefined);
}

export const ask = (what: string) => post<{ answer: string }>(`live/ask/${what}`);
