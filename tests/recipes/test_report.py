"""The demo's report: video, montage, curves, page."""

from __future__ import annotations

import base64
from pathlib import Path

import av
import cv2
import numpy as np

from robolearn.recipes import report
from robolearn.runs import read_metrics


def picture(value: int, size: int = 33) -> np.ndarray:
    image = np.full((size, size, 3), value, np.uint8)
    image[:, : size // 2, 0] = 250
    return image


def test_video_holds_every_image_in_order(tmp_path: Path) -> None:
    path = tmp_path / "episode.mp4"
    values = [20, 80, 140, 200]
    report.write_video(path, (picture(v) for v in values), rate_hz=20, scale=3)
    with av.open(str(path)) as container:
        images = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert container.streams.video[0].average_rate == 20
    assert len(images) == len(values)
    for image, value in zip(images, values, strict=True):
        assert image.shape == (98, 98, 3)  # 33 * 3 = 99, and H.264 wants even sides
        assert abs(float(image[:, 60:, 1].mean()) - value) < 6
        assert image[:, :40, 0].mean() > 220  # red stays red


def test_montage_frames_tell_success(tmp_path: Path) -> None:
    strip = [picture(50)] * 3
    image = report.montage([(strip, True), (strip, None), (strip, False)])
    assert image.shape == (3 * (33 + 2 * report.MARK_PX), 3 * 33 + 2 * report.MARK_PX, 3)
    assert [tuple(image[row, 0]) for row in (0, len(image) // 2, -1)] == [
        report.FRAMES[success] for success in (True, None, False)
    ]
    assert len(set(report.FRAMES.values())) == 3
    uri = report.png_data_uri(image)
    decoded = cv2.imdecode(np.frombuffer(base64.b64decode(uri.partition(",")[2]), np.uint8), cv2.IMREAD_COLOR_RGB)
    np.testing.assert_array_equal(decoded, image)


def test_metrics_skip_empty_cells(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("step,wall_s,train_loss,validation_loss\n10,0.1,0.5,\n20,0.2,0.4,0.6\n")
    curves = read_metrics(path)
    np.testing.assert_array_equal(curves["train_loss"][0], [10, 20])
    np.testing.assert_array_equal(curves["validation_loss"][1], [0.6])
    svg = report.plot_curves(curves, ("train_loss", "validation_loss"))
    assert svg.startswith("<svg")
    assert "validation" in svg


def test_page_escapes_what_it_is_given(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    numbers = {"task": "push-v1", "instruction": "push <b>it</b>", "success_rate": 0.85, "rows": [1, 2]}
    report.write_report(path, numbers, [("Heading & more", "<p id=x>body</p>", "a caption")])
    text = path.read_text()
    assert "push &lt;b&gt;it&lt;/b&gt;" in text
    assert "Heading &amp; more" in text
    assert "<p id=x>body</p>" in text
    assert "0.85" in text
    assert "rows" not in text


def test_latency_plot_draws_every_episode_and_the_period() -> None:
    svg = report.plot_latency([1.0, 1.2, 1.1], [3.0, 4.0, 5.0], period_ms=50.0)
    assert svg.startswith("<svg")
    assert svg.count("<use") >= 6  # a mark an episode and percentile
