"""The main job: record an expert through the twin's ROS 2 graph, learn from its images, serve, judge, report."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from robolearn import __version__
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.errors import DatasetError, SpecError
from robolearn.progress import ProgressBar
from robolearn.recipes import report as page
from robolearn.recipes.graph import EpisodeResult, free_domain_id, run_graph
from robolearn.recipes.seeds import EVALUATION_SEED
from robolearn.runs import read_metrics, wilson_interval
from robolearn.tasks import make_task

STRIP_IMAGES = 8  # images in a row of the montage
STRIP_EPISODES = 5
MARKER = ".robolearn-demo"  # says that a demo wrote the folder and the next one may replace it
OUTPUTS = ("demonstrations.zarr", "evaluation.zarr", "run", "logs", "report.json", "report.html", "episode.mp4")


@dataclass(frozen=True)
class DemoConfig:
    """Sizes of the demo; the defaults fit six minutes on two cores."""

    task: str = "pick_place-v1"
    demonstrations: int = 80
    perturbation: float = 0.2  # share of steps that the expert is pushed off its path
    image_size: int = 64  # [pixels], height and width
    train_steps: int | None = None  # the algorithm's own number
    episodes: int = 20
    wanted_success_rate: float = 0.8

    @classmethod
    def smoke(cls) -> DemoConfig:
        """Everything that the demo does, too little of it to learn much, on the task of the shortest episodes."""
        return replace(cls(), task="reach-v1", demonstrations=2, train_steps=4, episodes=1)


def run_demo(config: DemoConfig, out: Path, seed: int = 0) -> dict[str, Any]:
    """Run all steps, write the files of `out` and return the report."""
    task = make_task(config.task)
    if seed < EVALUATION_SEED + config.episodes and seed + config.demonstrations > EVALUATION_SEED:
        raise SpecError(
            f"seed {seed} would demonstrate what is judged, the seeds from {EVALUATION_SEED} on; name another"
        )
    _clear(out)
    graph = _Graph(config, out, free_domain_id())

    started_s = time.monotonic()
    dataset = out / "demonstrations.zarr"
    graph.run("collect", "demonstrations", config.demonstrations, seed, dataset, perturbation=config.perturbation)
    collect_seconds = time.monotonic() - started_s

    started_s = time.monotonic()
    training = _train(config, dataset, out / "run", seed)
    if training["interrupted"]:
        raise KeyboardInterrupt
    train_seconds = time.monotonic() - started_s

    evaluation = out / "evaluation.zarr"
    learned = graph.run(
        "evaluate", "learned policy", config.episodes, EVALUATION_SEED, evaluation, policy=training["checkpoint"]
    )
    untrained = graph.run(
        "evaluate", "untrained", config.episodes, EVALUATION_SEED, None, policy=training["untrained_checkpoint"]
    )

    report = {
        "task": task.id,
        "instruction": task.instruction,
        "success_rate": _success_rate(learned),
        "success_ci95": wilson_interval(sum(bool(row["success"]) for row in learned), len(learned)),
        "untrained_success_rate": _success_rate(untrained),
        "episodes": len(learned),
        "demonstrations": len(ZarrStore.open(dataset).episodes),
        "collect_seconds": round(collect_seconds, 1),
        "train_seconds": round(train_seconds, 1),
        "control_hz": task.control_hz,
        "loop_p50_ms": _loop(learned, "loop_p50_ms", 50),
        "loop_p99_ms": _loop(learned, "loop_p99_ms", 100),  # the worst episode's
        "held_steps": sum(row["held_steps"] for row in learned),
        "seed": seed,
        "evaluation_seed": EVALUATION_SEED,
        "checkpoint": str(training["checkpoint"]),
        "dataset": str(dataset),
        "version": __version__,
        "config": asdict(config),
        "learned_episodes": learned,
        "untrained_episodes": untrained,
    }
    (out / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    _write_page(out, report, out / "run" / "metrics.csv", evaluation)
    return report


class _Graph:
    """Runs launch files of one demo: same task, image size, domain and log folder."""

    def __init__(self, config: DemoConfig, out: Path, domain_id: int) -> None:
        self.config, self.out, self.domain_id = config, out, domain_id

    def run(
        self, name: str, title: str, episodes: int, first_seed: int, dataset: Path | None, **arguments: object
    ) -> list[EpisodeResult]:
        """Run `episodes` with a progress bar; they are recorded when `dataset` is given."""
        slug = title.replace(" ", "_")
        logs = self.out / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        arguments |= {
            "task": self.config.task,
            "image_size": self.config.image_size,
            "episodes": episodes,
            "first_seed": first_seed,
            "dataset": str(dataset) if dataset else "",
        }
        successes = 0
        with ProgressBar(title, episodes, "episode") as bar:

            def on_episode(done: int, row: EpisodeResult) -> None:
                nonlocal successes
                successes += bool(row["success"])
                bar.update(done, f"{successes} succeeded")

            return run_graph(
                name, arguments, logs / f"{slug}.jsonl", episodes, on_episode, logs / f"{slug}.log", self.domain_id
            )


def _train(config: DemoConfig, dataset: Path, run: Path, seed: int) -> Mapping[str, Any]:
    from robolearn.recipes.train_offline import train_offline
    from robolearn.recipes.training_loop import default_steps

    steps = config.train_steps or default_steps("bc")
    with ProgressBar("train bc", steps, "step") as bar:
        return train_offline("bc", dataset, run, steps=steps, seed=seed, progress=bar.update)


def _clear(out: Path) -> None:
    """Remove what an earlier demo wrote into `out`; never anything else."""
    if out.exists() and not out.is_dir():
        raise DatasetError(f"{out} is a file; --out wants a folder")
    taken = [name for name in OUTPUTS if (out / name).exists()]
    if taken and not (out / MARKER).exists():
        raise DatasetError(f"{out} has {', '.join(taken)} that no demo wrote; name another --out")
    for name in OUTPUTS:
        path = out / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    out.mkdir(parents=True, exist_ok=True)
    (out / MARKER).touch()


def _success_rate(rows: Sequence[EpisodeResult]) -> float:
    return sum(bool(row["success"]) for row in rows) / len(rows)


def _loop(rows: Sequence[EpisodeResult], key: str, percentile: float) -> float:
    return round(float(np.percentile([row[key] for row in rows], percentile)), 3)


def _write_page(out: Path, report: Mapping[str, Any], metrics: Path, evaluation: Path) -> None:
    store = ZarrStore.open(evaluation)
    cameras = sorted(name for name in store.spec.fields if name.startswith("image_"))
    episodes = [store.read(index, fields=cameras) for index in range(len(store.episodes))]
    first = episodes[0]
    page.write_video(
        out / "episode.mp4",
        (page.side_by_side([first[c][t] for c in cameras]) for t in range(len(first[cameras[0]]))),
        report["control_hz"],
    )
    strips = []
    failures_first = sorted(zip(store.episodes, episodes, strict=True), key=lambda pair: bool(pair[0].success))
    for info, episode in failures_first[:STRIP_EPISODES]:
        ticks = np.linspace(0, info.length - 1, STRIP_IMAGES).round().astype(int)
        strips.append(([episode[cameras[0]][t] for t in ticks], info.success))
    learned, untrained = report["learned_episodes"], report["untrained_episodes"]
    curves = read_metrics(metrics)
    low, high = report["success_ci95"]
    success = (
        f"<table><tr><th>policy<th>success rate (95 % interval)<th>episodes</tr>"
        f"<tr><td>learned from images<td>{report['success_rate']:.2f} ({low:.2f} to {high:.2f})<td>{len(learned)}</tr>"
        f"<tr><td>untrained<td>{report['untrained_success_rate']:.2f}<td>{len(untrained)}</tr></table>"
    )
    latency = page.plot_latency(
        [row["loop_p50_ms"] for row in learned], [row["loop_p99_ms"] for row in learned], 1000 / report["control_hz"]
    )
    page.write_report(
        out / "report.html",
        report,
        [
            ("Success", success, "Same seeds for both policies; none of them is among the demonstrations."),
            ("Learning curve", page.plot_curves(curves, ("train_loss", "validation_loss")), "Behaviour cloning loss."),
            (
                "Latency of the control loop",
                latency,
                "From the twin's observation to the command's arrival, wall time.",
            ),
            (
                "Episodes",
                f"<img alt='film strips' src='{page.png_data_uri(page.montage(strips))}'>",
                "Evaluation episodes as the front camera saw them, failures (red) first.",
            ),
            ("Video", "<video src='episode.mp4' controls muted></video>", "The first evaluation episode, all cameras."),
        ],
    )
