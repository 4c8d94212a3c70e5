import type { PageProps } from "../main";

export function Annotate(_: PageProps) {
  return <h1>Annotate</h1>;
}
