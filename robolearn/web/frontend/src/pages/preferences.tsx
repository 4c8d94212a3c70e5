import type { PageProps } from "../main";

export function Preferences(_: PageProps) {
  return <h1>Preferences</h1>;
}
