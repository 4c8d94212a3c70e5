// The pictures of one camera of an episode: fetched in groups, decoded ahead of the step that is shown.
import { ApiError, url } from "../api";
import { query } from "./load";

const GROUP = 32; // pictures in a request
const GROUPS_AHEAD = 2;
const DECODED_AHEAD = 10;
const KEPT_DECODED = 64;
const KEPT_GROUPS = 64;

export class Pictures {
  private groups = new Map<number, Promise<(Blob | null)[]>>();
  private decoded = new Map<number, Promise<ImageBitmap | null>>();
  private stopped = new AbortController();

  constructor(
    private dataset: string,
    private episode: string,
    readonly camera: string,
    readonly length: number,
    private version: string,
  ) {}

  /** The picture of a step; null where the camera had none. */
  at(step: number): Promise<ImageBitmap | null> {
    let found = this.decoded.get(step);
    if (!found) {
      found = this.group(Math.floor(step / GROUP)).then((blobs) => {
        const blob = blobs[step % GROUP];
        return blob ? createImageBitmap(blob) : null;
      });
      found.catch(() => this.decoded.delete(step)); // asked again the next time
    }
    this.decoded.delete(step); // to the end of the order
    this.decoded.set(step, found);
    for (const old of this.decoded.keys()) {
      if (this.decoded.size <= KEPT_DECODED) break;
      this.decoded.get(old)?.then((bitmap) => bitmap?.close(), () => undefined);
      this.decoded.delete(old);
    }
    return found;
  }

  /** Begin with what will be wanted after this step; while it jumps, the next ones are not known, and not decoded. */
  ahead(step: number, direction: 1 | -1, jumps: boolean) {
    for (let n = 1; n <= DECODED_AHEAD && !jumps; n++) {
      const next = step + n * direction;
      if (next >= 0 && next < this.length && !this.decoded.has(next)) this.at(next).catch(() => undefined);
    }
    for (let n = 1; n <= GROUPS_AHEAD; n++) {
      const next = Math.floor(step / GROUP) + n * direction;
      if (next >= 0 && next * GROUP < this.length) this.group(next).catch(() => undefined);
    }
  }

  close() {
    this.stopped.abort();
    for (const one of this.decoded.values()) one.then((bitmap) => bitmap?.close(), () => undefined);
    this.decoded.clear();
  }

  private group(number: number): Promise<(Blob | null)[]> {
    let found = this.groups.get(number);
    if (!found) {
      found = this.fetch(number * GROUP);
      this.groups.set(number, found);
      found.catch(() => this.groups.delete(number));
      const oldest = this.groups.keys().next().value;
      if (this.groups.size > KEPT_GROUPS && oldest !== undefined) this.groups.delete(oldest);
    }
    return found;
  }

  private async fetch(first: number): Promise<(Blob | null)[]> {
    const { dataset, episode, camera, version } = this;
    const path = `datasets/pictures${query({ dataset, episode, camera, first, count: GROUP, version })}`;
    const response = await fetch(url(path), { signal: this.stopped.signal });
    if (!response.ok) {
      const answer = await response.json().catch(() => null);
      throw new ApiError(response.status, answer?.error ?? response.statusText);
    }
    const body = await response.arrayBuffer();
    const head = new DataView(body);
    const count = head.getUint32(0, true);
    let at = 4 + 4 * count;
    return Array.from({ length: count }, (_, n) => {
      const size = head.getUint32(4 + 4 * n, true);
      at += size;
      return size ? new Blob([new Uint8Array(body, at - size, size)], { type: "image/jpeg" }) : null;
    });
  }
}
