// The controls of a person who drives: two touched sticks and a gripper, keys, a gamepad, a phone's pose.
import { useEffect, useRef, useState } from "preact/hooks";
import { CLOSE, CLUTCH, driving, gamepadName, hold, keysDrive, OPEN } from "./drive";
import { state, stop } from "./connection";
import { hasPose, startPose } from "./xr";

const RADIUS = 58; // pixels of full deflection

function Stick({ name, does, axes }: { name: string; does: string; axes: [number, number] }) {
  const [at, setAt] = useState<[number, number] | null>(null);
  const host = useRef<HTMLDivElement>(null);
  const move = (event: PointerEvent) => {
    const box = host.current!.getBoundingClientRect();
    let x = (event.clientX - box.x - box.width / 2) / RADIUS;
    let y = (event.clientY - box.y - box.height / 2) / RADIUS;
    const length = Math.max(1, Math.hypot(x, y));
    [x, y] = [x / length, y / length];
    const values = [0, 0, 0, 0, 0, 0];
    [values[axes[0]], values[axes[1]]] = [x, y];
    setAt([x, y]);
    hold(name, { axes: values, held: [CLUTCH] });
  };
  const lift = () => {
    setAt(null);
    hold(name, null);
  };
  useEffect(() => lift, []);
  return (
    <div
      ref={host}
      class={at ? "stick held" : "stick"}
      role="img"
      aria-label={`${name}: ${does}; by keys, see below`}
      onPointerDown={(event) => {
        host.current!.setPointerCapture(event.pointerId);
        move(event);
      }}
      onPointerMove={(event) => at && move(event)}
      onPointerUp={lift}
      onPointerCancel={lift}
      onLostPointerCapture={lift}
    >
      <span class="knob" style={{ transform: at ? `translate(${at[0] * RADIUS}px, ${at[1] * RADIUS}px)` : "none" }} />
      <span class="does">{does}</span>
    </div>
  );
}

function Held({ name, button }: { name: string; button: number }) {
  const down = () => hold(name, { axes: [], held: [CLUTCH, button] });
  const up = () => hold(name, null);
  useEffect(() => up, []);
  const isKey = (event: KeyboardEvent) => event.key === " " || event.key === "Enter";
  return (
    <button
      class="hold"
      onPointerDown={(event) => {
        (event.target as HTMLElement).setPointerCapture(event.pointerId);
        down();
      }}
      onPointerUp={up}
      onPointerCancel={up}
      onLostPointerCapture={up}
      onKeyDown={(event) => isKey(event) && !event.repeat && (event.preventDefault(), down())}
      onKeyUp={(event) => isKey(event) && up()}
      onBlur={up}
      onContextMenu={(event) => event.preventDefault()}
    >
      {name}
    </button>
  );
}

export function DrivePanel() {
  const { offers = [], driving: wheel } = state.value;
  const can = offers.includes("drive");
  if (!can) {
    return (
      <section class="card" aria-labelledby="drive">
        <h2 id="drive">Drive</h2>
        <p class="quiet">
          No teleoperator listens to this page. Start one with <code>--teleop web</code> or <code>teleop:=web</code>.
        </p>
      </section>
    );
  }
  const mine = driving.value && wheel?.driver === wheel?.you;
  const who = mine ? "You drive" : wheel?.driver ? "Another browser drives" : "Nobody drives";
  return (
    <section class="card drive" aria-labelledby="drive">
      <div class="spread">
        <h2 id="drive">Drive</h2>
        <span class={mine ? "tag on" : "tag"} role="status">
          {who}
        </span>
      </div>
      <div class="sticks">
        <Stick name="Left stick" does="forwards, left" axes={[0, 1]} />
        <div class="grip">
          <Held name="Open" button={OPEN} />
          <Held name="Close" button={CLOSE} />
        </div>
        <Stick name="Right stick" does="up, turn" axes={[2, 3]} />
      </div>
      <p class="problem refusal" role="alert">
        {wheel?.refusal}
      </p>
      <div class="row">
        <label class="row">
          <input type="checkbox" checked={keysDrive.value} onChange={(e) => (keysDrive.value = e.currentTarget.checked)} />
          Drive by keys
        </label>
        <Pose />
        <span class="quiet">{gamepadName.value ? `Gamepad: ${gamepadName.value}` : "A gamepad is found when its button is pressed"}</span>
      </div>
      <details>
        <summary>Keys and buttons</summary>
        <p>
          <kbd>W</kbd> <kbd>S</kbd> forwards, back · <kbd>A</kbd> <kbd>D</kbd> left, right · <kbd>R</kbd> <kbd>F</kbd> up, down ·{" "}
          <kbd>Q</kbd> <kbd>E</kbd> turn · <kbd>T</kbd> <kbd>G</kbd> tilt · <kbd>Z</kbd> <kbd>X</kbd> roll · <kbd>O</kbd> <kbd>P</kbd>{" "}
          open, close · <kbd>Esc</kbd> stop
        </p>
        <p>
          Gamepad: hold RB to move; left stick along, right stick up and turn, cross tilts and rolls, triggers close and open, LB does so in
          turns, X slower, Y faster, A success, back failure, start discards, B stops.
        </p>
      </details>
    </section>
  );
}

function Pose() {
  const [able, setAble] = useState(false);
  const [problem, setProblem] = useState("");
  const [session, setSession] = useState<XRSession | null>(null);
  const overlay = useRef<HTMLDivElement>(null);
  const open = useRef(false);
  useEffect(() => void hasPose().then(setAble), []);
  useEffect(() => () => void session?.end().catch(() => undefined), [session]);
  if (!able) return null;
  const start = () =>
    startPose(overlay.current!, () => Number(open.current), () => setSession(null)).then(setSession, (e: Error) => setProblem(e.message));
  return (
    <>
      <button onClick={start}>Move by this phone</button>
      {problem && <span class="problem" role="alert">{problem}</span>}
      <div ref={overlay} class="overlay" hidden={!session}>
        <button class="stop" onClick={stop}>
          Stop
        </button>
        <p>Hold a finger on the screen and move the phone: the tool follows.</p>
        <button onClick={() => (open.current = !open.current)}>Open or close</button>
        <button onClick={() => session?.end()}>Leave</button>
      </div>
    </>
  );
}
