// Talking to the server: JSON over the same origin, nothing else.
import { signal } from "@preact/signals";

/** Whether the server knows this browser; false asks for the token. */
export const signedIn = signal<boolean | null>(null);

export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
  }
}

async function ask<T>(method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<T> {
  const init: RequestInit = { method, signal };
  if (body !== undefined) {
    init.headers = { "Content-Type": "application/json" };
    init.body = JSON.stringify(body);
  }
  let response: Response;
  try {
    response = await fetch(`./api/${path}`, init);
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new ApiError(0, "the server does not answer; is `robolearn web` still running?");
  }
  if (response.status === 401) signedIn.value = false;
  const answer: unknown = await response.json().catch(() => null);
  if (!response.ok) throw new ApiError(response.status, explain(answer) ?? `${response.status} ${response.statusText}`);
  return answer as T;
}

function explain(answer: unknown): string | null {
  if (answer && typeof answer === "object") {
    if ("error" in answer) return String(answer.error);
    if ("detail" in answer) return JSON.stringify(answer.detail);
  }
  return null;
}

export const get = <T>(path: string, signal?: AbortSignal) => ask<T>("GET", path, undefined, signal);
export const post = <T>(path: string, body: unknown = {}) => ask<T>("POST", path, body);
export const put = <T>(path: string, body: unknown) => ask<T>("PUT", path, body);
export const remove = <T>(path: string) => ask<T>("DELETE", path);

/** The address of something that the browser loads by itself, as a picture. */
export const url = (path: string) => `./api/${path}`;

export function socketUrl(path: string): string {
  const address = new URL(url(path), location.href);
  address.protocol = address.protocol.replace("http", "ws");
  address.hash = "";
  return address.href;
}

/** Show the token of the link (`#token=...`) once; afterwards the cookie tells who we are. */
export async function signIn(token: string | null): Promise<void> {
  if (token) await post("session", { token });
  signedIn.value = (await get<{ signed_in: boolean }>("session")).signed_in;
}
