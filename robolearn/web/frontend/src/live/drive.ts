// Driving: keys, a gamepad, touched sticks or a phone's pose fill the controls of one standard gamepad, which go to the
// server 30 times a second while hands are on them. Lifting, leaving the page or losing sight of it lets go.
import { effect, signal } from "@preact/signals";
import { connected, seen, send } from "./connection";

export const CLUTCH = 5; // RB
export const TOGGLE = 4; // LB
export const CLOSE = 6; // LT
export const OPEN = 7; // RT
const PERIOD_MS = 33;

/** Of each key: the axis that it pushes and which way, or the button that it holds. */
export const KEYS: Record<string, { axis: number; to: number } | { button: number }> = {
  KeyW: { axis: 1, to: -1 },
  KeyS: { axis: 1, to: 1 },
  KeyA: { axis: 0, to: -1 },
  KeyD: { axis: 0, to: 1 },
  KeyR: { axis: 3, to: -1 },
  KeyF: { axis: 3, to: 1 },
  KeyQ: { axis: 2, to: -1 },
  KeyE: { axis: 2, to: 1 },
  KeyT: { axis: 5, to: -1 },
  KeyG: { axis: 5, to: 1 },
  KeyZ: { axis: 4, to: -1 },
  KeyX: { axis: 4, to: 1 },
  KeyO: { button: OPEN },
  KeyP: { button: CLOSE },
};

/** What is taken hold of, by whom; each source owns its entry. */
type Controls = { axes: number[]; held: number[] };
const sources = new Map<string, Controls>();

/** Whether keys drive; off by default, so that typing moves nothing. */
export const keysDrive = signal(false);
export const gamepadName = signal("");
export const driving = signal(false);

let sequence = 0;
let timer = 0;
let pose: object | null = null;
const pressed = new Set<string>();

/** A source has hold of these controls; null: it lets go. */
export function hold(source: string, controls: Controls | null): void {
  if (controls) sources.set(source, controls);
  else sources.delete(source);
  if (!timer && (sources.size || pose)) {
    timer = window.setInterval(tell, PERIOD_MS);
    tell();
  }
}

/** A phone's pose, or null when its finger is lifted. */
export function holdPose(message: object | null): void {
  pose = message;
  hold("", null);
}

export function letGo(): void {
  sources.clear();
  pressed.clear();
  pose = null;
  if (timer) tell();
}

function tell(): void {
  const axes = [0, 0, 0, 0, 0, 0];
  const held = new Set<number>();
  for (const controls of sources.values()) {
    controls.axes.forEach((value, i) => (axes[i] = Math.max(-1, Math.min(1, (axes[i] ?? 0) + value))));
    controls.held.forEach((button) => held.add(button));
  }
  sequence += 1;
  send({ sequence, seen, axes, held: [...held], ...pose });
  driving.value = sources.size > 0 || pose !== null;
  if (!driving.value) {
    clearInterval(timer); // the last message has said that the hands are lifted
    timer = 0;
  }
}

// --- keys ---

function keys(): void {
  const axes = [0, 0, 0, 0, 0, 0];
  const held = [CLUTCH];
  for (const code of pressed) {
    const meaning = KEYS[code];
    if ("axis" in meaning) axes[meaning.axis] += meaning.to;
    else held.push(meaning.button);
  }
  hold("keys", pressed.size ? { axes, held } : null);
}

addEventListener("keydown", (event) => {
  const typing = (event.target as HTMLElement).closest?.("input:not([type=checkbox], [type=range]), textarea, select");
  if (!keysDrive.value || event.ctrlKey || event.metaKey || event.altKey || typing || !(event.code in KEYS)) return;
  event.preventDefault();
  if (event.repeat || pressed.has(event.code)) return;
  pressed.add(event.code);
  keys();
});
addEventListener("keyup", (event) => {
  if (pressed.delete(event.code)) keys();
});

// --- a gamepad ---

let frame = 0;
function poll(): void {
  frame = 0;
  const pad = [...navigator.getGamepads()].find((p) => p?.connected && p.mapping === "standard");
  gamepadName.value = pad?.id ?? "";
  if (!pad) return hold("gamepad", null);
  const held = pad.buttons.flatMap((button, i) => (button.pressed ? [i] : []));
  const down = (i: number) => Number(pad.buttons[i]?.pressed ?? false);
  const axes = [...pad.axes.slice(0, 4), down(15) - down(14), down(13) - down(12)];
  hold("gamepad", held.length ? { axes, held } : null); // sticks alone drift: the clutch counts
  frame = requestAnimationFrame(poll);
}
addEventListener("gamepadconnected", () => frame || poll());

// --- letting go ---

addEventListener("blur", letGo);
addEventListener("pagehide", letGo);
document.addEventListener("visibilitychange", () => document.hidden && letGo());
effect(() => {
  if (!connected.value) letGo();
});
effect(() => {
  if (!keysDrive.value) {
    pressed.clear();
    hold("keys", null);
  }
});
