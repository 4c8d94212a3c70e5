"""The demo's report: one HTML file that needs nothing beside it, and the video of an episode."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robolearn.runs import Curves

Image = NDArray[np.uint8]
MARK_PX = 2
FRAMES = {True: (46, 160, 67), False: (207, 34, 46), None: (145, 152, 161)}  # green, red, grey

STYLE = """
:root{color-scheme:light dark;--ink:#1f2328;--paper:#fff;--faint:#59636e;--line:#d1d9e0;--bad:#cf222e}
@media (prefers-color-scheme:dark){
:root{--ink:#e6edf3;--paper:#0d1117;--faint:#9198a1;--line:#3d444d;--bad:#ff7b72}
svg{filter:invert(.93) hue-rotate(180deg)}}
body{font:16px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:var(--ink);
background:var(--paper)}h1{font-size:1.6rem;margin-bottom:.2rem}h2{font-size:1.15rem;margin-top:2rem}
table{border-collapse:collapse}td,th{padding:.35rem .9rem .35rem 0;border-bottom:1px solid var(--line);text-align:left}
td.n{text-align:right;font-variant-numeric:tabular-nums;overflow-wrap:anywhere}img{width:100%;image-rendering:pixelated}
video{width:36rem;max-width:100%}svg{max-width:100%;height:auto}p.d{color:var(--faint)}
"""


def page_html(title: str, heading: str, summary: str, body: str, style: str = "") -> str:
    """A page that needs nothing beside it: a heading, a line below it, and `body`, which is HTML as the rest is not."""
    return (
        "<!doctype html><html lang=en><head><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{html.escape(title)}</title><style>{STYLE}{style}</style></head><body><main><h1>{html.escape(heading)}</h1>"
        f"<p class=d>{html.escape(summary)}</p>{body}</main></body></html>\n"
    )


def write_video(path: Path, images: Iterable[Image], rate_hz: float, scale: int = 4) -> None:
    """Write images (H, W, 3) uint8 as an H.264 MP4, enlarged `scale` times by repeating pixels."""
    import av

    path.open("wb").close()  # whose error names the file, as PyAV's does not
    with av.open(str(path.absolute()), "w") as container:
        stream = container.add_stream("libx264", rate=round(rate_hz), options={"crf": "18", "preset": "veryfast"})
        for image in images:
            large = image.repeat(scale, axis=0).repeat(scale, axis=1)
            large = large[: large.shape[0] // 2 * 2, : large.shape[1] // 2 * 2]  # yuv420p wants even sides
            if not stream.codec_context.is_open:
                stream.height, stream.width = large.shape[:2]
                stream.pix_fmt = "yuv420p"
            for packet in stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(large), format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def side_by_side(images: Sequence[Image]) -> Image:
    """Cameras of one tick (H, W, 3) of equal height, beside each other."""
    return np.concatenate(images, axis=1)


def montage(episodes: Sequence[tuple[Sequence[Image], bool | None]]) -> Image:
    """Film strips: one row an episode, framed green for success, red for failure and grey where nobody knows."""
    rows = []
    for images, success in episodes:
        row = np.concatenate(images, axis=1)
        framed = np.empty((row.shape[0] + 2 * MARK_PX, row.shape[1] + 2 * MARK_PX, 3), np.uint8)
        framed[:] = FRAMES[success]
        framed[MARK_PX:-MARK_PX, MARK_PX:-MARK_PX] = row
        rows.append(framed)
    return np.concatenate(rows, axis=0)


def png_data_uri(image: Image) -> str:
    import cv2

    ok, encoded = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not ok:
        raise ValueError(f"an image of shape {image.shape} cannot be encoded as PNG")
    return "data:image/png;base64," + base64.b64encode(encoded.tobytes()).decode()


def plot_curves(curves: Curves, names: Sequence[str]) -> str:
    """SVG of the named curves over gradient steps."""
    return figure_svg(lambda axes: _draw_curves(axes, curves, names), (7.0, 3.0))


def plot_latency(latency_p50_ms: Sequence[float], latency_p99_ms: Sequence[float], period_ms: float) -> str:
    """SVG: the loop's latency in every episode, with the period that it has to stay below."""

    def draw(axes: Any) -> None:
        episode = np.arange(1, len(latency_p50_ms) + 1)
        axes.plot(episode, latency_p99_ms, "o", ms=4, color="#bc4c00", label="p99")
        axes.plot(episode, latency_p50_ms, "o", ms=4, color="#0969da", label="p50")
        axes.axhline(period_ms, color="#1f2328", lw=1, ls="--", label=f"control period {period_ms:g} ms")
        axes.set(xlabel="episode", ylabel="observation to command [ms]", yscale="log")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend(frameon=False, ncols=3, loc="lower left", bbox_to_anchor=(0, 1))

    return figure_svg(draw, (7.0, 2.6))


def _draw_curves(axes: Any, curves: Curves, names: Sequence[str]) -> None:
    for name, colour in zip(names, ("#0969da", "#bc4c00", "#1a7f37"), strict=False):
        if name in curves:
            single = "." if len(curves[name][0]) == 1 else None  # which no line shows
            axes.plot(*curves[name], marker=single, color=colour, label=name)
    axes.set(xlabel="gradient step", ylabel="loss", yscale="log")
    axes.legend(frameon=False)


def figure_svg(draw: Any, size: tuple[float, float]) -> str:
    """SVG text of a plot of `size` [inches]; `draw` gets the axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    draw(axes)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True)
    return buffer.getvalue().partition("<svg")[1] + buffer.getvalue().partition("<svg")[2]


def write_report(path: Path, report: Mapping[str, Any], sections: Sequence[tuple[str, str, str]]) -> None:
    """Write the page: a table of the report's numbers, then sections of (heading, HTML body, caption)."""
    shown = [(key, value) for key, value in report.items() if isinstance(value, (int, float, str, bool))]
    cells = "\n".join(f"<tr><td>{html.escape(k)}</td><td class=n>{html.escape(_number(v))}</td></tr>" for k, v in shown)
    body = "\n".join(
        f"<h2>{html.escape(heading)}</h2>\n{content}\n<p class=d>{html.escape(caption)}</p>"
        for heading, content, caption in sections
    )
    body += f"<h2>Numbers</h2><table>{cells}</table>"
    page = page_html("robolearn demo", str(report["task"]), str(report["instruction"]), body)
    path.write_text(page, encoding="utf-8")


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
