"""The morning report: what a night of practice brought, judged by the reward model and, in the twin, by the truth."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robolearn.datasets.store import EpisodeInfo
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.recipes.finetune.collector import REPLAY
from robolearn.recipes.finetune.film import FOLDER
from robolearn.recipes.finetune.settings import FinetuneConfig
from robolearn.recipes.report import figure_svg, page_html
from robolearn.runs import read_metrics
from robolearn.tasks import make_task

REPORT = "report.html"
WINDOW = 40  # attempts that a curve averages over
SHOWN = 4  # film strips of the first and of the last attempts
MARK = ".-"  # a single attempt is seen, too
COLOURS = {"judged": "#0969da", "true": "#1a7f37", "evaluated": "#bc4c00"}


def write_morning_report(run: Path) -> dict[str, Any]:
    """Write `run/report.html` and answer with its numbers."""
    config = FinetuneConfig.read(run)
    episodes = ZarrStore.open(run / REPLAY).episodes if (run / REPLAY).exists() else []
    curves = read_metrics(run / "metrics.csv") if (run / "metrics.csv").exists() else {}
    numbers = summary(config, episodes, curves)
    explained = SUCCESS_CAPTION
    if "success_rate" in curves:
        explained += EVALUATED_CAPTION.format(episodes=config.evaluation_episodes)
    sections = [("Success over time", _success_plot(config, episodes, curves), explained)] if episodes else []
    if any(info.tags["truth"] is not None for info in episodes):
        watched = WATCH_CAPTION + (BOTH_CAPTION if len(config.task_ids) > 1 else "")
        sections += [("False-positive watch", _watch_plot(episodes), watched)]
    sections += [("People", _people(config, episodes, numbers), "")] if episodes else []
    films = sorted((run / FOLDER).glob("*.png")) if (run / FOLDER).exists() else []
    sections += [("First attempts", _strips(config, films[:SHOWN]), STRIP_CAPTION)]
    if last := films[SHOWN:][-SHOWN:]:
        sections += [("Last attempts", _strips(config, last), "")]
    body = "\n".join(
        f"<h2>{html.escape(heading)}</h2>\n{content}\n<p class=d>{html.escape(caption)}</p>"
        for heading, content, caption in sections
    )
    shown = "".join(
        f"<div class=t><b>{value}</b><span>{html.escape(name)}</span></div>" for name, value in tiles(numbers)
    )
    page = page_html(
        f"practice of {config.task}",
        f"Practice of {config.task}",
        f"{'; and '.join(make_task(name).instruction for name in config.task_ids)}. Reward: {config.reward}. "
        f"{_stopped(run)}",
        f"<div class=ts>{shown}</div>{body}",
        EXTRA_STYLE,
    )
    (run / REPORT).write_text(page, encoding="utf-8")
    return numbers


SUCCESS_CAPTION = (
    f"Attempts at the target task, mean of the last {WINDOW}. Judged is what the judge said, true what the twin knows "
    "or what tags tell; where judged runs ahead of true, the policy has learned to please the judge."
)
EVALUATED_CAPTION = (
    " Evaluated: {episodes} episodes from fresh starts, by the most likely action of the policy that is kept, the "
    "newest one's running mean."
)
WATCH_CAPTION = (
    "Of the attempts that the model called a success, the share that was none (false); of those that it did not, the "
    f"share that was one (missed). Mean of the last {WINDOW}."
)
BOTH_CAPTION = (
    " Of both tasks; a way back may be called done as it begins, where the attempt before it moved nothing away."
)
STRIP_CAPTION = (
    "From the beginning of an attempt to its end; the frame is green where it is known for a success, red where it is "
    "known for none."
)
KNOWN = {"true": ", in truth a success", "false": ", in truth none"}  # by what the name of a strip says
EXTRA_STYLE = """
.ts{display:flex;flex-wrap:wrap;gap:.8rem;margin:1.2rem 0}
.t{border:1px solid var(--line);border-radius:6px;padding:.6rem 1rem;min-width:7.5rem}
.t b{display:block;font-size:1.35rem;font-variant-numeric:tabular-nums}.t span{color:var(--faint);font-size:.85rem}
figure{margin:.4rem 0 .9rem}figcaption{font-size:.85rem;color:var(--faint)}
figure img{border:3px solid var(--line);border-radius:4px;box-sizing:border-box;image-rendering:auto}
figure.true img{border-color:#2ea043}figure.false img{border-color:#cf222e}svg{width:100%}
"""


def summary(config: FinetuneConfig, episodes: Sequence[EpisodeInfo], curves: Any) -> dict[str, Any]:
    """The numbers of a run so far."""
    mine = [info for info in episodes if info.task == config.task]
    last = mine[-50:]
    rates = curves.get("success_rate", (np.zeros(0), np.zeros(0)))[1]
    judged = [info for info in episodes if info.success]
    hours = sum(info.num_actions for info in episodes) / config.space().interface.control_hz / 3600
    human = sum(_takeovers(info) for info in episodes)
    return {
        "task": config.task,
        "steps": sum(info.num_actions for info in episodes),
        "practice_hours": hours,
        "attempts": len(episodes),
        "success_start": float(rates[0]) if len(rates) else None,
        "success_worst": float(rates.min()) if len(rates) else None,
        "success_rate": float(rates[-1]) if len(rates) else None,
        "attempt_success": _mean([bool(info.success) for info in last]),
        "attempt_truth": _mean([bool(info.tags["truth"]) for info in last if info.tags["truth"] is not None]),
        "false_positives": _mean([not info.tags["truth"] for info in judged if info.tags["truth"] is not None]),
        "done_from_the_start": sum(bool(info.tags.get("done_from_the_start")) for info in judged),
        "human_resets": episodes[-1].tags["resets"] if episodes else 0,
        "recoveries": episodes[-1].tags["recoveries"] if episodes else 0,
        "recovery_steps": episodes[-1].tags["recovery_steps"] if episodes else 0,
        "human_steps_per_hour": human / hours if hours else 0.0,
    }


def _takeovers(info: EpisodeInfo) -> int:
    return int(info.tags["human_steps"])


def _mean(values: list[bool]) -> float | None:
    return float(np.mean(values)) if values else None


def tiles(numbers: dict[str, Any]) -> list[tuple[str, str]]:
    """Words and value of what of the `summary` people are told first."""

    def share(name: str) -> str:
        return "-" if numbers[name] is None else f"{numbers[name]:.0%}"

    return [
        ("success before", share("success_start")),
        ("success now", share("success_rate")),
        ("judged, last 50", share("attempt_success")),
        ("true, last 50", share("attempt_truth")),
        ("judged falsely", share("false_positives")),
        ("attempts", f"{numbers['attempts']:,}"),
        ("decisions", f"{numbers['steps']:,}"),
        ("hours of practice", f"{numbers['practice_hours']:.2f}"),
        ("human resets", str(numbers["human_resets"])),
        ("own recoveries", str(numbers["recoveries"])),
        ("human steps an hour", f"{numbers['human_steps_per_hour']:.0f}"),
    ]


def _running(values: list[bool]) -> NDArray[np.float64]:
    """Mean of the last WINDOW values (or fewer) at each of them."""
    total = np.cumsum([0.0, *map(float, values)])
    at = np.arange(1, len(values) + 1)
    low = np.maximum(at - WINDOW, 0)
    return (total[at] - total[low]) / (at - low)


def _success_plot(config: FinetuneConfig, episodes: Sequence[EpisodeInfo], curves: Any) -> str:
    at = np.cumsum([info.num_actions for info in episodes])
    mine = [i for i, info in enumerate(episodes) if info.task == config.task]

    def draw(axes: Any) -> None:
        judged = [bool(episodes[i].success) for i in mine]
        known = [i for i in mine if episodes[i].tags["truth"] is not None]
        true = [bool(episodes[i].tags["truth"]) for i in known]
        axes.plot(at[mine], _running(judged), MARK, color=COLOURS["judged"], label="judged")
        if known:
            axes.plot(at[known], _running(true), MARK, color=COLOURS["true"], label="true")
        if "success_rate" in curves:
            axes.plot(*curves["success_rate"], "o-", ms=4, color=COLOURS["evaluated"], label="evaluated")
        axes.set(xlabel="decisions", ylabel="success", xlim=(0, at[-1] * 1.02), ylim=(-0.02, 1.02))
        axes.legend(frameon=False, ncols=3, loc="lower left", bbox_to_anchor=(0, 1))

    return figure_svg(draw, (8.0, 3.2))


def _watch_plot(episodes: Sequence[EpisodeInfo]) -> str:
    at = np.cumsum([info.num_actions for info in episodes])
    known = [i for i, info in enumerate(episodes) if info.tags["truth"] is not None]
    sides = {
        "false": [i for i in known if episodes[i].success],
        "missed": [i for i in known if not episodes[i].success],
    }

    def draw(axes: Any) -> None:
        for (name, rows), colour in zip(sides.items(), ("#cf222e", "#8250df"), strict=True):
            wrong = [bool(episodes[i].tags["truth"]) is not bool(episodes[i].success) for i in rows]
            axes.plot(at[rows], _running(wrong), MARK, color=colour, label=name)
        axes.set(xlabel="decisions", ylabel="share", xlim=(0, at[-1] * 1.02), ylim=(-0.02, 1.02))
        axes.legend(frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(0, 1))

    return figure_svg(draw, (8.0, 2.2))


def _people(config: FinetuneConfig, episodes: Sequence[EpisodeInfo], numbers: dict[str, Any]) -> str:
    reasons: dict[str, int] = {}
    for info in episodes:
        if info.reason:
            reasons[info.reason] = reasons.get(info.reason, 0) + 1
    rows = "".join(f"<tr><td>{html.escape(k)}</td><td class=n>{v}</td></tr>" for k, v in reasons.items())
    steps = sum(_takeovers(info) for info in episodes)
    acted = f"acted for {steps} decisions" if steps else "never took over"
    asked = f"A person was asked {_times(numbers['human_resets'])} to put things right, and {acted}."
    if not numbers["human_resets"]:
        asked = f"A person {acted} and was not asked for." if steps else "No person was asked for, and none took over."
    minutes = numbers["recovery_steps"] / config.space().interface.control_hz / 60
    if numbers["recoveries"]:
        asked += f" The robot put things back by itself {_times(numbers['recoveries'])}, in {minutes:.1f} minutes."
    if count := numbers["done_from_the_start"]:
        asked += f" Judged done from the first frame on, so that there was nothing to do: {_times(count)}."
    unwatched = f"<p>In this run {html.escape(config.unwatched)}.</p>" if config.unwatched else ""
    table = f"<table><tr><th>why an attempt was cut off</th><th>times</th></tr>{rows}</table>" if rows else ""
    return f"<p>{asked}</p>{unwatched}{table}"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _strips(config: FinetuneConfig, films: Sequence[Path]) -> str:
    figures = []
    for file in films:
        number, task, end, truth = file.stem.split("_")
        name = config.task_ids[int(task)]
        data = base64.b64encode(file.read_bytes()).decode()
        said = {"success": "judged a success", "timeout": "timed out"}.get(end, end)
        text = f"attempt {int(number) + 1}, {name}: {said}{KNOWN.get(truth, '')}"
        figures.append(
            f"<figure class={truth}><img src='data:image/png;base64,{data}' alt='{text}'>"
            f"<figcaption>{text}</figcaption></figure>"
        )
    return "".join(figures) or "<p class=d>nothing was filmed</p>"


def _stopped(run: Path) -> str:
    file = run / "stopped.txt"
    return f"Stopped: {file.read_text(encoding='utf-8')}." if file.exists() else "Not stopped yet."
