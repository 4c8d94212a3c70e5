"""The command `robolearn`: parses, calls one library function, prints. No logic lives here.

Exit codes: 0 done, 1 ran and the answer is no, 2 bad input (one line on stderr; `--debug` shows the traceback).
Answers with data take `--json`: one JSON object on stdout, everything else on stderr.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.table import Table
from tyro.conf import FlagCreatePairsOff, OmitArgPrefixes, Positional, arg

from robolearn.errors import RobolearnError, UnknownNameError
from robolearn.progress import ProgressBar

EXIT_NO = 1
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130

TaskId = Annotated[str, Positional, arg(metavar="TASK")]
Dataset = Annotated[Path, Positional, arg(metavar="DATASET")]


def print_json(data: Any) -> None:
    sys.stdout.write(json.dumps(data, indent=2, default=str) + "\n")


def print_table(title: str, header: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    table = Table(title=title, title_justify="left", header_style="bold")
    for name in header:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    Console().print(table)


def say(text: str) -> None:
    sys.stderr.write(text + "\n")


# --- the main job -------------------------------------------------------------------------------------------------


def demo(fast: bool = False, out: Path = Path("runs/demo"), seed: int = 0) -> int:
    """Record, train, serve and judge a policy on the twin's ROS 2 graph.

    Example: robolearn demo --fast --out runs/smoke

    Args:
        fast: the smoke form: few episodes and updates, to see that everything works.
        out: folder for the report, the video, the checkpoint and the dataset; its former content is replaced.
        seed: fixes demonstrations, training and evaluation.
    """
    from robolearn.recipes.demo import DemoConfig, run_demo

    config = DemoConfig.smoke() if fast else DemoConfig()
    report = run_demo(config, out, seed)
    rows = [
        ("learned from images", f"{report['success_rate']:.2f}", report["loop_p50_ms"], report["loop_p99_ms"]),
        ("untrained", f"{report['untrained_success_rate']:.2f}", "", ""),
    ]
    print_table(
        f"{report['task']}: {report['episodes']} episodes that the demonstrations never showed",
        ("policy", "success rate", "loop p50 [ms]", "loop p99 [ms]"),
        rows,
    )
    say(f"report: {out / 'report.html'}   video: {out / 'episode.mp4'}   checkpoint: {report['checkpoint']}")
    return 0 if fast or report["success_rate"] >= config.wanted_success_rate else EXIT_NO


def doctor(json: bool = False) -> int:
    """Check this machine and say how to mend what fails.

    Looks at rendering, codecs, UDP buffers, ROS 2, GPU and disk.

    Example: robolearn doctor --json
    """
    from robolearn.recipes.doctor import examine
    from robolearn.ros import introspect

    checks = examine(introspect.transport_check)
    if json:
        print_json({"ok": all(c.ok for c in checks), "checks": [c.to_json() for c in checks]})
    else:
        marks = {True: "[green]ok[/]", False: "[red]no[/]"}
        rows = [(c.name, marks[c.ok] if c.required or c.ok else "[yellow]--[/]", c.found, c.remedy) for c in checks]
        print_table("robolearn doctor", ("check", "", "found", "what to do"), rows)
    return 0 if all(c.ok or not c.required for c in checks) else EXIT_NO


def tasks(json: bool = False) -> int:
    """List the tasks of the twin.

    Example: robolearn tasks --json
    """
    from robolearn.tasks import TASKS, make_task

    made = [make_task(name) for name in TASKS]
    if json:
        print_json({"tasks": [_task_json(task) for task in made]})
    else:
        rows = [(t.id, t.robot, t.instruction, " > ".join(t.stages)) for t in made]
        print_table("tasks", ("id", "robot", "instruction", "stages"), rows)
    return 0


def _task_json(task: Any) -> dict[str, Any]:
    return {
        "id": task.id,
        "instruction": task.instruction,
        "stages": list(task.stages),
        "robot": task.robot,
        "max_steps": task.max_steps,
        "control_hz": task.control_hz,
        "backward_task": task.backward,
    }


def launch(
    file: Annotated[str, Positional, arg(metavar="FILE")],
    arguments: Annotated[tuple[str, ...], Positional, arg(metavar="NAME:=VALUE ...")] = (),
    show_args: bool = False,
) -> int:
    """Run a ROS 2 YAML launch file, with or without ROS 2.

    Example: robolearn launch launch/twin.launch.yaml task:=pick_place-v1 realtime_factor:=1.0

    Args:
        file: path of a launch file, or the name of one that comes with robolearn ("twin").
        arguments: launch arguments as name:=value.
        show_args: list the arguments of the file and end.
    """
    from robolearn.assets import launch_file
    from robolearn.errors import LaunchError
    from robolearn.ros import launch as runner

    path = launch_file(file)
    if show_args:
        rows = [
            (a.name, "" if a.default is None else a.default, a.description) for a in runner.describe_arguments(path)
        ]
        print_table(f"arguments of {path.name}", ("name", "default", "description"), rows)
        return 0
    pairs = {}
    for text in arguments:
        name, separator, value = text.partition(":=")
        if not separator or not name:
            raise LaunchError(f"launch argument {text!r} is not of the form name:=value")
        pairs[name] = value
    return runner.run(runner.load(path, pairs), log=say)


# --- data, learning, evaluation ------------------------------------------------------------------------------------


def collect(
    task: TaskId,
    out: Path,
    episodes: int = 10,
    policy: str = "scripted",
    graph: bool = False,
    seed: int = 0,
    image_size: int | None = None,
    perturbation: float | None = None,
) -> int:
    """Collect episodes of the twin into a zarr dataset.

    An existing dataset of the same kind is continued.

    Example: robolearn collect pick_place-v1 --episodes 20 --out runs/demonstrations.zarr

    Args:
        task: id of a task, see `robolearn tasks`.
        out: the dataset, a folder ending in .zarr.
        episodes: how many to add.
        policy: `scripted` or the path of a checkpoint.
        graph: run as nodes on a ROS 2 graph instead of in this process.
        seed: of the first episode; the next ones count up.
        image_size: height and width of the camera images; the task's own by default.
        perturbation: share of steps at which a scripted policy is pushed off its path, so that it shows how to recover.
    """
    from robolearn.recipes.collect import CollectConfig, collect_episodes

    defaults = CollectConfig(task=task)
    config = CollectConfig(
        task=task,
        policy=policy,
        image_size=defaults.image_size if image_size is None else image_size,
        perturbation=defaults.perturbation if perturbation is None else perturbation,
    )
    with ProgressBar("collect", episodes, "episode") as bar:
        rows = collect_episodes(config, out, episodes, seed, graph=graph, progress=bar.update)
    successes = sum(row["success"] for row in rows)
    say(f"{len(rows)} episodes in {out}, {successes} of them successful")
    return 0


def train(
    algorithm: Annotated[str, Positional, arg(metavar="ALGORITHM")],
    dataset: Path,
    out: Path = Path("runs/train"),
    steps: int | None = None,
    seed: int = 0,
    resume: Path | None = None,
) -> int:
    """Train a policy on a dataset.

    Example: robolearn train bc --dataset runs/demonstrations.zarr --steps 1500 --out runs/bc

    Args:
        algorithm: `bc`.
        dataset: a zarr dataset of episodes.
        out: the run: config.yaml, metrics.csv, TensorBoard events, checkpoints/ with `latest` and `best`.
        steps: gradient steps; the algorithm's own number by default.
        seed: fixes initial weights, batches and split.
        resume: a run to continue.
    """
    from robolearn.recipes.train import default_steps, train_offline

    total = steps or default_steps(algorithm)
    with ProgressBar(f"train {algorithm}", total, "step") as bar:
        result = train_offline(algorithm, dataset, out, steps=total, seed=seed, resume=resume, progress=bar.update)
    say(f"checkpoint: {result['checkpoint']}")
    return 0


def evaluate(
    checkpoint: Annotated[str, Positional, arg(metavar="CHECKPOINT")],
    task: str,
    episodes: int = 20,
    seed: int = 1_000_000,
    video: Path | None = None,
    json: bool = False,
) -> int:
    """Run a policy in the twin and measure its success.

    Example: robolearn evaluate runs/bc/checkpoints/best --task pick_place-v1 --episodes 50 --json

    Args:
        checkpoint: a checkpoint, or `scripted` for the task's expert.
        task: id of a task, see `robolearn tasks`.
        episodes: how many.
        seed: of the first episode; demonstrations count up from 0, evaluations from a million.
        video: write the first episode to this MP4 file.
    """
    from robolearn.recipes.evaluate import evaluate_policy

    with ProgressBar("evaluate", episodes, "episode") as bar:
        answer = evaluate_policy(checkpoint, task, episodes, seed=seed, video=video, progress=bar.update)
    if json:
        print_json(answer)
    else:
        low, high = answer["success_ci95"]
        rows = [
            ("success rate", f"{answer['success_rate']:.2f}  (95 % interval {low:.2f} to {high:.2f})"),
            ("return", f"{answer['return_mean']:.2f} +- {answer['return_std']:.2f}"),
            ("mean episode", f"{answer['mean_episode_steps']:.1f} steps"),
            ("episodes", episodes),
        ]
        print_table(f"{checkpoint} on {task}", ("", ""), rows)
    return 0


# --- datasets ------------------------------------------------------------------------------------------------------


def dataset_info(dataset: Dataset, json: bool = False) -> int:
    """What a dataset holds.

    Example: robolearn dataset info runs/demonstrations.zarr
    """
    from robolearn.datasets.info import info

    answer = info(dataset)
    if json:
        print_json(answer)
    else:
        print_table(str(dataset), ("", ""), [(k, _short(v)) for k, v in answer.items()])
    return 0


def dataset_verify(dataset: Dataset, json: bool = False) -> int:
    """Check that a dataset is whole; exit code 1 when it is not.

    Every episode is read: lengths, stamps, masks, limits.

    Example: robolearn dataset verify runs/demonstrations.zarr
    """
    from robolearn.datasets.verify import verify

    with ProgressBar("verify", 1, "dataset") as bar:
        report = verify(dataset)
        bar.update(1)
    if json:
        print_json(report.to_json())
    else:
        for problem in report.problems:
            say(f"problem: {problem}")
        say(f"{dataset}: whole" if report.ok else f"{dataset}: NOT whole; try: robolearn dataset repair {dataset}")
    return 0 if report.ok else EXIT_NO


def dataset_repair(dataset: Dataset, action: Literal["drop", "salvage"] = "drop") -> int:
    """Drop or salvage the episode whose writer died.

    Example: robolearn dataset repair runs/demonstrations.zarr --action salvage
    """
    from robolearn.datasets.repair import repair

    say(str(repair(dataset, action=action)))
    return 0


def _short(value: Any) -> str:
    text = json.dumps(value, default=str) if isinstance(value, (dict, list)) else str(value)
    return text if len(text) <= 400 else text[:397] + "..."


COMMANDS: dict[str, Callable[..., int]] = {
    "demo": demo,
    "doctor": doctor,
    "tasks": tasks,
    "launch": launch,
    "collect": collect,
    "train": train,
    "evaluate": evaluate,
    "dataset info": dataset_info,
    "dataset verify": dataset_verify,
    "dataset repair": dataset_repair,
}


# --- dispatch ------------------------------------------------------------------------------------------------------


def main(argv: list[str] | None = None) -> None:
    """Entry point of the console script; exits the process."""
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    try:
        sys.exit(run(words))
    except RobolearnError as error:
        if debug:
            raise
        say(f"robolearn: {error}")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        if debug:
            raise
        say("robolearn: interrupted; nothing is left running")
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output went away (`| head`)
        sys.exit(0)


def run(words: list[str]) -> int:
    """Find the command that `words` begin with, parse the rest for it and call it."""
    if not words or words[0] in ("-h", "--help"):
        print_help()
        return 0
    if words[0] == "--version":
        from robolearn import __version__

        sys.stdout.write(f"robolearn {__version__}\n")
        return 0
    name = words[0]
    in_group = any(known.startswith(name + " ") for known in COMMANDS)
    if in_group:
        if len(words) == 1 or words[1] in ("-h", "--help"):
            print_help(name)
            return 0
        name = " ".join(words[:2])
    if name not in COMMANDS:
        raise UnknownNameError("command", name, COMMANDS)
    call = parse(name, COMMANDS[name], words[len(name.split()) :])
    return call()


def parse(name: str, command: Callable[..., int], words: list[str]) -> Callable[[], int]:
    """Bind `words` to the command's parameters; a mistake becomes a RobolearnError of one line."""

    @functools.wraps(command)
    def bind(*args: Any, **kwargs: Any) -> Callable[[], int]:
        return functools.partial(command, *args, **kwargs)

    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(bind, prog=f"robolearn {name}", args=words, config=(FlagCreatePairsOff, OmitArgPrefixes))
    except SystemExit as exit_:
        if exit_.code in (0, None):
            raise
        raise RobolearnError(f"{name}: {_one_line(complaint.getvalue())} (see: robolearn {name} --help)") from None


def _one_line(box: str) -> str:
    """The first paragraph of tyro's boxed message and the option it suggests, on one line."""
    words: list[str] = []
    for line in box.splitlines()[1:]:
        text = line.strip("│ ")
        if set(text) <= set("─╰╯ ") or text.startswith("Argument helptext"):
            if words:
                break
            continue
        words.append(text)
    near = re.search(r"Perhaps you meant:\W*(--[\w-]+)", box)
    words += [f"; did you mean {near[1]}?"] if near else []
    return re.sub(r"\s+", " ", " ".join(words)).replace(" ;", ";") or "cannot be parsed"


def print_help(group: str = "") -> None:
    """List the commands with the first line of what they say of themselves."""
    console = Console()
    console.print(f"usage: robolearn {group + ' ' if group else ''}COMMAND [--help] [--debug] ...\n")
    for name, command in COMMANDS.items():
        if name.startswith(group):
            console.print(
                f"  [bold]{name:<16}[/] {(command.__doc__ or '').splitlines()[0]}", highlight=False, no_wrap=True
            )


if __name__ == "__main__":
    main()
