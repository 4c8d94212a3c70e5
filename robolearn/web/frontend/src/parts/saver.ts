// Saves at once and never forgets: what the server has not acknowledged stays in the browser and is tried again.
import { signal } from "@preact/signals";
import { ApiError, put } from "../api";

type Pending = { path: string; body: unknown };

const PREFIX = "robolearn.pending.";
const RETRY_MS = 1500;

/** How saving stands, in words; empty: all is saved. */
export const waiting = signal("");
/** What the server refused for good, in words. */
export const refused = signal("");

const busy = new Set<string>();

/** Put `body` to `path`; of several with one key the newest counts. Resolves when it is saved, or is refused. */
export async function save(key: string, path: string, body: unknown): Promise<void> {
  localStorage.setItem(PREFIX + key, JSON.stringify({ path, body } satisfies Pending));
  refused.value = "";
  await flush(key, true);
}

/** Send what an earlier visit could not; of datasets that another server showed nothing is told. */
export function sendLeftovers() {
  for (const name of Object.keys(localStorage)) if (name.startsWith(PREFIX)) flush(name.slice(PREFIX.length));
}

async function flush(key: string, told = false): Promise<void> {
  if (busy.has(key)) return;
  busy.add(key);
  let text: string | null;
  while ((text = localStorage.getItem(PREFIX + key)) !== null) {
    if (!waiting.value) waiting.value = "saving ...";
    try {
      const { path, body } = JSON.parse(text) as Pending;
      await put(path, body);
    } catch (error) {
      const status = error instanceof ApiError ? error.status : -1;
      if (status === 404) {
        if (told) refused.value = `kept in this browser until the dataset is here again: ${(error as Error).message}`;
        break;
      }
      if (status === 0 || status === 401 || status === 409 || status >= 500) {
        waiting.value = `not saved yet, kept in this browser: ${(error as Error).message}`;
        await new Promise((done) => setTimeout(done, RETRY_MS));
        continue;
      }
      refused.value = (error as Error).message;
    }
    if (localStorage.getItem(PREFIX + key) === text) localStorage.removeItem(PREFIX + key);
  }
  busy.delete(key);
  if (!busy.size) waiting.value = "";
}
