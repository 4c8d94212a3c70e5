// Who is on the graph, how they fare, and who talks to whom.
import { state, type Health } from "./connection";

const COLUMNS = [/(^|\/)camera[^/]*$/, /(^|\/)(robot|twin)$/, /(^|\/)(policy|teleop|replay)[^/]*$/, /.*/]; // names may have a namespace
const WIDTH = 164;
const LONGEST = 16; // letters of a name that fit
const WEB = /(^|\/)web$/; // looks on at all of them
const HEIGHT = 34;
const GAP_X = 70;
const GAP_Y = 16;

function kind(node: Health): string {
  if (node.silent) return "bad";
  return node.level === null ? "none" : ["good", "warn", "bad", "bad"][node.level];
}

function words(node: Health): string {
  if (node.silent) return "silent";
  return node.level === null ? "no diagnostics" : node.message;
}

export function GraphPanel() {
  const nodes = state.value.nodes ?? [];
  return (
    <section class="card" aria-labelledby="nodes">
      <h2 id="nodes">Nodes</h2>
      <Drawing />
      <ul class="nodes">
        {nodes.map((node) => (
          <li key={node.name}>
            <details>
              <summary>
                <span class={`dot ${kind(node)}`} aria-hidden="true" /> <strong>{node.name}</strong>{" "}
                <span class={kind(node) === "good" || kind(node) === "none" ? "quiet" : kind(node) === "warn" ? "warn" : "problem"}>
                  {words(node)}
                </span>
              </summary>
              <dl>
                {Object.entries(node.values).map(([name, value]) => (
                  <div key={name}>
                    <dt>{name}</dt>
                    <dd class="mono">{value || "-"}</dd>
                  </div>
                ))}
              </dl>
            </details>
          </li>
        ))}
      </ul>
    </section>
  );
}

/** Columns from what senses to what looks on; an arrow for each pair that talks, its topics in the title. */
function Drawing() {
  const nodes = state.value.nodes ?? [];
  const columns: Health[][] = COLUMNS.map(() => []);
  for (const node of nodes.filter((node) => !WEB.test(node.name))) columns[COLUMNS.findIndex((pattern) => pattern.test(node.name))].push(node);
  const used = columns.filter((column) => column.length);
  const rows = Math.max(1, ...used.map((column) => column.length));
  const width = used.length * (WIDTH + GAP_X) - GAP_X + 2;
  const height = rows * (HEIGHT + GAP_Y) - GAP_Y + 2;
  const at = new Map<string, { x: number; y: number; column: number }>();
  used.forEach((column, i) => {
    const top = (height - (column.length * (HEIGHT + GAP_Y) - GAP_Y)) / 2;
    column.forEach((node, k) => at.set(node.name, { x: 1 + i * (WIDTH + GAP_X), y: top + k * (HEIGHT + GAP_Y), column: i }));
  });
  const pairs = new Map<string, { from: string; to: string; topics: string[] }>();
  for (const [from, topic, to] of state.value.links ?? []) {
    if (!at.has(from) || !at.has(to)) continue;
    const key = `${from} ${to}`;
    pairs.set(key, { from, to, topics: [...(pairs.get(key)?.topics ?? []), topic] });
  }
  if (nodes.length < 2) return <p class="quiet">Nobody else is on this graph.</p>;
  return (
    <div class="scroll" tabIndex={0} role="group" aria-label="Drawing of the graph">
      <svg class="drawing" viewBox={`0 0 ${width} ${height}`} style={{ width: `${width}px` }} role="img" aria-label="Which nodes talk to each other">
        <defs>
          <marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">
            <path d="M0 0L8 4L0 8z" class="tip" />
          </marker>
        </defs>
        {[...pairs.values()].map(({ from, to, topics }) => {
          const a = at.get(from)!;
          const b = at.get(to)!;
          const forward = b.column > a.column;
          const same = b.column === a.column;
          const x1 = forward || same ? a.x + WIDTH : a.x;
          const x2 = forward ? b.x : same ? b.x + WIDTH : b.x + WIDTH;
          const y1 = a.y + HEIGHT * (forward ? 0.35 : 0.65);
          const y2 = b.y + HEIGHT * (forward ? 0.35 : 0.65);
          const bend = same ? x1 + 40 : (x1 + x2) / 2;
          return (
            <path key={from + to} d={`M${x1} ${y1}C${bend} ${y1} ${bend} ${y2} ${x2} ${y2}`} class="link" marker-end="url(#tip)">
              <title>{`${from} to ${to}: ${topics.join(", ")}`}</title>
            </path>
          );
        })}
        {nodes.map((node) => {
          if (!at.has(node.name)) return null;
          const { x, y } = at.get(node.name)!;
          return (
            <g key={node.name} class={kind(node)}>
              <rect x={x} y={y} width={WIDTH} height={HEIGHT} rx="7" />
              <circle cx={x + 15} cy={y + HEIGHT / 2} r="5" />
              <text x={x + 28} y={y + HEIGHT / 2 + 5}>
                {node.name.slice(0, LONGEST)}
              </text>
            </g>
          );
        })}
      </svg>
    </div>
  );
}
