// Curves of runs, which were logged at different steps, over one axis.
import type { Line } from "./plot";

type Curve = { step: number[]; value: number[] };
export type RunCurves = Record<string, Record<string, Curve>>;
export type Compared = { name: string; x: number[]; lines: Line[] };

/** A chart for each metric, a line for each run that has it; metrics that most runs have come first. */
export function compared(runs: RunCurves): Compared[] {
  const names = [...new Set(Object.values(runs).flatMap((curves) => Object.keys(curves)))];
  const having = (name: string) => Object.entries(runs).filter(([, curves]) => name in curves);
  names.sort((a, b) => rank(a) - rank(b) || having(b).length - having(a).length || a.localeCompare(b));
  return names.map((name) => {
    const there = having(name);
    const x = [...new Set(there.flatMap(([, curves]) => curves[name].step))].sort((a, b) => a - b);
    return { name, x, lines: there.map(([run, curves]) => ({ name: run, values: placed(curves[name], x) })) };
  });
}

const FIRST = ["success_rate", "return_mean", "validation_loss", "train_loss", "episode_success", "episode_return"];
const rank = (name: string) => (FIRST.includes(name) ? FIRST.indexOf(name) : FIRST.length);

/** The values at the steps x; in between it is drawn through, so that points at other steps leave no gap. */
function placed(curve: Curve, x: number[]): (number | null)[] {
  const at = new Map(curve.step.map((step, n) => [step, n]));
  const [low, high] = [curve.step[0], curve.step[curve.step.length - 1]];
  let n = 0;
  return x.map((step) => {
    const exact = at.get(step);
    if (exact !== undefined) return curve.value[exact];
    if (step < low || step > high) return null;
    while (curve.step[n + 1] < step) n++;
    const share = (step - curve.step[n]) / (curve.step[n + 1] - curve.step[n]);
    return curve.value[n] + share * (curve.value[n + 1] - curve.value[n]);
  });
}
