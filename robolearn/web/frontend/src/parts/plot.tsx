// Curves over one axis, with a cursor that follows a step and a click that moves it.
import { useSignalEffect, type Signal } from "@preact/signals";
import { useEffect, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { short } from "./load";

export const COLOURS = ["#3b82f6", "#e0632b", "#2fa36b", "#a855f7", "#c79a12", "#e0457b", "#0ea5b7", "#7c8694"];
const HEIGHT = 170;

export type Line = { name: string; values: (number | null)[]; dash?: boolean; overlay?: boolean };

type Props = {
  title: string;
  unit?: string;
  x: number[];
  lines: Line[];
  xLabel?: string;
  step?: Signal<number>; // in the unit of x
  band?: [number, number]; // lines between which the ground is shaded
  height?: number;
  log?: boolean;
  untitled?: boolean; // the title stands elsewhere
};

/** What a colour variable of the style sheet is now. */
export function ink(name: string): string {
  const probe = document.createElement("span");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const colour = getComputedStyle(probe).color;
  probe.remove();
  return colour;
}

/** Whether the colours are dark ones; changes when the system's do. */
function useDark(): boolean {
  const query = matchMedia("(prefers-color-scheme: dark)");
  const [dark, setDark] = useState(query.matches);
  useEffect(() => {
    const change = () => setDark(query.matches);
    query.addEventListener("change", change);
    return () => query.removeEventListener("change", change);
  }, []);
  return dark;
}

export function Plot({ title, unit, x, lines, xLabel = "step", step, band, height = HEIGHT, log, untitled }: Props) {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const dark = useDark();
  useEffect(() => {
    const element = place.current;
    if (!element) return;
    const [quiet, line] = [ink("--quiet"), ink("--line")];
    const axis = { stroke: quiet, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 } };
    const overlay = lines.some((one) => one.overlay);
    const options: uPlot.Options = {
      width: element.clientWidth,
      height,
      cursor: { drag: { x: false, y: false }, points: { size: 6 } },
      scales: { x: { time: false }, y: log ? { distr: 3 } : {} },
      axes: [
        { ...axis, size: 34, label: undefined },
        { ...axis, size: 58, values: figures },
        ...(overlay ? [{ ...axis, side: 1 as const, scale: "overlay", size: 46, grid: { show: false }, values: figures }] : []),
      ],
      series: [
        { label: xLabel },
        ...lines.map((one, n) => ({
          label: one.name,
          stroke: one.overlay ? ink("--text") : COLOURS[n % COLOURS.length],
          width: one.overlay ? 2 : 1.5,
          dash: one.dash || one.overlay ? [6, 4] : undefined,
          scale: one.overlay ? "overlay" : "y",
          points: { show: x.length < 3 },
          spanGaps: false,
        })),
      ],
      bands: band ? [{ series: [band[1] + 1, band[0] + 1], fill: "rgba(59,130,246,0.15)" }] : [],
      hooks: {
        ready: [
          (u) => {
            u.over.addEventListener("click", () => {
              const at = u.posToIdx(u.cursor.left ?? 0);
              if (step) step.value = x[at];
            });
            u.over.addEventListener("mouseleave", () => follow(u, step?.peek()));
            follow(u, step?.peek());
          },
        ],
      },
    };
    const made = new uPlot(options, [x, ...lines.map((one) => one.values)] as uPlot.AlignedData, element);
    plot.current = made;
    const resized = new ResizeObserver(() => made.setSize({ width: element.clientWidth, height }));
    resized.observe(element);
    return () => (resized.disconnect(), made.destroy(), void (plot.current = null));
  }, [x, lines, dark, height, log]);
  useSignalEffect(() => follow(plot.current, step?.value));
  return (
    <figure class="plot">
      {!untitled && (
        <figcaption>
          {title} {unit && `[${unit}]`}
        </figcaption>
      )}
      <div ref={place} role="img" aria-label={`Curves of ${title}: ${lines.map((one) => one.name).join(", ")}`} />
    </figure>
  );
}

const figures = (_: uPlot, splits: number[]) => splits.map((value) => (value === null ? "" : short(value)));

function follow(plot: uPlot | null, step: number | undefined) {
  if (plot && step !== undefined) plot.setCursor({ left: plot.valToPos(step, "x"), top: -10 }, false);
}
