import type { PageProps } from "../main";

export function Run(_: PageProps) {
  return <h1>Run</h1>;
}
