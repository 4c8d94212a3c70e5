// What a page shows of the server's answers.
import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { get } from "../api";

export type Loaded<T> = { data: T | null; problem: string; reload: () => void };

/** The answer of a path, anew when the path changes, on `reload`, and every `everyMs` while the page is seen. */
export function useLoad<T>(path: string | null, everyMs = 0): Loaded<T> {
  const [data, setData] = useState<T | null>(null);
  const [problem, setProblem] = useState("");
  const [asked, setAsked] = useState(0);
  useEffect(() => {
    if (path === null) return;
    const stop = new AbortController();
    let before = "";
    let busy = false;
    const take = (answer: T) => {
      const text = everyMs ? JSON.stringify(answer) : "";
      if (!everyMs || text !== before) setData(answer); // what did not change is not drawn anew
      before = text;
      setProblem("");
    };
    const load = async () => {
      if (busy) return; // a slow server is not asked twice
      busy = true;
      await get<T>(path, stop.signal).then(
        take,
        (error: Error) => error.name !== "AbortError" && setProblem(error.message),
      );
      busy = false;
    };
    load();
    const timer = everyMs ? setInterval(() => document.visibilityState === "visible" && load(), everyMs) : 0;
    return () => (stop.abort(), clearInterval(timer));
  }, [path, asked, everyMs]);
  return { data, problem, reload: useCallback(() => setAsked((n) => n + 1), []) };
}

/** `?a=1&b=2` of what is not empty. */
export function query(values: Record<string, string | number | string[] | null | undefined>): string {
  const pairs = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== null && one !== undefined && one !== "") pairs.append(name, String(one));
    }
  }
  return `?${pairs}`;
}

/** The address of a page of ours. */
export const to = (...words: string[]) => `#/${words.map(encodeURIComponent).join("/")}`;

/** Keys as shortcuts, but not while somebody writes. */
export function useKeys(keys: Record<string, () => void>) {
  const newest = useRef(keys);
  newest.current = keys; // at once, for the next key may come before an effect does
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      const at = event.target as HTMLElement;
      const writes = at.closest("textarea, select, dialog, input:not([type=range]):not([type=checkbox])");
      if (writes || event.ctrlKey || event.metaKey || event.altKey) return;
      const presses = at.closest("button, a, summary, input[type=checkbox]");
      const slides = at.matches("input[type=range]") && event.key.startsWith("Arrow") && !event.shiftKey;
      if (slides || (presses && (event.key === " " || event.key === "Enter"))) return;
      const known = newest.current;
      const act = known[event.shiftKey ? `Shift+${event.key}` : event.key] ?? known[event.key.toLowerCase()];
      if (!act) return;
      event.preventDefault();
      if (!event.repeat || event.key.startsWith("Arrow")) act(); // a key that is held answers once
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, []);
}

export const percent = (share: number) => `${Math.round(share * 100)} %`;

/** A number as people read it: 4 digits, no needless zeros. */
export const short = (value: number | null | undefined) =>
  value === null || value === undefined ? "" : String(Number(value.toPrecision(4)));

/** "12 s ago" of a time [s since 1970]. */
export function ago(seconds: number): string {
  const age = Math.max(Date.now() / 1000 - seconds, 0);
  if (age < 90) return `${Math.round(age)} s ago`;
  if (age < 5400) return `${Math.round(age / 60)} min ago`;
  if (age < 129600) return `${Math.round(age / 3600)} h ago`;
  return new Date(seconds * 1000).toLocaleDateString();
}
