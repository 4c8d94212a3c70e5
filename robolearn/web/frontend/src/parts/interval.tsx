// A success rate with its 95 % interval, drawn and told.
import { percent } from "./load";

type Props = { rate: number; bounds: [number, number]; episodes?: number | null };

export function Interval({ rate, bounds: [low, high], episodes }: Props) {
  return (
    <span class="interval">
      <svg viewBox="0 0 100 12" aria-hidden="true" preserveAspectRatio="none">
        <rect class="rail" x="0" y="5.5" width="100" height="1" />
        <rect class="range" x={100 * low} y="3.5" width={100 * (high - low)} height="5" />
        <rect class="rate" x={Math.min(100 * rate, 98.5)} y="1" width="1.5" height="10" />
      </svg>
      <span class="number">
        {percent(rate)}{" "}
        <span class="quiet">
          ({Math.round(100 * low)} to {Math.round(100 * high)}
          {episodes ? `, ${episodes} episodes` : ""})
        </span>
      </span>
    </span>
  );
}
