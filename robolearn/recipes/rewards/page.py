"""The audit as a page: a leaderboard, then what each model says of a success, a near-miss and a failure."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robolearn.recipes.report import figure_svg, montage, page_html, png_data_uri
from robolearn.recipes.rewards.audit import Audits
from robolearn.recipes.rewards.data import RewardData
from robolearn.rewards.audit import METRIC_WORDS, Audit, in_words

PICTURES = 10  # in a film strip
SAID = (
    "An episode of each sort. Its frame is green for a success, red for a failure, grey where nobody knows. Each curve "
    "is scaled to the range of its model over all episodes. Pictures are those of camera {camera}."
)
WIDE = "<div class=w tabindex=0>"  # what is wider than the screen is moved by keys, too
PLURALS = {"episode": "episodes", "success": "successes", "near-miss": "near-misses"}
AUDIT_STYLE = """
body{max-width:76rem}.bad{color:var(--bad)}small{color:var(--faint);font-weight:400}
h3{font-size:1rem;margin-bottom:.3rem}table{font-size:.85rem}th{font-weight:600;vertical-align:bottom}th.n{text-align:right}
td.g{min-width:9rem}div.w{overflow-x:auto}div.e{min-width:56rem}svg{display:block;width:100%}
"""
COLOURS = ("#0969da", "#bc4c00", "#1a7f37", "#8250df", "#cf222e", "#9a6700")


def write_audit_page(path: Path, data: RewardData, audits: Audits) -> None:
    """Write one HTML file that needs nothing beside it."""
    shown = _shown(audits)
    sections = [f"<h2>Leaderboard</h2>{_leaderboard(audits)}"]
    if len(audits.models) > 1:
        sections.append(f"<h2>Agreement</h2><p class=d>Spearman over all steps.</p>{_agreement(audits)}")
    sections += [_calibration(one) for one in audits.models if one.calibration]
    camera = data.cameras[0]
    sections.append(f"<h2>What they say</h2><p class=d>{SAID.format(camera=html.escape(camera))}</p>")
    for row, what in shown:
        images = data.images(audits.episodes[row], camera)
        steps = np.linspace(0, len(images) - 1, PICTURES).round().astype(int)
        strip = png_data_uri(montage([([images[step] for step in steps], audits.facts[row].success)]))
        info = data.store.episodes[audits.episodes[row]]
        sections.append(
            f"<h3>{what}: {html.escape(info.instruction or info.task)} <small>{html.escape(info.id)}</small></h3>"
            f"{WIDE}<div class=e><img alt='film strip of the episode' src='{strip}'>{_curves(audits, row)}"
            "</div></div>"
        )
    success = sum(one.success is True for one in audits.facts)
    near = sum(one.near_miss for one in audits.facts)
    counts = ((len(audits.facts), "episode"), (success, "success"), (near, "near-miss"))
    episodes, *outcomes = (f"{count} {name if count == 1 else PLURALS[name]}" for count, name in counts)
    unknown = sum(one.success is None for one in audits.facts)
    outcomes += [f"{unknown} of unknown outcome"] if unknown else []
    head = f"{episodes} of {data.path.name}: {', '.join(outcomes)}" + (f"; {audits.chosen}" if audits.chosen else "")
    path.write_text(page_html("Reward audit", "Reward audit", head, "".join(sections), AUDIT_STYLE), encoding="utf-8")


def _leaderboard(audits: Audits) -> str:
    """A row for each model, best first, with the measures that any of them has; what misses its gate is red."""
    columns = [key for key in METRIC_WORDS if any(one.metrics[key] is not None for one in audits.models)]
    head = "".join(f"<th class=n>{html.escape(METRIC_WORDS[key])}</th>" for key in columns)
    rows = []
    for one in audits.models:
        gates = {gate.metric: in_words(str(gate), one.metrics) for gate in one.missed}
        cells = "".join(
            f"<td class='n{' bad' if key in gates else ''}' title='{html.escape(gates.get(key, ''))}'>"
            f"{_number(one.metrics[key])}</td>"
            for key in columns
        )
        verdict = f"<td class='g{' bad' if gates else ''}'>{html.escape('; '.join(gates.values()) or 'none')}</td>"
        rows.append(f"<tr><td>{html.escape(one.name)} <small>{one.kind}</small></td>{verdict}{cells}</tr>")
    return f"{WIDE}<table><tr><th>model</th><th>gates missed</th>{head}</tr>{''.join(rows)}</table></div>"


def _agreement(audits: Audits) -> str:
    names = [one.name for one in audits.models]
    head = "".join(f"<th class=n>{html.escape(name)}</th>" for name in names)
    rows = "".join(
        f"<tr><td>{html.escape(a)}</td>"
        f"{''.join(f'<td class=n>{_number(audits.agreement[a][b])}</td>' for b in names)}</tr>"
        for a in names
    )
    return f"{WIDE}<table><tr><th>model</th>{head}</tr>{rows}</table></div>"


def _calibration(one: Audit) -> str:
    """What a classifier's probabilities at the last step are worth."""
    rows = "".join(
        f"<tr><td class=n>{said:.2f}</td><td class=n>{was:.2f}</td><td class=n>{count}</td></tr>"
        for said, was, count in one.calibration
    )
    return (
        f"<h2>Calibration of {html.escape(one.name)}</h2><p class=d>At the last step. Where it is good, the first "
        f"two are alike.</p>{WIDE}<table><tr><th class=n>probability said</th><th class=n>share of successes</th>"
        f"<th class=n>episodes</th></tr>{rows}</table></div>"
    )


def _number(value: float | None) -> str:
    return "\N{EN DASH}" if value is None else f"{value:.3f}"


def _shown(audits: Audits) -> list[tuple[int, str]]:
    """A row of each sort, where there is one."""
    sorts = (
        ("success", [i for i, one in enumerate(audits.facts) if one.success]),
        ("near-miss", [i for i, one in enumerate(audits.facts) if one.near_miss]),
        ("failure", [i for i, one in enumerate(audits.facts) if one.success is False and not one.near_miss]),
        ("unknown outcome", [i for i, one in enumerate(audits.facts) if one.success is None]),
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
        axes.legend(frameon=False, ncols=4, loc="lower left", bbox_to_anchor=(0, 1), fontsize=8)

    return figure_svg(draw, (12.3, 2.6))  # as wide as the page


def _scaled(values: Sequence[NDArray[np.float64]], row: int) -> NDArray[np.float64]:
    low, high = (float(limit(np.concatenate(list(values)))) for limit in (np.min, np.max))
    return (values[row] - low) / max(high - low, 1e-12)
