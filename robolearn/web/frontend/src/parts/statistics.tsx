// A dataset in figures: how long, what is commanded, where it goes, what it is worth to a learner.
import { percent, query, short, useLoad } from "./load";

type Histogram = { name: string; unit: string; edges: number[]; counts: number[]; coverage?: number };
type Answer = {
  length: Histogram;
  action: Histogram[];
  position: Histogram[];
  position_coverage: number | null;
  tq: number | null;
  saco: number | null;
  unique_state_actions: number | null;
};

export function DatasetStatistics({ dataset }: { dataset: string }) {
  const { data, problem } = useLoad<Answer>(`datasets/statistics${query({ dataset })}`);
  if (problem) return <p class="problem">{problem}</p>;
  if (!data) return <p class="quiet">Counting ...</p>;
  return (
    <>
      <dl class="figures">
        <Figure name="TQ, trajectory quality" value={short(data.tq) || "unknown"} hint="mean return, 0 the worst and 1 the best" />
        <Figure
          name="SACo, state-action coverage"
          value={short(data.saco) || "unknown"}
          hint={`${data.unique_state_actions ?? "?"} different pairs, by the number of steps`}
        />
        <Figure
          name="Coverage of the joints' ranges"
          value={data.position_coverage === null ? "unknown" : percent(data.position_coverage)}
          hint="tenths of each range that were visited"
        />
      </dl>
      <div class="histograms">
        <Bars of={data.length} title="Length of episodes" />
        {data.action.map((one) => (
          <Bars key={one.name} of={one} title={`Action ${one.name}`} />
        ))}
        {data.position.map((one) => (
          <Bars key={one.name} of={one} title={`Position ${one.name}, ${percent(one.coverage ?? 0)} covered`} />
        ))}
      </div>
    </>
  );
}

function Figure({ name, value, hint }: { name: string; value: string; hint: string }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>
        <strong class="number">{value}</strong> <span class="quiet">{hint}</span>
      </dd>
    </div>
  );
}

function Bars({ of, title }: { of: Histogram; title: string }) {
  const most = Math.max(...of.counts, 1);
  const total = of.counts.reduce((a, b) => a + b, 0);
  const width = 100 / of.counts.length;
  const [low, high] = [of.edges[0], of.edges[of.edges.length - 1]];
  const top = of.counts.indexOf(Math.max(...of.counts));
  const mode = `most around ${short((of.edges[top] + of.edges[top + 1]) / 2)}`;
  return (
    <figure class="plot">
      <figcaption>
        {title} <span class="quiet">{of.unit && `[${of.unit}]`}</span>
      </figcaption>
      <svg
        viewBox="0 0 100 40"
        preserveAspectRatio="none"
        role="img"
        aria-label={`${total} values from ${short(low)} to ${short(high)} ${of.unit}, ${mode}`}
      >
        {of.counts.map((count, n) => (
          <rect key={n} x={n * width} y={40 - (40 * count) / most} width={width * 0.9} height={(40 * count) / most} />
        ))}
      </svg>
      <div class="spread quiet number">
        <span>{short(low)}</span>
        <span>{mode}</span>
        <span>{short(high)}</span>
      </div>
    </figure>
  );
}
