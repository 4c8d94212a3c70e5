// A phone that is moved through the air (WebXR): while a finger is on the screen, the tool follows it.
import { holdPose } from "./drive";

/** Browsers tell poses on https or localhost alone. */
export async function hasPose(): Promise<boolean> {
  return (await navigator.xr?.isSessionSupported("immersive-ar").catch(() => false)) ?? false;
}

/** Starts a session, whose overlay is `overlay`; `grip()` is asked each frame. Ends by itself when the person leaves. */
export async function startPose(overlay: HTMLElement, grip: () => number, onEnd: () => void): Promise<XRSession> {
  const session = await navigator.xr!.requestSession("immersive-ar", {
    optionalFeatures: ["dom-overlay"],
    domOverlay: { root: overlay },
  });
  const gl = document.createElement("canvas").getContext("webgl", { xrCompatible: true });
  if (!gl) throw new Error("this browser has no WebGL, which WebXR needs");
  await session.updateRenderState({ baseLayer: new XRWebGLLayer(session, gl) });
  const space = await session.requestReferenceSpace("local");
  // A touch of a button of the overlay takes no hold of the tool.
  const onSelect = (event: Event) => (event.target as HTMLElement).closest("button") && event.preventDefault();
  overlay.addEventListener("beforexrselect", onSelect);
  let engaged = false;
  session.addEventListener("selectstart", () => (engaged = true));
  session.addEventListener("selectend", () => (engaged = false));
  session.addEventListener("end", () => {
    overlay.removeEventListener("beforexrselect", onSelect);
    holdPose(null);
    onEnd();
  });
  const onFrame = (_: number, frame: XRFrame) => {
    session.requestAnimationFrame(onFrame);
    const transform = frame.getViewerPose(space)?.transform;
    if (!transform || !engaged) return holdPose(null);
    const { position: p, orientation: q } = transform;
    holdPose({ engaged, position: [p.x, p.y, p.z], orientation: [q.w, q.x, q.y, q.z], grip: grip() });
  };
  session.requestAnimationFrame(onFrame);
  return session;
}
