"""The command of a night of practice: finetune."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

from robolearn.cli.graph import namespace_of
from robolearn.cli.output import EXIT_INTERRUPTED, print_json, print_table, require_heeded, say
from robolearn.cli.web import beside
from robolearn.errors import SpecError, quoted
from robolearn.progress import ProgressBar

RESUME_OPTIONS = {"resume", "in_turns", "web", "json"}
"""Options that a run that goes on heeds."""


def finetune(
    task: str | None = None,
    demos: tuple[Path, ...] = (),
    prior: tuple[Path, ...] = (),
    reward: Literal["success", "true", "vlm", "progress", "person"] = "success",
    reward_model: tuple[Path, ...] = (),
    force_reward: bool = False,
    steps: int | None = None,
    hours: float | None = None,
    out: Path | None = None,
    seed: int = 0,
    cell: Path | None = None,
    graph: Literal["", "robot", "twin"] = "",
    namespace: str = "",
    teleop: str = "",
    things_back: Path | None = None,
    task_done: Path | None = None,
    resume: Path | None = None,
    in_turns: bool = False,
    compile: bool = False,
    set: tuple[str, ...] = (),
    web: bool = False,
    json: bool = False,
) -> int:
    """Practise a task and the one that undoes it, in turn, with nobody resetting the table.

    Trains a success classifier on the demonstrations, a policy on all old data, and then lets the policy improve by its
    own attempts. RUN/report.html tells in the morning how it went. It may be killed at any time, and goes on with
    --resume.

    Example: robolearn finetune --task push-v1 --demos push.zarr push_back.zarr --prior play.zarr --steps 20000

    Args:
        task: the target task, see `robolearn tasks`; its backward task is practised with it.
        demos: datasets of demonstrations, of the task and of its backward task.
        prior: datasets of other experience in the same scene: play, failures, other people's.
        reward: who says that the task is done: `success`, a classifier of states trained on the demonstrations, or with
            --reward-model one of pictures; `vlm` or `progress`, models of pictures; `person`, you, by the teleop's key
            of success or --task-done; or `true`, the twin.
        reward_model: of success, vlm and progress: the model's folder; one for both tasks, or one each, the target's
            first.
        force_reward: let a model near a robot that did not pass its audit.
        steps: decisions to practise for, five a second; 20000 unless hours are given.
        hours: to practise for, pauses and what a person is waited for included.
        out: the run, runs/finetune by default: metrics.csv, checkpoints/, replay.zarr, films/, report.html.
        seed: fixes everything.
        cell: file of the physical cell that practises, as hardware/cells/so101.yaml; the twin by default.
        graph: practise on the robot or twin of the ROS graph, as `robolearn launch practice` starts one; where things
            are has to be published as /twin/ground_truth, unless they are unseen.
        namespace: with --graph, that of the nodes of robot and cameras, such as left; none by default.
        teleop: device by which a person may take over at any tick: keyboard, gamepad, ...; `cell`: that of the cell;
            `node`: with --graph, that of the node `teleop`.
        things_back: tell the run in this folder that things are put back, for which it waits; do nothing else.
        task_done: tell the run in this folder, with --reward person, that the task is done; do nothing else.
        resume: a run to go on with, as it was begun.
        in_turns: collect and learn in one process instead of side by side in two; gives the same data.
        compile: compile the updates; takes up to a minute, then they run about three times as fast.
        set: settings, such as `--set online=warm_up warmup_steps=1000 rlpd.utd=4 supervisor.consecutive=3`.
        web: serve the page while this runs, with its run and its data; its address is printed.
    """
    given = locals()
    from robolearn.datasets.zarr_store import ZarrStore
    from robolearn.recipes.run import read_run_config
    from robolearn.tasks import make_task

    begun = [folder for folder in (resume, things_back, task_done) if folder is not None]
    for folder in begun:  # before torch is imported
        read_run_config(folder)
    if not begun:
        if task is not None:
            make_task(task)
        if task is None or not demos:
            raise SpecError(
                "finetune wants --task, and --demos of it and of its backward task; see `robolearn collect`"
            )
        for dataset in (*demos, *prior):
            ZarrStore.open(dataset)
    from robolearn.algorithms.compute import Compute
    from robolearn.recipes.finetune import recipe
    from robolearn.recipes.finetune.cells import TASK_DONE, THINGS_BACK, check_terminal
    from robolearn.recipes.finetune.collector import WAITS
    from robolearn.recipes.finetune.report import tiles
    from robolearn.recipes.finetune.settings import FinetuneConfig
    from robolearn.recipes.train import with_settings
    from robolearn.recipes.train_request import read_settings

    for told, file in ((things_back, THINGS_BACK), (task_done, TASK_DONE)):
        if told is not None:
            judged_by = FinetuneConfig.read(told).reward
            if file == TASK_DONE and judged_by != "person":
                raise SpecError(f"{told} is judged by {judged_by}, not by a person; --task-done is for --reward person")
            if file == THINGS_BACK and not (told / WAITS).exists():
                raise SpecError(f"{told} does not wait for anybody now; say that things are put back when it does")
            (told / file).touch()
            return 0
    if resume is not None:
        others = given.keys() - RESUME_OPTIONS
        require_heeded(finetune, given, (), others, "--resume, which goes on with a run as it was begun")
        config, run = FinetuneConfig.read(resume), resume
    else:
        assert task is not None
        run = out or Path("runs/finetune")
        config = FinetuneConfig(
            task,
            reward,
            reward_models=tuple(str(folder.absolute()) for folder in reward_model),
            force_reward=force_reward,
            cell=str(cell.absolute()) if cell else "",
            graph=graph,
            namespace=namespace_of(namespace),
            teleop=teleop,
            seed=seed,
            compute=Compute(compile=compile),
        )
        if config.real:
            config = replace(config, evaluate_every=0)
        total = steps if steps is not None else 0 if hours else 20_000
        config = replace(config, supervisor=replace(config.supervisor, max_steps=total, max_hours=hours or 0.0))
        asked = read_settings(set)
        pixels = asked.get("image_size", "")
        if pixels.isdecimal() and int(pixels):
            config = config.from_pictures(int(pixels))
        config = with_settings(config, asked)
    check_terminal(config)
    total = config.supervisor.max_steps or round(
        config.supervisor.max_hours * 3600 * config.space().interface.control_hz
    )
    if config.unwatched:
        say(config.unwatched)
    with beside(web, run, *demos, *prior), ProgressBar("finetune", total, "decision") as bar:
        if resume is None:
            recipe.begin(config, prior, demos, run)
        try:
            answer = recipe.practise(run, processes=not in_turns, progress=bar.update)
        except KeyboardInterrupt:
            say(f"interrupted before the practice began; go on with: robolearn finetune --resume {quoted(run)}")
            return EXIT_INTERRUPTED
    if json:
        print_json(answer)
    else:
        print_table(f"practice of {config.task}", ("", ""), tiles(answer))
    say(f"report: {answer['report']}   checkpoint: {answer['checkpoint']}")
    if answer["interrupted"]:
        say(f"interrupted after {answer['steps']} decisions; go on with: robolearn finetune --resume {quoted(run)}")
        return EXIT_INTERRUPTED
    say(f"stopped: {answer['stopped']}")
    return 0
