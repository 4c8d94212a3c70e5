// A page that needs a dataset, before there is one in its address.
import { to, useLoad } from "./load";
import type { DatasetSummary } from "./types";

/** Which dataset? */
export function Choose({ title, page }: { title: string; page: string }) {
  const { data, problem } = useLoad<DatasetSummary[]>("datasets");
  return (
    <>
      <h1>{title}</h1>
      {problem && <p class="problem">{problem}</p>}
      <p>Choose a dataset:</p>
      <ul class="choices">
        {data
          ?.filter((one) => !one.problem)
          .map((one) => (
            <li key={one.name}>
              <a class="button" href={to(page, one.name)}>
                {one.name} <span class="quiet">{one.episodes} episodes</span>
              </a>
            </li>
          ))}
      </ul>
      {data?.length === 0 && <p class="card">There is no dataset below the data folders yet.</p>}
    </>
  );
}
