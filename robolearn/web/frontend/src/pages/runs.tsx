import type { PageProps } from "../main";

export function Runs(_: PageProps) {
  return <h1>Runs</h1>;
}
