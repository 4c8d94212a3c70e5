import type { PageProps } from "../main";

export function Episode(_: PageProps) {
  return <h1>Episode</h1>;
}
