"""`robolearn reward audit` and `reward leaderboard`."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import Any

from robolearn.cli.output import EXIT_NO, Dataset, counted, print_json, print_table, say
from robolearn.cli.reward_models import gates_missed, remark_other_data, reward_model, short
from robolearn.errors import RobolearnError, UnknownNameError
from robolearn.progress import ProgressBar


def reward_audit(
    dataset: Dataset,
    reward: tuple[str, ...],
    out: Path | None = None,
    all_episodes: bool = False,
    device: str = "cpu",
    json: bool = False,
) -> int:
    """Measure how far a reward model can be trusted; exit code 1 when it misses a gate.

    It is judged on episodes that none of the models was trained on, where there are some. The verdict on those is kept
    with it, and is the one that counts: what missed a gate labels datasets, but teaches no real robot unless forced.

    Example: robolearn reward audit demos.zarr --reward runs/progress --out runs/audit

    Args:
        dataset: episodes of known outcome; poses in it give true progress too.
        reward: folders of models, or columns of the dataset.
        out: folder for audit.json and audit.html.
        all_episodes: judge on those that models were trained on, too, which flatters them.
        device: cpu or cuda.
    """
    from robolearn.recipes.rewards.audit import keep_audit

    audits = _audit(dataset, reward, out, all_episodes, device, json, f"audit of {dataset}")
    passed = [one.passed for one in audits.models]
    for name in reward:
        if Path(name).exists():
            unseen, told = keep_audit(Path(name), dataset, audits)
            passed.append(unseen)
            say(told)
    return 0 if all(passed) else EXIT_NO


def reward_leaderboard(
    dataset: Dataset,
    reward: tuple[str, ...] = (),
    out: Path | None = None,
    all_episodes: bool = False,
    device: str = "cpu",
    json: bool = False,
) -> int:
    """All models, and all columns that the dataset has, on the same episodes, best first.

    Those are the ones that no model was trained on, where there are some. A column that lacks an episode, as after a
    labelling that was stopped, is left out and named. So is a shaped one, for what it was shaped of stands for it.

    Example: robolearn reward leaderboard demos.zarr --reward runs/progress runs/success

    Args:
        dataset: episodes of known outcome.
        reward: folders of models that are not columns of the dataset yet.
        out: folder for audit.json and audit.html.
        all_episodes: judge on those that models were trained on, too, which flatters them.
        device: cpu or cuda.
    """
    from robolearn.datasets.zarr_store import ZarrStore
    from robolearn.recipes.rewards.audit import shaped_from

    store = ZarrStore.open(dataset)
    labelled = []
    for name, column in store.columns.items():
        if shaped_from(column):
            say(f"left out: {name} is made of differences, whose values do not say how an episode ended")
        elif _scored(name, column):
            lacks = sum(not column.has(one.id, one.start, one.stop) for one in store.episodes)
            if lacks:
                say(f"left out: {name} lacks {counted(lacks, 'episode')} of {len(store.episodes)}; label them first")
            else:
                labelled.append(name)
    _audit(dataset, (*reward, *labelled), out, all_episodes, device, json, f"leaderboard of {dataset}")
    return 0


def _scored(name: str, column: Any) -> bool:
    from robolearn.recipes.rewards.label import BESIDE

    return "kind" in column.attributes and name.partition("/")[0] not in BESIDE


def _audit(
    dataset: Path,
    reward: tuple[str, ...],
    out: Path | None,
    all_episodes: bool,
    device: str,
    json: bool,
    title: str,
) -> Any:
    from robolearn.datasets.zarr_store import ZarrStore
    from robolearn.recipes.rewards.audit import audit_dataset
    from robolearn.recipes.rewards.data import RewardData
    from robolearn.recipes.rewards.page import write_audit_page
    from robolearn.rewards import REWARDS
    from robolearn.rewards.score_client import SCHEMES

    columns = ZarrStore.open(dataset).columns
    named = [name for name in reward if name in columns]
    if reward and device != "cpu" and all(name in columns or name.startswith(SCHEMES) for name in reward):
        raise RobolearnError("--device does nothing for columns, nor for a model of a server; leave it out")
    models = {}
    for name in reward:
        if name not in columns:
            if name not in REWARDS and "://" not in name and not Path(name).exists():
                labelled = [known for known, column in columns.items() if _scored(known, column)]
                raise UnknownNameError("column or reward model", name, [*labelled, *REWARDS])
            if name == "vlm":
                raise RobolearnError(
                    "vlm has no prompts here: name the folder of `robolearn reward train vlm --goal ... --out MODEL`, "
                    "or a column of the dataset"
                )
            model = reward_model(name, None, device, {}, {})
            models[f"{model.id}-{model.version}"] = model
            remark_other_data(name, dataset)
    if not reward:
        raise RobolearnError(f"there is nothing to audit; {dataset} has no labelled columns: give --reward MODEL")
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    with ProgressBar("audit", len(reward), "model") as bar:
        audits = audit_dataset(dataset, models, named, all_episodes, bar.update)
    if audits.chosen:
        say(audits.chosen)
    if out is not None:
        (out / "audit.json").write_text(json_module.dumps(audits.to_json(), indent=2) + "\n", encoding="utf-8")
        write_audit_page(out / "audit.html", RewardData(dataset), audits)
    if json:
        print_json(audits.to_json())
    else:
        header = ("model", "AUROC", "order +", "order -", "rank", "found", "false +", "at 95 % below", "gates missed")
        decisions = ("found_rate", "false_positive_rate", "false_positive_bound")
        keys = ("success_auroc", "voc_success", "voc_failure", "progress_spearman", *decisions)
        rows = [
            (
                one.name,
                *(short(one.metrics[key]) for key in keys),
                gates_missed(one.to_json()),
            )
            for one in audits.models
        ]
        told = audits.to_json()
        outcomes = f"{counted(told['episodes'], 'episode')}, of which {told['successes']} succeeded"
        outcomes += f" and {told['outcome_unknown']} may have" if told["outcome_unknown"] else ""
        print_table(f"{title}: {outcomes}", header, rows)
        if out is not None:
            say(f"page: {out / 'audit.html'}")
    return audits
