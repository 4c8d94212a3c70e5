"""The commands at the bench: `record` and `replay`, by a person's hands and on a robot."""

from __future__ import annotations

import math
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robolearn.cli.output import EXIT_NO, Dataset, counted, print_json, print_table, require_heeded, say
from robolearn.errors import RobolearnError, SpecError, UnknownNameError, quoted

if TYPE_CHECKING:
    from robolearn.specs import RobotSpec

FED_BY_THE_PAGE = ("web", "phone")  # teleoperators that are of no use without it
PAGE_OPTIONS = ("web_host", "web_port")
LOGGED = re.compile(r"\[[^]]+\] \[[A-Z]+\] \[[\d.]+\] \[([^]]+)\]: ")  # what a node says through its log
BELL = "\a"


def record(
    out: Path,
    cell: Path | None = None,
    twin: str | None = None,
    teleop: str = "",
    episodes: int = 10,
    episode_s: float = 0.0,
    reset_s: float = 0.0,
    task: str = "",
    instruction: str = "",
    terminal: str = "",
    web: bool = False,
    web_host: str = "127.0.0.1",
    web_port: int = 8770,
) -> int:
    """Record demonstrations by hand, on a cell or on the twin.

    Launches `launch/record.launch.yaml`. Enter begins an episode and ends it as a success, x ends it as a failure,
    backspace throws it away to be recorded again, space stops the robot; Ctrl-C ends the recording, and what is
    finished is kept. The terminal's bell rings when an episode begins and when it is over.

    Example: robolearn record --cell hardware/cells/so101.yaml --episodes 20 --task pick --out runs/demos.zarr

    Args:
        out: the dataset, a folder ending in .zarr; an existing one of the same kind is continued.
        cell: YAML file of a physical cell; either this or `twin`.
        twin: id of a task, see `robolearn tasks`, that the twin stands in for robot and cameras with.
        teleop: device to drive with; that of the cell by default, the keyboard for the twin.
        episodes: how many; one that is thrown away is not counted.
        episode_s: a longer episode is ended by itself, and nobody has said whether it went well; 0: any length.
        reset_s: after the first one, an episode begins by itself when so many seconds are over, for who has no hand
            free; 0: Enter begins each.
        task: of a cell: what is done, a name of yours. With the id of a task, on a cell whose file has tags for its
            things (`objects`), their poses are recorded, too.
        instruction: what is done, in a sentence; that of the task by default.
        terminal: whose keys are read, as /dev/pts/3; this one by default.
        web: serve the operator's page meanwhile; `--teleop web` drives from it.
        web_host: of the page: address that it listens on; others than this machine need the link that is printed.
        web_port: of the page: its port.
    """
    given = locals()
    from robolearn.tasks import known_task, make_task
    from robolearn.teleop import TELEOPERATORS
    from robolearn.teleop.keyboard import KeyboardConfig

    if (cell is None) == (twin is None):
        raise RobolearnError("record wants either --cell FILE or --twin TASK")
    if teleop and teleop not in TELEOPERATORS:
        raise UnknownNameError("teleoperator", teleop, TELEOPERATORS)
    if twin is not None:
        require_heeded(record, given, (), ("task",), f"the twin, whose task is {twin}")
    arguments = {"dataset": str(out.absolute()), "episodes": str(episodes), "instruction": instruction}
    for name, seconds in (("max_episode_s", episode_s), ("reset_s", reset_s)):
        if not 0 <= seconds < math.inf:
            raise RobolearnError(f"{name.removeprefix('max_')} is {seconds:g}, expected seconds, or 0")
        arguments[name] = str(float(seconds))
    keys = KeyboardConfig().keys
    if cell is not None:
        from robolearn.cell import load_cell
        from robolearn.envs.tagged_things import sees

        described = load_cell(cell)  # a mistake in the file is told before anything starts
        section = described.teleop
        driver = teleop or (section.driver if section else "")
        if section and isinstance(section.config, KeyboardConfig):
            keys = section.config.keys
        keys = keys[: len(described.make_robot().spec.joint_names)]  # without a calibration there is none
        arguments |= {"cell": str(cell.absolute()), "task": task, "teleop": teleop}
        known = known_task(task)
        if known is not None and sees(described, known):
            arguments["tags"] = "true"
            say(f"the poses of {', '.join(known.bodies)} are recorded, too")
    else:
        driver = teleop or "keyboard"
        arguments |= {"twin": "true", "task": make_task(str(twin)).id, "teleop": driver}
    if not driver:
        raise RobolearnError(f"{cell} has no teleop; add one to it, or name one: --teleop {'|'.join(TELEOPERATORS)}")
    terminal = terminal or _terminal()
    if driver == "keyboard" and not terminal:
        raise RobolearnError(
            "the keyboard needs a terminal, and standard input is none; name one: --terminal /dev/pts/3"
        )
    if terminal:
        arguments["terminal"] = terminal
    _check_parent(out)
    page = web or driver in FED_BY_THE_PAGE
    require_heeded(record, given, PAGE_OPTIONS if page else (), PAGE_OPTIONS, "who records without --web")
    if page:
        arguments |= {"web": "true", "web_host": web_host, "web_port": str(web_port)}
        arguments["web_data"] = str(out.absolute().parent)
    from robolearn.assets import launch_file
    from robolearn.ros import launch as runner

    if cell is None:
        _use_a_domain_of_its_own()
    if driver == "keyboard":
        say(f"keys of the joints: {', '.join(' '.join(pair) for pair in keys)}; [ ] slower and faster")
    if terminal:
        say("Enter begins an episode and ends it as a success, x as a failure; backspace throws it away, repeats it")
        say("space stops the robot, then Enter lets it go on, connected again where its cable was out; Ctrl-C ends")
    elif not page:
        say("standard input is no terminal, and no key is read; name one, as --terminal /dev/pts/3, or add --web")
    code = runner.run(runner.load(launch_file("record"), arguments), log=_say_plainly)
    from robolearn.datasets.zarr_store import ZarrStore

    if out.exists():
        store = ZarrStore.open(out)
        successes = sum(bool(e.success) for e in store.episodes)
        say(f"{counted(len(store.episodes), 'episode')} in {out}, {successes} successful")
        if unfinished := store.unfinished:
            say(f"{'; '.join(map(str, unfinished))}; keep it with: robolearn dataset repair {quoted(out)}")
    return code


def _say_plainly(line: str) -> None:
    """A line of the launch for a person who looks at the robot: without stamps and without what the launcher does. What
    becomes of the episodes rings the terminal's bell."""
    if line.startswith("[INFO] "):
        return
    logged = LOGGED.match(line)
    if logged is None:
        say(line)
    elif logged[1] == "supervisor":
        say(f"{BELL if sys.stderr.isatty() else ''}{line[logged.end() :]}")
    else:
        say(f"{logged[1]}: {line[logged.end() :]}")


def replay(
    dataset: Dataset,
    episode: int = 0,
    on: str = "twin",
    ramp_rad_s: float = 0.5,
    json: bool = False,
) -> int:
    """Play a recorded episode again, and tell how well it was followed.

    The robot is first brought to where the episode starts. Every command goes through the safety filter.

    Example: robolearn replay runs/demos.zarr --episode 3 --on hardware/cells/so101.yaml

    Args:
        dataset: a zarr dataset of episodes.
        episode: which of them.
        on: `twin`, or the YAML file of a cell.
        ramp_rad_s: how fast the robot is brought to the start.
    """
    from robolearn.datasets.edit import episode_index
    from robolearn.datasets.zarr_store import ZarrStore
    from robolearn.recipes.graph import free_domain_id
    from robolearn.recipes.replay import replay_episode
    from robolearn.tasks import known_task

    store = ZarrStore.open(dataset)
    episode = episode_index(store, episode)
    if on == "twin":
        task = store.episodes[episode].task
        if known_task(task) is None:
            raise RobolearnError(
                f"episode {episode} of {dataset} is of {task!r}, no task of the twin; replay it on its cell: --on CELL"
            )
        where: dict[str, Any] = {"twin": "true", "task": task}
        domain_id = free_domain_id()
    else:
        from robolearn.cell import load_cell

        _require_same_joints(store.spec.robot, load_cell(Path(on)).make_robot().spec, dataset, on)
        where, domain_id = {"cell": Path(on).absolute()}, None
    row = replay_episode(dataset, episode, {**where, "ramp_rad_s": ramp_rad_s}, domain_id)
    if json:
        print_json(row)
    else:
        print_table(f"episode {episode} of {dataset} on {on}", ("", ""), [(k, _short(v)) for k, v in row.items()])
    return 0 if row["complete"] else EXIT_NO


def _require_same_joints(recorded: RobotSpec, robot: RobotSpec, dataset: Path, cell: str) -> None:
    """Numbers of another unit would be angles all the same. Raises SpecError."""
    (joints, unit), (wanted, wanted_unit) = ((sorted(r.joint_names), r.unit) for r in (recorded, robot))
    if (joints, unit) != (wanted, wanted_unit):
        raise SpecError(
            f"{dataset} has {', '.join(joints)} in {unit or 'an unknown unit'}, the robot of {cell} has "
            f"{', '.join(wanted)} in {wanted_unit}; replay what was recorded of such a robot"
        )


def _short(value: Any) -> Any:
    return f"{value:.4g}" if isinstance(value, float) else value


def _terminal() -> str:
    """This terminal, by a name that children of another session can open; empty where there is none."""
    return os.ttyname(sys.stdin.fileno()) if sys.stdin.isatty() else ""


def _check_parent(out: Path) -> None:
    if out.suffix != ".zarr":
        raise RobolearnError(f"the dataset {out} does not end in .zarr; name it so, as in runs/demos.zarr")
    out.parent.mkdir(parents=True, exist_ok=True)


def _use_a_domain_of_its_own() -> None:
    """The twin must not meet a robot of the lab; whoever has set a domain has chosen."""
    from robolearn.recipes.graph import free_domain_id

    os.environ.setdefault("ROS_DOMAIN_ID", str(free_domain_id()))
