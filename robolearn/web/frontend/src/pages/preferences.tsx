// Two moments or segments side by side: which is nearer to the goal? The answers train preference rewards.
import { useEffect, useRef, useState } from "preact/hooks";
import { post } from "../api";
import type { PageProps } from "../main";
import { Agreed, Author, author } from "../parts/author";
import { Choose } from "../parts/choose";
import { query, to, useKeys, useLoad } from "../parts/load";
import { Pictures } from "../parts/pictures";
import { useTyped } from "../parts/typed";
import type { Agreement } from "../parts/types";
import "../data.css";

const BEFORE_S = 2; // that led to the moment, when played

type Moment = { episode: string; step: number; length: number; instruction: string; version: string };
type Pair = {
  first: Moment;
  second: Moment;
  segment: number; // steps of what is compared, from each moment on
  cameras: string[];
  control_hz: number;
  answered: number;
  answered_by_all: number;
  agreement: Agreement;
};

export function Preferences({ words: [dataset], query: asked }: PageProps) {
  const segment = Math.max(Math.round(Number(asked.get("segment"))) || 1, 1);
  return dataset ? <Compare key={dataset} dataset={dataset} segment={segment} /> : <Choose title="Preferences" page="preferences" />;
}

function Compare({ dataset, segment }: { dataset: string; segment: number }) {
  const me = author.value;
  const { data, problem, reload } = useLoad<Pair>(me ? `annotate/pair${query({ dataset, author: me, segment })}` : null);
  const typed = useTyped(String(segment), (steps) => {
    location.hash = `${to("preferences", dataset)}${query({ segment: steps })}`;
  });
  const [said, setSaid] = useState("");
  const [refused, setRefused] = useState("");
  const busy = useRef(false);
  const spent = useRef<Pair | null>(null); // is still shown, until the next one comes
  const [plays, setPlays] = useState(false);

  const send = async (what: () => Promise<string>) => {
    if (busy.current) return;
    busy.current = true;
    try {
      setSaid(await what());
      setRefused("");
    } catch (error) {
      setRefused(`${(error as Error).message}; answer again`);
    }
    busy.current = false;
    reload();
  };
  const answer = (word: string) => () =>
    data &&
    data !== spent.current &&
    send(async () => {
      const at = ({ episode, step }: Moment) => ({ episode, step });
      await post("annotate/preference", { dataset, author: me, first: at(data.first), second: at(data.second), segment: data.segment, answer: word });
      spent.current = data;
      return `saved: ${word}`;
    });
  const undo = () =>
    send(async () => {
      const before = await post<{ answer: string }>("annotate/preference/undo", { dataset, author: me });
      return `taken back: ${before.answer}`;
    });
  useKeys({
    a: () => answer("first")(),
    b: () => answer("second")(),
    e: () => answer("equal")(),
    u: () => answer("unsure")(),
    z: undo,
    " ": () => setPlays(!plays),
  });
  return (
    <>
      <p class="quiet">
        <a href={to("preferences")}>Preferences</a> / <a href={to("datasets", dataset)}>{dataset}</a> /
      </p>
      <div class="spread">
        <h1>Which is nearer to the goal?</h1>
        <Author />
      </div>
      {(problem || refused) && (
        <p class="problem" role="alert">
          {refused || problem}
        </p>
      )}
      {!me && <p>Say who you are, then compare.</p>}
      {me && (
        <label class="row quiet">
          Steps of a segment; 1 compares moments
          <input type="number" min="1" {...typed} />
        </label>
      )}
      {me && data && (
        <>
          <p class="goal">{data.first.instruction || "no instruction is recorded"}</p>
          <div class="pair">
            {(["first", "second"] as const).map((side) => (
              <Side key={side} name={side === "first" ? "A" : "B"} dataset={dataset} pair={data} moment={data[side]} plays={plays} />
            ))}
          </div>
          <div class="row answers">
            <button class="primary" onClick={answer("first")}>
              <kbd>A</kbd> A is nearer
            </button>
            <button class="primary" onClick={answer("second")}>
              <kbd>B</kbd> B is nearer
            </button>
            <button onClick={answer("equal")}>
              <kbd>E</kbd> equal
            </button>
            <button onClick={answer("unsure")}>
              <kbd>U</kbd> unsure
            </button>
            {data.segment === 1 && (
              <button aria-pressed={plays} onClick={() => setPlays(!plays)}>
                <kbd>space</kbd> what led here
              </button>
            )}
            <button disabled={!data.answered} onClick={undo}>
              <kbd>Z</kbd> undo
            </button>
          </div>
          <p role="status" class="quiet">
            {data.answered} answered by you, {data.answered_by_all} by all{said && ` · ${said}`}
          </p>
          <Agreed what="Preferences" found={data.agreement} of="pairs" />
          <p class="quiet">
            Train on them: <code>robolearn reward train preference --labeller people{segment > 1 && ` --segment ${segment}`} --dataset {dataset} --out runs/preference</code>
          </p>
        </>
      )}
    </>
  );
}

type SideProps = { name: string; dataset: string; pair: Pair; moment: Moment; plays: boolean };

function Side({ name, dataset, pair, moment, plays }: SideProps) {
  const { episode, step, length, version } = moment;
  const what = pair.segment > 1 ? "Segment" : "Moment";
  const canvases = useRef<Record<string, HTMLCanvasElement | null>>({});
  const [problem, setProblem] = useState("");
  const moves = plays || pair.segment > 1;
  useEffect(() => {
    const films = pair.cameras.map((camera) => new Pictures(dataset, episode, camera, length, version));
    const first = moves && pair.segment === 1 ? Math.max(step - Math.round(BEFORE_S * pair.control_hz), 0) : step;
    const last = step + pair.segment - 1;
    let closed = false;
    const film = async () => {
      for (let now = first; !closed; now = now < last ? now + 1 : first) {
        const due = performance.now() + (1000 / pair.control_hz) * (now === last ? pair.control_hz : 1); // it rests at the end
        const pictures = await Promise.all(films.map((one) => one.at(now)));
        pictures.forEach((picture, n) => {
          const canvas = canvases.current[pair.cameras[n]];
          if (!canvas || closed) return;
          if (picture) [canvas.width, canvas.height] = [picture.width, picture.height];
          const context = canvas.getContext("2d");
          if (picture) context?.drawImage(picture, 0, 0);
          else context?.clearRect(0, 0, canvas.width, canvas.height);
          canvas.dataset.step = String(now);
        });
        if (!moves) return;
        await new Promise((done) => setTimeout(done, Math.max(due - performance.now(), 0)));
      }
    };
    film().catch((error: Error) => !closed && setProblem(error.message));
    return () => {
      closed = true;
      films.forEach((one) => one.close());
    };
  }, [episode, step, version, pair.segment, moves]);
  return (
    <section class="card side" aria-label={`${what} ${name}`}>
      <div class="spread">
        <h2>{name}</h2>
        <a class="quiet small mono" href={`${to("episode", dataset, episode)}?step=${step}`}>
          {episode} step {step}
          {pair.segment > 1 && ` to ${step + pair.segment - 1}`}
        </a>
      </div>
      {problem && <p class="problem">{problem}</p>}
      <div class="films">
        {pair.cameras.map((camera) => (
          <figure key={camera}>
            <canvas ref={(canvas) => void (canvases.current[camera] = canvas)} role="img" aria-label={`${what} ${name}, camera ${camera.replace("image_", "")}`} />
            <figcaption>{camera.replace("image_", "")}</figcaption>
          </figure>
        ))}
      </div>
    </section>
  );
}
