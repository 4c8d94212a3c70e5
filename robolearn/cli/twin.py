"""The commands around the twin: fit it to a robot, compare it with a recording, disturb it, ask another engine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from robolearn.cli.output import Dataset, counted, print_json, print_table, say
from robolearn.progress import ProgressBar

What = Annotated[str, Positional, arg(metavar="TASK|DATASET|CELL")]
Checkpoint = Annotated[str, Positional, arg(metavar="CHECKPOINT")]


def twin_fit(
    dataset: Dataset,
    out: Path = Path("runs/twin_fit"),
    task: str = "",
    per_joint: bool = False,
    cell: Path | None = None,
    json: bool = False,
) -> int:
    """Fit the twin's joints and servos to recorded motions of a robot.

    Record a few minutes of free motion with jumps and slow turns; the last episode is kept for the judgement.

    Example: robolearn twin fit motions.zarr --out runs/fit --cell hardware/cells/so101.yaml

    Args:
        dataset: recorded motions; commands and joint states are enough.
        out: folder for physics.yaml, report.json and replay.png.
        task: whose robot it is; by default the dataset's own task.
        per_joint: fit every joint for itself, even where the servos are the same.
        cell: file of the robot's cell, whose section `physics` is written.
    """
    from robolearn.recipes.twin import fit_twin, parameter_rows
    from robolearn.tasks import make_task

    report = fit_twin(
        dataset,
        out,
        task,
        per_joint,
        cell,
        lambda done, error, latency: say(
            f"iteration {done}: {1e3 * error:.3f} mrad with a latency of {1e3 * latency:.1f} ms"
        ),
    )
    if json:
        print_json(report)
        return 0
    joints = make_task(report["task"]).robot_spec.joint_names
    print_table(
        f"physics of {report['robot']}", ("joint", "parameter", "before", "after"), parameter_rows(report, joints)
    )
    before, after = 1e3 * report["replay_error_before_rad"], 1e3 * report["replay_error_after_rad"]
    say(f"open-loop replay: {before:.2f} mrad before, {after:.2f} after ({report['error_ratio']:.1f} times less)")
    say(f"{out / 'physics.yaml'}   {out / 'report.json'}   {out / 'replay.png'}{f'   {cell}' if cell else ''}")
    return 0


def twin_compare(
    dataset: Dataset,
    episode: int = 0,
    out: Path = Path("runs/twin_compare"),
    task: str = "",
    physics: Path | None = None,
    cell: Path | None = None,
    json: bool = False,
) -> int:
    """Replay a recorded episode in the twin and show how they drift apart, before and after a fit.

    Example: robolearn twin compare demos.zarr --episode 3 --cell hardware/cells/so101.yaml

    Args:
        dataset: recorded episodes.
        episode: which one.
        out: folder for compare.json and compare.png.
        task: by default the dataset's own.
        physics: of the robot, as `twin fit` writes it.
        cell: file of a cell, whose section `physics` is taken.
    """
    from robolearn.cell import load_cell
    from robolearn.physics import DEFAULT_PHYSICS, Physics
    from robolearn.recipes.twin_compare import compare_twin

    fitted = Physics.read(physics) if physics else load_cell(cell).physics if cell else DEFAULT_PHYSICS
    report = compare_twin(dataset, episode, out, task, fitted)
    if json:
        print_json(report)
        return 0
    if report["before"] is None:
        print_table(f"episode {episode} of {dataset}", ("difference", ""), _differences(report))
    else:
        rows = zip(_differences(report["before"]), _differences(report), strict=True)
        columns = ("difference", "before", "after")
        print_table(f"episode {episode} of {dataset}", columns, [(*old, new[1]) for old, new in rows])
    say(f"{out / 'compare.json'}   {out / 'compare.png'}")
    return 0


def _differences(report: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        ("joints, RMS", f"{1e3 * report['joint_rms_rad']:.2f} mrad"),
        ("joints, largest", f"{1e3 * report['joint_max_rad']:.2f} mrad"),
        ("tool, RMS", f"{1e3 * report['tool_rms_m']:.2f} mm"),
        ("tool, largest", f"{1e3 * report['tool_max_m']:.2f} mm"),
        *((f"pictures of {name}", f"{value:.2f} of 255") for name, value in report["image_mean_difference"].items()),
    ]


def twin_view(
    what: What, episode: int = 0, task: str = "", seed: int = 0, out: Path | None = None, json: bool = False
) -> int:
    """Look at a task with its expert, a cell's twin, or a recorded episode beside the twin: in a window, or as a file.

    Example: robolearn twin view demos.zarr --episode 3 --out episode.mp4

    Args:
        what: a task's id, a dataset, or the file of a cell.
        episode: of a dataset; its commands move the twin.
        task: what a cell's twin does, or whose robot and scene a dataset is of.
        seed: where objects are; a recorded episode has its own.
        out: .mp4 for a film, .png for a picture of the start; without, a window, which needs a display.
    """
    from robolearn.recipes.twin_view import open_show, open_window, write_view

    show = open_show(what, episode, task, seed)
    try:
        if out is None:
            open_window(show)
        else:
            write_view(show, out)
            say(str(out))
    finally:
        show.twin.close()
    if json:
        print_json({"what": what, "task": show.twin.task.id, "out": None if out is None else str(out)})
    return 0


def twin_robustness(
    checkpoint: Checkpoint, task: str, episodes: int = 20, seed: int = 1_000_000, json: bool = False
) -> int:
    """Success of a policy under each kind of stochasticity, and in randomized twins.

    Example: robolearn twin robustness runs/bc/checkpoints/best --task pick_place-v1 --episodes 50

    Args:
        checkpoint: a checkpoint, or `scripted` for the task's expert.
        task: id of a task of the twin.
        episodes: of each kind; all have the same seeds.
        seed: of the first episode.
    """
    from robolearn.envs.stochastic import STORI
    from robolearn.recipes.robustness import robustness

    with ProgressBar("robustness", len(STORI) + 1, "world") as bar:
        answer = robustness(checkpoint, task, episodes, seed, bar.update)
    return _print_rows(answer, "disturbance", json)


def twin_gap(checkpoint: Checkpoint, task: str, episodes: int = 20, seed: int = 1_000_000, json: bool = False) -> int:
    """Success of a policy in MuJoCo and in PyBullet, on the same episodes.

    Example: robolearn twin gap scripted --task push-v1 --episodes 50

    Args:
        checkpoint: a checkpoint, or `scripted` for the task's expert.
        task: id of a task of the twin.
        episodes: in each engine; both have the same seeds.
        seed: of the first episode.
    """
    from robolearn.recipes.robustness import engine_gap
    from robolearn.twin.engines import ENGINES

    with ProgressBar("engines", len(ENGINES), "engine") as bar:
        answer = engine_gap(checkpoint, task, episodes, seed, bar.update)
    return _print_rows(answer, "engine", json)


def _print_rows(answer: dict[str, Any], label: str, json: bool) -> int:
    if json:
        print_json(answer)
        return 0
    rows = [
        (
            row[label],
            f"{row['success_rate']:.2f}  ({row['success_ci95'][0]:.2f} to {row['success_ci95'][1]:.2f})",
            f"{row['return_mean']:.1f} +- {row['return_std']:.1f}",
            f"{row['mean_episode_steps']:.1f}",
        )
        for row in answer["rows"]
    ]
    title = f"{answer['checkpoint']} on {answer['task']}, {counted(answer['episodes'], 'episode')} each"
    print_table(title, (label, "success (95 % interval)", "return", "steps"), rows)
    return 0
