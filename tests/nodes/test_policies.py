"""The policy node with policies that do not fit or do not work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diagnostic_msgs.msg import DiagnosticArray
from robolearn_msgs.msg import ActionChunk, EpisodeEvent
from robolearn_msgs.srv import LoadPolicy, StartEpisode
from robolearn_nodes import policy_node, recorder_node, topics, twin_node

from robolearn.errors import BAD_INPUT_EXIT_CODE
from robolearn.networks.normalizer import FieldStatistics
from robolearn.policies.checkpoint import save_policy
from robolearn.policies.chunking import ChunkPolicy, ChunkPolicyConfig
from robolearn.specs import InterfaceSpec, image_spec
from robolearn.tasks import make_task

TASK, SIZE = "reach-v1", 32


def save_untrained(path: Path, image_size: int = SIZE, control_hz: float = 20.0, nan: bool = False) -> Path:
    robot = make_task(TASK).robot_spec
    fields = {"proprio": robot.proprio_spec, "image_front": image_spec(image_size, image_size)}
    spec = InterfaceSpec(fields, robot.action_spec, control_hz)
    statistics = {
        name: FieldStatistics((0.0,) * size, (1.0,) * size, (-1.0,) * size, (1.0,) * size)
        for name, size in (("proprio", 12), ("action", 6))
    }
    policy = ChunkPolicy(spec, statistics, ChunkPolicyConfig(chunk_steps=4, encoder_channels=(4,), hidden_sizes=(8,)))
    if nan:
        with torch.no_grad():
            next(policy.head.parameters()).fill_(float("nan"))
    save_policy(policy, path)
    return path


def test_a_twin_meets_policies_that_do_not_fit_do_not_work_and_do(graph: Any, tmp_path: Path) -> None:
    """One twin for all, because every process that starts costs seconds."""
    problems: list[str] = []
    chunks: list[ActionChunk] = []

    def on_diagnostics(message: DiagnosticArray) -> None:
        problems.extend(status.message for status in message.status if status.name == "policy")

    graph.node.create_subscription(DiagnosticArray, topics.DIAGNOSTICS, on_diagnostics, 10)
    graph.node.create_subscription(ActionChunk, topics.ACTION_CHUNK, chunks.append, topics.STREAM)
    graph.start("twin", task=TASK, image_size=SIZE, cameras="front", command_timeout_s=3.0)

    wrong = graph.start("policy", "wrong", task=TASK, policy=save_untrained(tmp_path / "wrong", image_size=48))
    graph.spin_until(lambda: "is ready" in graph.log("wrong"))
    graph.agree(StartEpisode, topics.START_EPISODE, episode_id="a")
    graph.spin_until(lambda: wrong.poll() is not None)
    assert wrong.returncode == BAD_INPUT_EXIT_CODE
    assert "CheckpointError: the robot's image_front has shape (32, 32, 3), expected (48, 48, 3)" in graph.log("wrong")
    graph.spin_until(lambda: graph.events and graph.events[-1].event == EpisodeEvent.ENDED)  # held until then

    broken = save_untrained(tmp_path / "broken", nan=True)
    graph.start("policy", task=TASK, policy=broken, execute_steps=2)
    graph.spin_until(lambda: "is ready" in graph.log("policy"))
    event = graph.run_episode()
    assert event.truncated
    assert "no command within 3 s" in event.reason
    graph.spin_until(lambda: any("not finite" in problem for problem in problems))
    assert graph.log("policy").count("not finite") == 1
    assert not chunks

    good = save_untrained(tmp_path / "good")
    response = graph.call(LoadPolicy, topics.LOAD_POLICY, path=str(good), activate=True)
    assert response.success, response.message
    event = graph.run_episode()
    assert (event.num_steps, event.held_steps) == (make_task(TASK).max_steps, 0)
    assert event.truncated
    graph.spin_until(lambda: len(chunks) >= event.num_steps // 2)
    assert chunks[0].num_actions == 4
    assert len(chunks[0].actions) == 24
    assert chunks[0].source == "policy"


def test_bad_parameters_end_a_node_with_one_line(graph: Any, tmp_path: Path) -> None:
    child = graph.start("supervisor", service_timeout_s=0.5)
    assert child.wait(60) == 2
    assert "/policy/reset did not appear within 0.5 s" in graph.log("supervisor")
    assert len(graph.log("supervisor").splitlines()) == 1


def test_bad_parameters_are_told(refused: Any, tmp_path: Path) -> None:
    faster = save_untrained(tmp_path / "checkpoint", control_hz=30.0)
    for main, parameters, expected in (
        (twin_node.main, {"task": "pick_plac-v1"}, "unknown task 'pick_plac-v1'; did you mean pick_place-v1"),
        (twin_node.main, {"cameras": "frnt"}, "did you mean front?"),
        (twin_node.main, {"realtime_factor": "fast"}, "parameter realtime_factor is 'fast', expected float"),
        (policy_node.main, {"policy": "/no/such/checkpoint"}, "is not a checkpoint; it does not exist"),
        (policy_node.main, {"policy": faster}, "runs at 30 Hz, pick_place-v1 at 20 Hz; one rate is wanted of both"),
        (policy_node.main, {"policy": "tcp://127.0.0.1:9"}, "policy server tcp://127.0.0.1:9: not reached"),
        (recorder_node.main, {}, "the recorder has no dataset"),
        (recorder_node.main, {"dataset": tmp_path}, "is not a dataset"),
    ):
        assert expected in refused(main, **parameters)
