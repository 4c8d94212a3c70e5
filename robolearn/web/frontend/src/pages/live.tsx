import type { PageProps } from "../main";

export function Live(_: PageProps) {
  return <h1>Live</h1>;
}
