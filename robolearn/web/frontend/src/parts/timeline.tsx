// Stages of an episode on a line of time, a row for each person.
import type { Signal } from "@preact/signals";

export type Stage = { label: string; start: number; stop: number };

const HUES = [215, 25, 145, 280, 50, 335, 185, 100];

/** The same label always has the same colour. */
const hue = (label: string, labels: string[]) => HUES[Math.max(labels.indexOf(label), 0) % HUES.length];

type Props = { length: number; rows: Record<string, Stage[]>; labels: string[]; step: Signal<number>; mine?: string };

export function Timeline({ length, rows, labels, step, mine }: Props) {
  const at = (steps: number) => `${(100 * steps) / Math.max(length, 1)}%`;
  const names = Object.keys(rows).sort((a, b) => Number(b === mine) - Number(a === mine) || a.localeCompare(b));
  return (
    <div class="timeline" role="group" aria-label="Stages">
      {names.map((name) => (
        <div key={name} class="lane">
          <span class="who">{name || "recorded"}</span>
          <div class="bars">
            {rows[name].map((stage) => (
              <button
                key={stage.start}
                class="stage"
                style={{ left: at(stage.start), width: at(stage.stop - stage.start), "--hue": hue(stage.label, labels) }}
                title={`${stage.label}, steps ${stage.start} to ${stage.stop - 1}`}
                aria-label={`${stage.label}, steps ${stage.start} to ${stage.stop - 1}; go to its begin`}
                onClick={() => (step.value = stage.start)}
              >
                {stage.label}
              </button>
            ))}
            <span class="cursor" style={{ left: at(step.value + 0.5) }} />
          </div>
        </div>
      ))}
    </div>
  );
}
