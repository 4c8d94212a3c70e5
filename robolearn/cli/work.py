"""The commands that do the work: demo, collect, train, evaluate, and what tells of the machine and the tasks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from rich.text import Text
from tyro.conf import Positional, arg

from robolearn.cli.output import EXIT_INTERRUPTED, EXIT_NO, TaskId, counted, print_json, print_table, say
from robolearn.cli.web import beside
from robolearn.errors import PluginError, quoted
from robolearn.progress import ProgressBar


def demo(fast: bool = False, out: Path = Path("runs/demo"), seed: int = 0, web: bool = False) -> int:
    """Record, train, serve and judge a policy on the twin's ROS 2 graph.

    Example: robolearn demo --fast --out runs/smoke

    Args:
        fast: the smoke form: few updates and few episodes, of reach-v1, to see that everything works.
        out: folder for the report, the video, the checkpoint and the dataset; its former content is replaced.
        seed: fixes demonstrations, training and evaluation.
        web: serve the page while this runs, with its run and its data; its address is printed.
    """
    from robolearn.recipes.demo import DemoConfig, run_demo

    config = DemoConfig.smoke() if fast else DemoConfig()
    with beside(web, out, out / "demonstrations.zarr"):
        report = run_demo(config, out, seed)
    low, high = report["success_ci95"]
    rows = [
        (
            "learned from images",
            f"{report['success_rate']:.2f} ({low:.2f} to {high:.2f})",
            report["loop_p50_ms"],
            report["loop_p99_ms"],
        ),
        ("untrained", f"{report['untrained_success_rate']:.2f}", "", ""),
    ]
    print_table(
        f"{report['task']}, {counted(report['episodes'], 'episode')} not among the demonstrations",
        ("policy", "success (95 % interval)", "loop p50 [ms]", "loop p99 [ms]"),
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
        print_json({"ok": all(c.ok or not c.required for c in checks), "checks": [c.to_json() for c in checks]})
    else:
        good, bad, noted = Text("ok", "green"), Text("no", "red"), Text("--", "yellow")
        rows = [(c.name, good if c.ok else bad if c.required else noted, c.found, c.remedy) for c in checks]
        print_table("robolearn doctor", ("check", "", "found", "what to do"), rows)
    return 0 if all(c.ok or not c.required for c in checks) else EXIT_NO


def tasks(json: bool = False) -> int:
    """List the tasks of the twin.

    Example: robolearn tasks --json
    """
    from robolearn.tasks import TASKS, make_task
    from robolearn.tasks.measured import expert_success

    made = []
    for name in TASKS:
        try:
            made.append(make_task(name))
        except PluginError as error:
            say(f"left out: {error}")
    success = expert_success()
    if json:
        print_json({"tasks": [_task_json(task, success) for task in made]})
    else:
        rows = [(t.id, t.instruction, " ".join(t.robots)) for t in made]
        print_table("tasks", ("id", "instruction", "robots"), rows)
        say("with another robot than the first one: push-v1@panda, or a model of your own: push-v1@my_arm.xml")
    return 0


def _task_json(task: Any, success: dict[str, dict[str, float]]) -> dict[str, Any]:
    return {
        "id": task.id,
        "instruction": task.instruction,
        "stages": list(task.stages),
        "robot": task.robot,
        "robots": list(task.robots),
        "expert_success": success.get(task.id, {}),
        "max_steps": task.max_steps,
        "dwell_steps": task.dwell_steps,
        "control_hz": task.control_hz,
        "backward_task": task.backward,
    }


def collect(
    task: TaskId,
    out: Path,
    episodes: int = 10,
    policy: str = "scripted",
    manner: Literal["expert", "slow", "hesitating", "failing", "play", "mixed"] = "expert",
    graph: bool = False,
    seed: int | None = None,
    image_size: int | None = None,
    perturbation: float | None = None,
    num_envs: int = 1,
    web: bool = False,
    json: bool = False,
) -> int:
    """Collect episodes of the twin into a zarr dataset.

    An existing dataset of the same kind is continued.

    Example: robolearn collect pick_place-v1 --episodes 20 --out runs/demonstrations.zarr

    Args:
        task: id of a task, see `robolearn tasks`; with `tool:` before it the expert decides as what learns in
            `tool:<task>` does: it moves the tool, five times a second.
        out: the dataset, a folder ending in .zarr.
        episodes: how many to add.
        policy: `scripted`, the path of a checkpoint, or tcp://HOST:PORT of `robolearn serve`.
        manner: how the scripted policy works: for data of mixed quality, as people record it.
        graph: run as nodes on a ROS 2 graph instead of in this process.
        seed: of the first episode, the next ones count up; by default the first one that the dataset does not hold.
        image_size: height and width of the camera images; 64 by default, 0 for none, which is
            three times as fast.
        perturbation: share of steps at which a scripted policy is pushed off its path, so that it shows how to recover.
        num_envs: twins side by side, each in a process of its own; the episodes are the same, whatever their number.
        web: serve the page while this runs, with its run and its data; its address is printed.
    """
    from robolearn.datasets.zarr_store import ZarrStore
    from robolearn.recipes.collect import SCRIPTED, CollectConfig, collect_episodes
    from robolearn.recipes.environments import twin_task
    from robolearn.tasks import is_robot_file

    defaults = CollectConfig(task=task)
    config = CollectConfig(
        task=task,
        policy=policy,
        manner=manner,
        image_size=defaults.image_size if image_size is None else image_size,
        perturbation=defaults.perturbation if perturbation is None else perturbation,
    )
    try:
        with beside(web, None, out), ProgressBar("collect", episodes, "episode") as bar:
            rows = collect_episodes(config, out, episodes, seed, graph, num_envs, progress=bar.update)
    except KeyboardInterrupt:
        if not out.exists():
            raise
        say(f"interrupted; what was finished is in {out}, and the same command adds to it")
        if unfinished := ZarrStore.open(out).unfinished:  # as the recorder of a graph leaves it
            remedy = f"robolearn dataset repair {quoted(out)} --action drop"
            say(f"{'; '.join(map(str, unfinished))}; remove it with: {remedy}")
        return EXIT_INTERRUPTED
    successes = sum(row["success"] for row in rows)
    if json:
        print_json({"dataset": str(out), "episodes": len(rows), "successes": successes, "outcomes": rows})
    say(f"{counted(len(rows), 'episode')} added to {out}, {successes} successful")
    if not successes and policy == SCRIPTED and manner == "expert":
        name = twin_task(task)
        beside_it = is_robot_file(name.partition("@")[2])
        notes = "; a YAML file beside the robot's says where they are, see docs/tasks.md" if beside_it else ""
        say(
            "remark: the expert succeeded in none; does it move by the right tool and gripper? Watch it with: "
            f"robolearn twin view {quoted(name)}{notes}"
        )
    return 0


def train(
    algorithm: Annotated[str, Positional, arg(metavar="ALGORITHM")],
    dataset: Path | None = None,
    task: str | None = None,
    out: Path | None = None,
    steps: int | None = None,
    seed: int = 0,
    resume: Path | None = None,
    init_from: Path | None = None,
    offline_data: Path | None = None,
    reward: str | None = None,
    num_envs: int = 1,
    compile: bool = False,
    precision: Literal["auto", "float32", "bfloat16"] = "auto",
    device: str = "cpu",
    set: tuple[str, ...] = (),
    web: bool = False,
    json: bool = False,
) -> int:
    """Train a policy: on a dataset, or in a task by its own experience.

    Example: robolearn train sac --task gym:Pendulum-v1 --steps 10000 --compile --out runs/pendulum

    Args:
        algorithm: of demonstrations bc, act, flow or state_bc; of a dataset's rewards iql, cql, calql or td3_bc, of its
            goals hiql; of its own experience sac, dsac or rlpd. See docs/learning.md.
        dataset: a zarr dataset of episodes to learn from.
        task: a task of the twin, `tool:push-v1` for one in the space of its tool, or `gym:HalfCheetah-v5` for one of
            Gymnasium, to learn in; with a dataset, it is read as this task would show it, so that the training can go
            on there.
        out: the run, runs/train by default: config.yaml, metrics.csv, TensorBoard events, checkpoints/.
        steps: of the gradient on a dataset, of the environment in a task; the algorithm's own number by default.
        seed: fixes initial weights, batches, exploration and split.
        resume: a run to continue as it was begun.
        init_from: a run whose networks to begin with, in their sizes.
        offline_data: a dataset of demonstrations that half of every batch is drawn from, in a task.
        reward: in a task `task`, `success` or `progress`; on a dataset `success`, a field or a column.
        num_envs: environments that are stepped together.
        compile: compile the updates; takes up to a minute, then they run about three times as fast.
        precision: of matrix products inside of the networks; bfloat16 rounds their factors, and `auto` takes it with
            --compile on a device that multiplies it: a GPU since Ampere, a processor with AMX.
        device: `cpu` or `cuda`.
        set: settings of the algorithm, such as `--set batch_size=128 policy.hidden_sizes=64,64`.
        web: serve the page while this runs, with its run and its data; its address is printed.
    """
    from robolearn.algorithms.compute import Compute
    from robolearn.recipes.train_request import TrainRequest

    request = TrainRequest(algorithm, dataset, task, out, steps, seed, resume, init_from, offline_data, reward)
    request = replace(request, num_envs=num_envs, compute=Compute(device, compile, precision), settings=set)
    request.check()  # before torch is imported
    from robolearn.recipes.train import total_steps, train_policy
    from robolearn.tasks import known_task

    if request.begins_with:
        say(f"{request.run} begins with --set {' '.join(request.begins_with)}")
    beside_it = beside(web, request.run, dataset, offline_data)
    with beside_it, ProgressBar(f"train {algorithm}", total_steps(request), "step") as bar:
        result = train_policy(request, bar.update, lambda text: say(f"remark: {text}"))
    if result.get("process"):
        return 0  # the first one tells
    if json:
        print_json(result)
    say("time: " + ", ".join(f"{part} {share:.0%}" for part, share in result["time_shares"].items()))
    if "overlap_share" in result:
        say(f"of the environments' steps, {result['overlap_share']:.0%} of the time passed beside updates")
    if (bounds := result.get("success_ci95")) is not None:
        say(f"success in the last evaluation: {result['success_rate']:.2f} (95 %: {bounds[0]:.2f} to {bounds[1]:.2f})")
    say(f"checkpoint: {result['checkpoint']}")
    if resume is not None and "update" not in result["time_shares"]:
        say(
            f"nothing was left to do: {resume} has its {result['steps']} steps; "
            f"begin another with --init-from {quoted(resume)}"
        )
    if result["interrupted"]:
        run = quoted(request.run)
        say(f"interrupted at step {result['steps']}; go on with: robolearn train {algorithm} --resume {run}")
        return EXIT_INTERRUPTED
    for judged in result["tasks"] if len(result["tasks"]) == 1 else ():
        if ":" in judged or known_task(judged):  # what was done on a cell no twin can judge
            say(f"judge it with: robolearn evaluate {quoted(result['checkpoint'])} --task {quoted(judged)}")
    return 0


def sweep(
    algorithm: Annotated[str, Positional, arg(metavar="ALGORITHM")],
    search: tuple[str, ...],
    trials: int = 20,
    dataset: Path | None = None,
    task: str | None = None,
    out: Path = Path("runs/sweep"),
    steps: int | None = None,
    seed: int = 0,
    num_envs: int = 1,
    compile: bool = False,
    device: str = "cpu",
    set: tuple[str, ...] = (),
    json: bool = False,
) -> int:
    """Search settings of a training by many short ones.

    A sweep that is begun again as it was, with the same --out, goes on with other settings than were tried.

    Example: robolearn sweep sac --task gym:Pendulum-v1 --steps 5000 --search critic_learning_rate=1e-4..1e-2:log

    Args:
        algorithm: as of `train`.
        search: what settings may be: `name=a|b|c`, `name=low..high` or `name=low..high:log`.
        trials: how many trainings to run.
        dataset: a dataset to learn from; of demonstrations, what counts is the validation loss.
        task: a task to learn in; what counts is the return of the last evaluation. With a dataset of transitions or
            goals, the task that each policy is judged in: by its success, or its return where there is none.
        out: folder of the sweep: a run for each trial, and sweep.json.
        steps: of each training.
        seed: of the search and of every training.
        num_envs: environments that are stepped together.
        compile: compile the updates of every training.
        device: `cpu` or `cuda`.
        set: settings that stay the same.
    """
    from robolearn.algorithms.compute import Compute
    from robolearn.recipes.train_request import TrainRequest

    request = TrainRequest(algorithm, dataset, task, out, steps, seed, num_envs=num_envs, settings=set)
    request.check()  # before torch is imported
    from robolearn.recipes.sweep import sweep as run_sweep

    with ProgressBar(f"sweep {algorithm}", trials, "trial") as bar:
        answer = run_sweep(replace(request, compute=Compute(device, compile)), search, trials, bar.update)
    if json:
        print_json(answer)
    best = " ".join(f"{name}={value}" for name, value in answer["best_settings"].items())
    tried = counted(answer["trials"], "trial")
    say(f"best of {tried}: {best} with {answer['best_value']:.4g}; all in {out / 'sweep.json'}")
    if answer["interrupted"]:
        say("interrupted; the same command goes on")
        return EXIT_INTERRUPTED
    return 0


def evaluate(
    checkpoint: Annotated[str, Positional, arg(metavar="CHECKPOINT")],
    task: str,
    episodes: int = 20,
    seed: int = 1_000_000,
    video: Path | None = None,
    engine: Literal["mujoco", "bullet"] = "mujoco",
    device: str = "cpu",
    json: bool = False,
) -> int:
    """Run a policy in the twin and measure its success.

    A policy that wants a goal gets that of the environment, or in a twin what the task's expert ends with.

    Example: robolearn evaluate runs/bc/checkpoints/best --task pick_place-v1 --episodes 50 --json

    Args:
        checkpoint: a checkpoint, tcp://HOST:PORT of `robolearn serve`, or `scripted` for the task's expert.
        task: id of a task, see `robolearn tasks`, `tool:<id>`, or `gym:<id>` for an environment of Gymnasium.
        episodes: how many.
        seed: of the first episode; demonstrations count up from 0, evaluations from a million.
        video: write the first episode to this MP4 file.
        engine: of the twin; `bullet` runs the same task in PyBullet.
        device: where the policy computes, `cpu` or `cuda`.
    """
    from robolearn.recipes.evaluate import evaluate_policy

    with ProgressBar("evaluate", episodes, "episode") as bar:
        answer = evaluate_policy(
            checkpoint, task, episodes, seed=seed, video=video, device=device, engine=engine, progress=bar.update
        )
    if answer["remark"]:
        say(f"remark: {answer['remark']}")
    if json:
        print_json(answer)
    else:
        rows: list[tuple[Any, ...]] = []
        if answer["success_rate"] is not None:
            low, high = answer["success_ci95"]
            rows.append(("success rate", f"{answer['success_rate']:.2f}  (95 % interval {low:.2f} to {high:.2f})"))
        rows += [
            ("return", f"{answer['return_mean']:.2f} +- {answer['return_std']:.2f}"),
            ("mean episode", f"{answer['mean_episode_steps']:.1f} steps"),
            ("episodes", episodes),
        ]
        print_table(f"{checkpoint} on {task}", ("", ""), rows)
    return 0


def export(
    checkpoint: Annotated[Path, Positional, arg(metavar="CHECKPOINT")], out: Path | None = None, json: bool = False
) -> int:
    """Write a policy as an ONNX file and check it against the policy.

    Example: robolearn export runs/bc/checkpoints/best --out runs/bc.onnx

    Args:
        checkpoint: a checkpoint.
        out: the file; by default beside the checkpoint, with .onnx behind its name.
    """
    from robolearn.recipes.export import export_policy

    answer = export_policy(checkpoint, out)
    if json:
        print_json(answer)
    say(f"{answer['out']}: {', '.join(answer['inputs'])} to action; differs by {answer['max_error']:.1e} of its range")
    return 0
