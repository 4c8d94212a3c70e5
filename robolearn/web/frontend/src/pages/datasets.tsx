import type { PageProps } from "../main";

export function Datasets(_: PageProps) {
  return <h1>Datasets</h1>;
}
