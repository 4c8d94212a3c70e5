// Curves of what comes in now: the plot stays, its data move on.
import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { ink } from "../parts/plot";

type Line = { label: string; color: string; dashed?: boolean; width?: number };

const LEAST_SPAN = 0.1;

type Props = {
  title: string;
  lines: Line[];
  /** x, then one array a line. */
  data: uPlot.AlignedData;
  height?: number;
  unit?: string;
  range?: [number, number];
};


export function LivePlot({ title, lines, data, height = 170, unit = "", range }: Props) {
  const host = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const key = JSON.stringify([lines, height, unit, range]);
  useEffect(() => {
    const target = host.current!;
    const dark = matchMedia("(prefers-color-scheme: dark)");
    const make = () => {
      plot.current?.destroy();
      const axis = { stroke: ink("--quiet"), grid: { stroke: ink("--line"), width: 1 }, ticks: { show: false }, font: "12px system-ui" };
      plot.current = new uPlot(
        {
          width: Math.max(target.clientWidth, 120),
          height,
          legend: { show: false },
          cursor: { drag: { x: false, y: false } },
          scales: { x: { time: false }, y: { range: range ? () => range : (_, low, high) => padded(low ?? 0, high ?? 0) } },
          axes: [
            { ...axis, size: 24 },
            { ...axis, size: 46 },
          ],
          series: [
            {},
            ...lines.map((line) => ({
              label: line.label,
              stroke: line.color,
              width: line.width ?? 1.6,
              dash: line.dashed ? [5, 4] : undefined,
              points: { show: false },
            })),
          ],
        },
        data,
        target,
      );
    };
    make();
    const observer = new ResizeObserver(() => plot.current?.setSize({ width: Math.max(target.clientWidth, 120), height }));
    observer.observe(target);
    dark.addEventListener("change", make);
    return () => {
      observer.disconnect();
      dark.removeEventListener("change", make);
      plot.current?.destroy();
      plot.current = null;
    };
  }, [key]);
  useEffect(() => {
    const frame = requestAnimationFrame(() => plot.current?.setData(data));
    return () => cancelAnimationFrame(frame);
  }, [data]);
  return (
    <figure class="plot">
      <figcaption>
        <strong>{title}</strong> {unit && <span class="quiet">[{unit}]</span>}
        <ul class="legend">
          {lines.map((line) => (
            <li key={line.label}>
              <span class={line.dashed ? "swatch dashed" : "swatch"} style={{ borderColor: line.color }} aria-hidden="true" />
              {line.label}
            </li>
          ))}
        </ul>
      </figcaption>
      <div ref={host} role="img" aria-label={`Plot of ${title}: ${lines.map((line) => line.label).join(", ")}`} />
    </figure>
  );
}

/** A tenth of room around what there is, and no magnified noise. */
function padded(low: number, high: number): [number, number] {
  const half = Math.max((high - low) * 0.6, LEAST_SPAN / 2);
  return [(low + high) / 2 - half, (low + high) / 2 + half];
}
