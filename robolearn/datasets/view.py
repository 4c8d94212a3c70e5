"""Looking at an episode: in Rerun, or as a video of its cameras above plots of its vectors."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from robolearn.datasets.disk import moved_when_whole
from robolearn.datasets.pictures import grey_depth
from robolearn.datasets.store import EpisodeInfo
from robolearn.datasets.video import VideoWriter
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.errors import DatasetError
from robolearn.progress import OnProgress, no_progress
from robolearn.types import ActionSource

WIDTH = 960  # pixels, of the video
CAMERA_HEIGHT = 240
PLOT_HEIGHT = 160
BAR_HEIGHT = 28
CURSOR = (220, 60, 60)
MISSING = (70, 0, 0)
FONT = cv2.FONT_HERSHEY_SIMPLEX


def has_rerun() -> bool:
    return importlib.util.find_spec("rerun") is not None


def has_display() -> bool:
    """Whether a window can open."""
    return sys.platform != "linux" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def show_in_rerun(store: ZarrStore, index: int, file: Path | None = None) -> None:
    """Open Rerun's viewer on an episode, or write the recording that it opens to a file ending in .rrd."""
    import rerun

    episode, spec = _episode(store, index), store.spec
    rerun.init("robolearn", recording_id=f"{store.path.stem} {episode.id}")
    if file is not None:
        rerun.save(file)
    else:
        try:
            rerun.spawn()
        except RuntimeError as error:
            raise DatasetError(f"Rerun does not open ({str(error).splitlines()[0]}); use --out episode.mp4") from error
    valid, stamps = store.read_valid(index), store.read_stamps(index)
    vectors = store.read(index, [n for n, field in spec.fields.items() if n not in spec.image_fields])
    for step in range(episode.length):
        rerun.set_time("step", sequence=step)
        captured = max(int(stamp[step, 0]) for stamp in stamps.values())
        if captured >= 0:
            rerun.set_time("stamp", duration=captured * 1e-9)
        for name, values in vectors.items():
            if valid.get(name, np.ones(episode.length, bool))[step]:
                rerun.log(name, rerun.Scalars(np.atleast_1d(values[step]).astype(float).reshape(-1)))
        for name in spec.image_fields:
            if valid[name][step]:
                image = store.read(index, [name], step, step + 1)[name][0]
                rerun.log(name, rerun.Image(image) if image.ndim == 3 else rerun.DepthImage(image))


def write_video(store: ZarrStore, index: int, file: Path, progress: OnProgress = no_progress) -> None:
    """Write an episode as MP4: cameras beside each other, plots of the vectors with a cursor, and what is known of it.

    A picture that is masked is dark red. Of depth near is bright, and what was not measured is black.
    """
    episode = _episode(store, index)
    plots = _plots(store, index)
    # what it is named while it is written has another ending, and the ending says what it is
    with moved_when_whole(file) as temporary:
        named = temporary.with_name(f"{temporary.name}.mp4")
        try:
            shape = (BAR_HEIGHT + CAMERA_HEIGHT * bool(store.spec.image_fields) + plots.shape[0], WIDTH, 3)
            with VideoWriter(named, store.spec.interface.control_hz, shape) as video:
                for step, frame in enumerate(_frames(store, index, plots)):
                    video.append(frame)
                    progress(step + 1, episode.length)
            named.rename(temporary)
        finally:
            named.unlink(missing_ok=True)


def _episode(store: ZarrStore, index: int) -> EpisodeInfo:
    if not 0 <= index < len(store.episodes):
        raise DatasetError(f"{store.path} has {len(store.episodes)} episodes, counted from 0; there is no {index}")
    return store.episodes[index]


def _frames(store: ZarrStore, index: int, plots: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    episode, hz = store.episodes[index], store.spec.interface.control_hz
    cameras = store.spec.image_fields
    valid = store.read_valid(index)
    read = store.read(index, ["action_source", "held"])
    sources = {int(source): source.name.lower() for source in ActionSource}
    success = {True: "success", False: "failure", None: "success unknown"}[episode.success]
    left, right = _PLOT_EDGES
    for step in range(episode.length):
        who = sources.get(int(read["action_source"][step]), "unknown source")
        text = f"{store.path.name} {index}  {episode.task}  {success}   step {step}/{episode.length}  {step / hz:.2f} s"
        bar = np.full((BAR_HEIGHT, WIDTH, 3), 24, np.uint8)
        held = "  HELD" if read["held"][step] else ""
        cv2.putText(bar, f"{text}  {who}{held}", (8, 19), FONT, 0.45, (235, 235, 235), 1, cv2.LINE_AA)
        parts = [bar]
        if cameras:
            pictures = {
                name: store.read(index, [name], step, step + 1)[name][0] if valid[name][step] else None
                for name in cameras
            }
            parts.append(_row(pictures, store))
        drawn = plots.copy()
        x = round(left + (right - left) * step / max(episode.length - 1, 1))
        cv2.line(drawn, (x, 0), (x, len(drawn)), CURSOR, 1)
        yield np.concatenate([*parts, drawn])


def _row(pictures: dict[str, NDArray | None], store: ZarrStore) -> NDArray[np.uint8]:
    """Pictures beside each other, (CAMERA_HEIGHT, WIDTH, 3), each with its name."""
    row = np.zeros((CAMERA_HEIGHT, WIDTH, 3), np.uint8)
    room = WIDTH // len(pictures)
    for number, (name, picture) in enumerate(pictures.items()):
        height, width = store.spec.fields[name].shape[:2]
        scale = min(CAMERA_HEIGHT / height, room / width)
        size = max(round(width * scale), 1), max(round(height * scale), 1)
        if picture is None:
            image = np.full((size[1], size[0], 3), MISSING, np.uint8)
        else:
            near = cv2.INTER_NEAREST if scale > 1 else cv2.INTER_AREA
            image = np.asarray(cv2.resize(_colours(picture), size, interpolation=near), np.uint8)
        left = number * room + (room - size[0]) // 2
        row[: size[1], left : left + size[0]] = image
        label = name.removeprefix("image_") + ("" if picture is not None else ": no picture")
        for colour, off in (((0, 0, 0), 1), ((255, 255, 255), 0)):  # of one weight, for OpenCV 5 spaces others wider
            cv2.putText(row, label, (left + 6 + off, 18 + off), FONT, 0.5, colour, 1, cv2.LINE_AA)
    return row


def _colours(picture: NDArray) -> NDArray[np.uint8]:
    if picture.ndim == 3 and picture.shape[2] == 3:
        return picture.astype(np.uint8)
    flat = picture.reshape(picture.shape[:2])
    grey = flat if flat.dtype == np.uint8 else grey_depth(flat)
    return np.repeat(grey[:, :, None], 3, axis=2)


_PLOT_EDGES = (60, WIDTH - 150)  # pixels of the first and the last step; names stand to the right


def _plots(store: ZarrStore, index: int) -> NDArray[np.uint8]:
    """A plot of the observed vector and one of the action, what was sent drawn thin; masked steps are gaps."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    fields = store.spec.fields
    rows = [name for name in ("proprio", "action", "reward") if name in fields]
    read = store.read(index, [*rows, "action_sent"])
    valid = store.read_valid(index)
    figure = Figure(figsize=(WIDTH / 100, PLOT_HEIGHT * len(rows) / 100), dpi=100)
    canvas = FigureCanvasAgg(figure)
    for number, name in enumerate(rows):
        bottom = 1 - (number + 1) / len(rows)
        axes = figure.add_axes(
            (
                _PLOT_EDGES[0] / WIDTH,
                bottom + 0.14 / len(rows),
                (_PLOT_EDGES[1] - _PLOT_EDGES[0]) / WIDTH,
                0.72 / len(rows),
            )
        )
        values = _gaps(read[name], valid[name])
        lines = axes.plot(values, linewidth=1.2)
        if name == "action":
            for line, sent in zip(lines, _gaps(read["action_sent"], valid["action_sent"]).T, strict=True):
                axes.plot(sent, linewidth=0.7, linestyle=":", color=line.get_color())
        names = fields[name].names or (name,)
        size = 6 if len(names) < 9 else 4.5
        axes.legend(lines, names, fontsize=size, loc="center left", bbox_to_anchor=(1.005, 0.5), frameon=False)
        unit = f" [{fields[name].unit}]" if fields[name].unit else ""
        dotted = ", sent dotted" if name == "action" and valid["action_sent"].any() else ""
        axes.set_title(f"{name}{unit}{dotted}", fontsize=8, loc="left", pad=2)
        axes.set_xlim(0, max(len(values) - 1, 1))
        axes.tick_params(labelsize=6, pad=1, length=2)
        axes.grid(alpha=0.3)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[:, :, :3].copy()


def _gaps(values: NDArray, valid: NDArray[np.bool_]) -> NDArray[np.float64]:
    rows = values.reshape(len(values), -1).astype(np.float64)
    rows[~valid] = np.nan
    return rows
