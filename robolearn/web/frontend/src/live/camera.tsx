// One camera: the newest picture, drawn as it comes; the next is asked for when this one is on the screen.
import { useEffect, useRef, useState } from "preact/hooks";
import { socketUrl } from "../api";

const RETRY_MS = 1000;
const STAMP_BYTES = 8;

export function Camera({ name }: { name: string }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const [rate, setRate] = useState<string>("waiting for a picture");
  useEffect(() => {
    let closed = false;
    let socket: WebSocket;
    let drawn = 0;
    const draw = async (data: ArrayBuffer) => {
      const bitmap = await createImageBitmap(new Blob([new Uint8Array(data, STAMP_BYTES)], { type: "image/jpeg" }));
      const target = canvas.current;
      if (target) {
        if (target.width !== bitmap.width) target.width = bitmap.width;
        if (target.height !== bitmap.height) target.height = bitmap.height;
        target.getContext("2d")?.drawImage(bitmap, 0, 0);
        target.dataset.stamp = String(new DataView(data).getFloat64(0, true));
      }
      bitmap.close();
      drawn += 1;
    };
    const open = () => {
      socket = new WebSocket(socketUrl(`live/camera/${name.split("/").map(encodeURIComponent).join("/")}`));
      socket.binaryType = "arraybuffer";
      socket.onmessage = (event) =>
        draw(event.data as ArrayBuffer)
          .catch(() => undefined) // half a picture is none
          .finally(() => socket.readyState === WebSocket.OPEN && socket.send("drawn"));
      socket.onclose = () => !closed && setTimeout(() => !closed && open(), RETRY_MS);
    };
    open();
    const timer = setInterval(() => {
      setRate(drawn ? `${drawn} Hz` : "no pictures");
      drawn = 0;
    }, 1000);
    return () => {
      closed = true;
      clearInterval(timer);
      socket.close();
    };
  }, [name]);
  return (
    <figure class="camera">
      <canvas ref={canvas} role="img" aria-label={`Camera ${name}`} width="640" height="480" />
      <figcaption>
        <span>{name}</span> <span class="number quiet">{rate}</span>
      </figcaption>
    </figure>
  );
}
