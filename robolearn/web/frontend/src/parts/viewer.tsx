// All cameras of an episode in step, with a slider, play and keys.
import { useSignal, useSignalEffect, type Signal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { useKeys } from "./load";
import { Pictures } from "./pictures";
import type { EpisodeInfo } from "./types";

const SPEEDS = [0.25, 0.5, 1, 2, 4];

type Props = { dataset: string; info: EpisodeInfo; step: Signal<number>; keys?: boolean };

/** Draws the pictures of the newest wanted step, never two steps at once, and says which one is shown. */
function useFilm(dataset: string, info: EpisodeInfo, step: Signal<number>) {
  const names = Object.keys(info.cameras);
  const canvases = useRef<Record<string, HTMLCanvasElement | null>>({});
  const shown = useRef(-1);
  const show = useRef<(step: number) => void>(() => undefined);
  const problem = useSignal("");
  useEffect(() => {
    const films = names.map((name) => new Pictures(dataset, info.id, name, info.length, info.version));
    let wanted = -1;
    let busy = false;
    let closed = false;
    const pump = async () => {
      busy = true;
      while (shown.current !== wanted && !closed) {
        const now = wanted;
        try {
          const pictures = await Promise.all(films.map((film) => film.at(now)));
          if (closed) break;
          pictures.forEach((picture, n) => draw(canvases.current[names[n]], picture, now));
          problem.value = "";
        } catch (error) {
          if (closed) break;
          problem.value = (error as Error).message;
        }
        const direction = now < shown.current ? -1 : 1;
        const jumps = Math.abs(now - shown.current) > 2;
        shown.current = now;
        films.forEach((film) => film.ahead(now, direction, jumps));
      }
      busy = false;
    };
    show.current = (step) => {
      wanted = step;
      if (!busy) pump();
    };
    shown.current = -1;
    show.current(Math.min(step.peek(), info.length - 1));
    return () => {
      closed = true;
      films.forEach((film) => film.close());
    };
  }, [dataset, info.id, info.version]);
  useSignalEffect(() => show.current(step.value));
  return { names, canvases, shown, problem };
}

function draw(canvas: HTMLCanvasElement | null, picture: ImageBitmap | null, step: number) {
  const context = canvas?.getContext("2d");
  if (!canvas || !context) return;
  if (picture) {
    context.drawImage(picture, 0, 0, canvas.width, canvas.height);
  } else {
    context.fillStyle = "#4a0d12";
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.fillStyle = "#ffffff";
    context.font = `${Math.max(canvas.height / 10, 10)}px sans-serif`;
    context.textAlign = "center";
    context.fillText("no picture", canvas.width / 2, canvas.height / 2);
  }
  canvas.dataset.step = String(step);
}

export function Viewer({ dataset, info, step, keys = true }: Props) {
  const { names, canvases, shown, problem } = useFilm(dataset, info, step);
  const playing = useSignal(false);
  const speed = useSignal(1);
  const last = Math.max(info.length - 1, 0);
  const seek = (to: number) => (step.value = Math.min(Math.max(Math.round(to), 0), last));
  const move = (by: number) => ((playing.value = false), seek(step.peek() + by));
  const toggle = () => {
    if (!playing.peek() && step.peek() >= last) seek(0);
    playing.value = !playing.peek();
  };

  useSignalEffect(() => {
    if (!playing.value) return;
    const rate = info.control_hz * speed.value;
    let frame = 0;
    let due = step.peek();
    let before = performance.now();
    const tick = (now: number) => {
      // The clock stands still while a picture is awaited: none is left out because of a slow connection.
      if (shown.current === step.peek()) due += ((now - before) / 1000) * rate;
      before = now;
      if (Math.floor(due) !== step.peek() && shown.current === step.peek()) seek(Math.floor(due));
      if (step.peek() >= last) playing.value = false;
      else frame = requestAnimationFrame(tick);
    };
    frame = requestAnimationFrame(tick);
    return () => cancelAnimationFrame(frame);
  });
  useKeys(
    keys
      ? {
          " ": toggle,
          ArrowLeft: () => move(-1),
          ArrowRight: () => move(1),
          "Shift+ArrowLeft": () => move(-10),
          "Shift+ArrowRight": () => move(10),
          Home: () => move(-last),
          End: () => move(last),
        }
      : {},
  );

  return (
    <section class="viewer" aria-label="Pictures">
      <div class="films">
        {names.map((name) => (
          <figure key={name}>
            <canvas
              ref={(canvas) => void (canvases.current[name] = canvas)}
              width={info.cameras[name].width}
              height={info.cameras[name].height}
              role="img"
              aria-label={`Camera ${name.replace("image_", "")}`}
            />
            <figcaption>{name.replace("image_", "")}</figcaption>
          </figure>
        ))}
        {!names.length && <p class="quiet">This dataset has no pictures.</p>}
      </div>
      {problem.value && (
        <p class="problem" role="alert">
          {problem.value}
        </p>
      )}
      <div class="transport">
        <button onClick={toggle} aria-pressed={playing.value} aria-label={playing.value ? "Pause" : "Play"}>
          {playing.value ? "❚❚" : "▶"}
        </button>
        <input
          type="range"
          aria-label="Step"
          min={0}
          max={last}
          value={step.value}
          onInput={(e) => ((playing.value = false), seek(Number(e.currentTarget.value)))}
        />
        <output class="number" aria-live="off">
          step {step.value} / {last}
          <span class="quiet"> {(step.value / info.control_hz).toFixed(2)} s</span>
        </output>
        <label class="quiet">
          <span class="word">speed </span>
          <select aria-label="speed" value={speed.value} onChange={(e) => (speed.value = Number(e.currentTarget.value))}>
            {SPEEDS.map((one) => (
              <option key={one} value={one}>
                ×{one}
              </option>
            ))}
          </select>
        </label>
      </div>
    </section>
  );
}
