"""The audit as a page: a leaderboard, then what each model says of a success, a near-miss and a failure."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robolearn.recipes.report import STYLE, figure_svg, montage, png_data_uri
from robolearn.recipes.rewards.audit import Audits
from robolearn.recipes.rewards.data import RewardData

PICTURES = 10  # in a film strip
COLUMNS = (
    ("success_auroc", "AUROC of success"),
    ("voc_success", "order on successes"),
    ("voc_failure", "order on failures"),
    ("progress_spearman", "rank with true progress"),
    ("stage_accuracy", "stage accuracy"),
    ("false_positive_rate", "false positives"),
    ("near_miss_false_positive_rate", "on near-misses"),
    ("calibration_error", "calibration error"),
    ("epic_distance", "EPIC to reference"),
    ("starc_distance", "STARC to reference"),
)
AUDIT_STYLE = """
body{max-width:76rem}td.bad{color:#cf222e}small{color:#59636e;font-weight:400}h3{font-size:1rem;margin-bottom:.3rem}
div.w{overflow-x:auto}
"""
COLOURS = ("#0969da", "#bc4c00", "#1a7f37", "#8250df", "#cf222e", "#9a6700")


def write_audit_page(path: Path, data: RewardData, audits: Audits) -> None:
    """Write one HTML file that needs nothing beside it."""
    shown = _shown(audits)
    sections = [f"<h2>Leaderboard</h2>{_leaderboard(audits)}"]
    if len(audits.models) > 1:
        sections.append(f"<h2>Agreement</h2><p class=d>Spearman over all steps.</p>{_agreement(audits)}")
    sections.append("<h2>What they say</h2>")
    camera = data.cameras[0]
    for row, what in shown:
        images = data.images(audits.episodes[row], camera)
        steps = np.linspace(0, len(images) - 1, PICTURES).round().astype(int)
        strip = png_data_uri(montage([([images[step] for step in steps], audits.facts[row].success)]))
        info = data.store.episodes[audits.episodes[row]]
        sections.append(
            f"<h3>{html.escape(what)}: {html.escape(info.instruction or info.task)} ({html.escape(info.id)})</h3>"
            f"<img alt='film strip of the episode' src='{strip}'>{_curves(audits, row)}"
        )
    success = sum(one.success for one in audits.facts)
    near = sum(one.near_miss for one in audits.facts)
    head = f"{len(audits.facts)} episodes of {data.path.name}: {success} successes, {near} near-misses"
    path.write_text(
        "<!doctype html><html lang=en><head><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>Reward audit</title><style>{STYLE}{AUDIT_STYLE}</style></head><body><h1>Reward audit</h1>"
        f"<p class=d>{html.escape(head)}</p>{''.join(sections)}</body></html>\n",
        encoding="utf-8",
    )


def _leaderboard(audits: Audits) -> str:
    """A row for each model, best first, with the measures that any of them has; what misses its gate is red."""
    columns = [(key, title) for key, title in COLUMNS if any(one.metrics[key] is not None for one in audits.models)]
    head = "".join(f"<th>{html.escape(title)}</th>" for _, title in columns)
    rows = []
    for one in audits.models:
        gates = {gate.metric: str(gate) for gate in one.missed}
        cells = "".join(
            f"<td class='n{' bad' if key in gates else ''}' title='{html.escape(gates.get(key, ''))}'>"
            f"{_number(one.metrics[key])}</td>"
            for key, _ in columns
        )
        verdict = f"<td class='{'bad' if gates else ''}'>{html.escape('; '.join(gates.values()) or 'passed')}</td>"
        rows.append(f"<tr><td>{html.escape(one.name)} <small>{one.kind}</small></td>{cells}{verdict}</tr>")
    return f"<div class=w><table><tr><th></th>{head}<th>gates</th></tr>{''.join(rows)}</table></div>"


def _agreement(audits: Audits) -> str:
    names = [one.name for one in audits.models]
    head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
    rows = "".join(
        f"<tr><td>{html.escape(a)}</td>"
        f"{''.join(f'<td class=n>{_number(audits.agreement[a][b])}</td>' for b in names)}</tr>"
        for a in names
    )
    return f"<div class=w><table><tr><th></th>{head}</tr>{rows}</table></div>"


def _number(value: float | None) -> str:
    return "\N{EN DASH}" if value is None else f"{value:.3f}"


def _shown(audits: Audits) -> list[tuple[int, str]]:
    """A row of each sort, where there is one."""
    sorts = (
        ("success", [i for i, one in enumerate(audits.facts) if one.success]),
        ("near-miss", [i for i, one in enumerate(audits.facts) if one.near_miss]),
        ("failure", [i for i, one in enumerate(audits.facts) if not one.success and not one.near_miss]),
    )
    return [(rows[0], name) for name, rows in sorts if rows]


def _curves(audits: Audits, row: int) -> str:
    """SVG of every model's value over the steps, each scaled to its own range over all episodes, and true progress."""

    def draw(axes: Any) -> None:
        truth = audits.facts[row].progress
        if truth is not None:
            axes.plot(truth, color="#1f2328", lw=1, ls="--", label="true progress")
        for scores, colour in zip(audits.scores, COLOURS * len(audits.scores), strict=False):
            axes.plot(_scaled(scores.value, row), color=colour, label=scores.name)
        axes.set(xlabel="step", ylabel="value, scaled", ylim=(-0.05, 1.05))
        axes.legend(frameon=False, ncols=3, loc="lower left", bbox_to_anchor=(0, 1), fontsize=8)

    return figure_svg(draw, (9.0, 2.6))


def _scaled(values: Sequence[NDArray[np.float64]], row: int) -> NDArray[np.float64]:
    low, high = (float(limit(np.concatenate(list(values)))) for limit in (np.min, np.max))
    return (values[row] - low) / max(high - low, 1e-12)
