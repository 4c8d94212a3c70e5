"""How soon does a dataset of 1,000 episodes show in a browser, and how fast are its pictures scrubbed?

A real Chromium, headless, against a server in a process of its own. `open_s`: from the address to the rows of the
table, when nobody has opened it before; `reopen_s`: the same again. Playing in real time (30 steps of two pictures of
640x480 a second) and dragging the slider count the pictures that were drawn. Processor time is the server's, for each
picture of the episode.

    python benchmarks/web_datasets.py --json
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Page, sync_playwright

from robolearn.datasets.store import DatasetSpec, EpisodeMeta, ImageCodec, WriterConfig
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.specs import InterfaceSpec, RobotSpec, image_spec
from robolearn.types import EpisodeOutcome

JOINTS = tuple(f"joint_{number}" for number in range(6))
ROBOT = RobotSpec("arm", JOINTS, (-3.0,) * 6, (3.0,) * 6, (2.0,) * 6)
SERVER = """
import sys
from pathlib import Path
from robolearn.web.server import make_server
from robolearn.web.settings import WebSettings
make_server(WebSettings(port=int(sys.argv[1]), data_roots=(Path(sys.argv[2]),))).run()
"""
COUNT_STEPS = """canvas => {
    window.drawn = 0;
    new MutationObserver(seen => window.drawn += seen.length).observe(canvas, {attributeFilter: ["data-step"]});
}"""
DRAG = """async ([slider, seconds]) => {
    const set = Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value").set;
    const begin = performance.now();
    for (let now = begin; now < begin + 1000 * seconds; now = await new Promise(requestAnimationFrame)) {
        const share = 0.5 - 0.5 * Math.cos((now - begin) / 1000 / seconds * 4 * Math.PI);  // there and back, twice
        set.call(slider, Math.round(share * Number(slider.max)));
        slider.dispatchEvent(new Event("input", {bubbles: true}));
    }
}"""


def record(path: Path, episodes: int, steps: int, size: tuple[int, int], codec: ImageCodec) -> None:
    """Episodes with two cameras: a smooth background, a moving block, sensor noise."""
    fields = {"proprio": ROBOT.proprio_spec, "image_front": image_spec(*size), "image_wrist": image_spec(*size)}
    interface = InterfaceSpec(fields, ROBOT.action_spec, control_hz=30.0)
    store = ZarrStore.create(path, DatasetSpec(ROBOT, interface, ("push-v1",), image_codec=codec))
    rng = np.random.default_rng(0)
    y, x = np.mgrid[: size[0], : size[1]]
    smooth = np.stack([128 + 80 * np.sin(x / 9 + c) * np.cos(y / 11) for c in range(3)], -1)
    noisy = [(smooth + rng.normal(0, 2, smooth.shape)).clip(0, 255).astype(np.uint8) for _ in range(8)]
    with store.writer(WriterConfig(fsync=False, statistics=False)) as writer:
        for number in range(episodes):
            writer.begin(EpisodeMeta(task="push-v1", instruction="push the block", operator=f"person {number % 3}"))
            for step in range(steps):
                image = noisy[step % len(noisy)].copy()
                left = step % (size[1] - 20)
                image[10:30, left : left + 20] = (220, 40, 40)
                values = {
                    "proprio": np.sin(np.arange(12) + step / 20).astype(np.float32),
                    "image_front": image,
                    "image_wrist": image[:, ::-1],
                    "action": np.sin(np.arange(6) + step / 20 + 0.1).astype(np.float32),
                }
                writer.append(values, dict.fromkeys(values, step * 33_333_333))
            writer.commit(EpisodeOutcome(number % 4 != 0, True, False))


def cpu_s(process: subprocess.Popen[bytes]) -> float:
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def opened_s(page: Page, address: str) -> float:
    page.goto("about:blank")
    begin = time.perf_counter()
    page.goto(address)
    page.locator("tbody tr").nth(99).wait_for()
    return time.perf_counter() - begin


def scrubbed(page: Page, server: subprocess.Popen[bytes], seconds: float) -> dict[str, float]:
    """Of the episode that the page shows."""
    canvas = page.locator("canvas[data-step]").first
    canvas.wait_for()
    canvas.evaluate(COUNT_STEPS)
    slider = page.get_by_role("slider", name="Step")
    answer = {}
    for what in ("play", "drag"):
        slider.fill("0")
        page.wait_for_timeout(300)
        page.evaluate("window.drawn = 0")
        before, begin = cpu_s(server), time.perf_counter()
        if what == "play":
            page.get_by_role("button", name="Play").click()
            page.get_by_role("button", name="Play").wait_for()  # it has come to the end
        else:
            page.evaluate(DRAG, [slider.element_handle(), seconds])
        took = time.perf_counter() - begin
        steps = page.evaluate("window.drawn")
        answer[f"{what}_images_per_s"] = round(2 * steps / took, 1)
        if what == "play":  # afterwards the browser has them all
            images = 2 * (int(slider.get_attribute("max") or 0) + 1)
            answer["server_cpu_ms_per_image"] = round(1000 * (cpu_s(server) - before) / images, 2)
    return answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=20, help="of each of them")
    parser.add_argument("--scrub-steps", type=int, default=150, help="of the episodes of 640x480 that are scrubbed")
    parser.add_argument("--drag-s", type=float, default=6.0)
    parser.add_argument("--data", type=Path, help="folder of the datasets, which an earlier call may have made")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    browser_path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as free:
        root, port = arguments.data or Path(folder), free.getsockname()[1]
        free.close()
        if not (root / "h264.zarr").exists():  # the last one that is made
            record(root / "many.zarr", arguments.episodes, arguments.steps, (48, 64), ImageCodec())
            for name in ("jpeg", "h264"):
                record(root / f"{name}.zarr", 1, arguments.scrub_steps, (480, 640), ImageCodec(name))
        server = subprocess.Popen([sys.executable, "-c", SERVER, str(port), str(root)])
        try:
            with sync_playwright() as playwright:
                flags = ["--disable-gpu", *(["--no-sandbox"] if os.getuid() == 0 else [])]
                browser = playwright.chromium.launch(executable_path=browser_path, args=flags)
                page = browser.new_page(viewport={"width": 1440, "height": 900})
                address = f"http://127.0.0.1:{port}/"
                _wait_for(port)
                page.goto(address)
                page.get_by_role("navigation", name="Pages").wait_for()
                answer: dict[str, Any] = {"episodes": arguments.episodes}
                answer["open_s"] = round(opened_s(page, f"{address}#/datasets/many.zarr"), 3)
                answer["reopen_s"] = round(min(opened_s(page, f"{address}#/datasets/many.zarr") for _ in range(3)), 3)
                for name in ("jpeg", "h264"):
                    episode = ZarrStore.open(root / f"{name}.zarr").episodes[0].id
                    page.goto("about:blank")
                    page.goto(f"{address}#/episode/{name}.zarr/{episode}")
                    answer |= {f"{name}_{k}": v for k, v in scrubbed(page, server, arguments.drag_s).items()}
                browser.close()
        finally:
            server.kill()
            server.wait()
    answer["cores"] = os.cpu_count()
    sys.stdout.write(json.dumps(answer, indent=2) + "\n")


def _wait_for(port: int) -> None:
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except ConnectionRefusedError:
            time.sleep(0.05)


if __name__ == "__main__":
    main()
