from __future__ import annotations

import json
import sys
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from robolearn.errors import CheckpointError, RobolearnError
from robolearn.networks.normalizer import FieldStatistics
from robolearn.policies.act import ACTPolicyConfig
from robolearn.policies.checkpoint import POLICIES, save_policy
from robolearn.policies.chunking import ChunkPolicyConfig
from robolearn.policies.flow import FlowPolicy, FlowPolicyConfig
from robolearn.policies.gaussian import GaussianPolicyConfig
from robolearn.policies.hierarchical import HierarchicalPolicyConfig
from robolearn.recipes import export
from robolearn.serving.context import Context
from robolearn.specs import InterfaceSpec, RobotSpec, image_spec

ROBOT = RobotSpec("toy", ("pan", "grip"), (-1.0, 0.0), (1.0, 0.5), (1.0, 1.0))
SPEC = InterfaceSpec({"proprio": ROBOT.proprio_spec, "image_a": image_spec(16, 20)}, ROBOT.action_spec, 10.0)
STATISTICS = {
    "proprio": FieldStatistics((0.0,) * 4, (0.5,) * 4, (-1.0,) * 4, (1.0,) * 4),
    "action": FieldStatistics((0.0,) * 2, (0.5,) * 2, (-1.0,) * 2, (1.0,) * 2),
}
SMALL = {
    "act": [ACTPolicyConfig(chunk_steps=3, encoder_channels=(4, 4), width=8, heads=2, layers=1)],
    "chunking": [
        ChunkPolicyConfig(chunk_steps=3, encoder_channels=(4, 4), hidden_sizes=(8,)),
        ChunkPolicyConfig(chunk_steps=3, encoder_channels=(4, 4), hidden_sizes=(8,), shrink=3),
        ChunkPolicyConfig(3, encoder_channels=(4, 4), hidden_sizes=(8,), observation_steps=2, instruction="words"),
    ],
    "flow": [FlowPolicyConfig(chunk_steps=3, encoder_channels=(4, 4), hidden_sizes=(8,), flow_steps=2)],
    "hierarchical": [HierarchicalPolicyConfig(hidden_sizes=(8,), representation_size=4)],
    "gaussian": [
        GaussianPolicyConfig(hidden_sizes=(8,), distribution=kind)
        for kind in ("squashed", "clipped", "mixture", "deterministic")
    ],
}


def checkpoint(folder: Path, kind: str, config: object) -> Path:
    policy = POLICIES[kind](SPEC, STATISTICS, config, seed=3)
    save_policy(policy, folder / "checkpoint")
    return folder / "checkpoint"


def test_every_kind_of_policy_is_tried() -> None:
    assert set(SMALL) == set(POLICIES)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "config"), [(kind, config) for kind, each in SMALL.items() for config in each])
def test_the_file_answers_as_the_policy_does(kind: str, config: object, tmp_path: Path) -> None:
    import onnxruntime

    path = checkpoint(tmp_path, kind, config)
    answer = export.export_policy(path)
    assert answer["out"] == tmp_path / "checkpoint.onnx"
    assert answer["max_error"] <= export.TOLERANCE
    session = onnxruntime.InferenceSession(answer["out"])
    spec = json.loads(session.get_modelmeta().custom_metadata_map["robolearn"])
    policy = POLICIES[kind](SPEC, STATISTICS, config, seed=3)
    assert list(spec["observation"]) == answer["inputs"] == list(policy.spec.observation)
    rng = np.random.default_rng(1)
    context = Context(policy.spec, "push it")
    for _ in range(2):
        context.add({"proprio": rng.normal(size=4).astype(np.float32), "image_a": np.full((16, 20, 3), 9, np.uint8)})
    observation = {"goal_proprio": rng.normal(size=4).astype(np.float32), **context.shown()}
    batch = {name: observation[name][None] for name in answer["inputs"]}
    found = session.run(["action"], batch)[0][0]
    np.testing.assert_allclose(np.atleast_2d(found), policy.act(observation, 0).actions, atol=1e-4)


def test_a_folder_that_cannot_be_made_is_told_before_the_work(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, "gaussian", SMALL["gaussian"][0])
    with pytest.raises(RobolearnError, match=r"a\.onnx cannot be written: .*config\.json: File exists"):
        export.export_policy(path, path / "config.json" / "a.onnx")
    with pytest.raises(RobolearnError, match=f"{tmp_path} is a folder; name a file in it"):
        export.export_policy(path, tmp_path)


@pytest.mark.slow
def test_a_file_that_answers_otherwise_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = checkpoint(tmp_path, "gaussian", SMALL["gaussian"][0])
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    with pytest.raises(CheckpointError, match="answers otherwise"):
        export.export_policy(path)
    assert [each.name for each in tmp_path.iterdir()] == ["checkpoint"]


@pytest.mark.slow
def test_a_file_that_takes_blue_for_red_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = replace(SPEC, observation={**SPEC.observation, "image_a": image_spec(96, 96)})
    save_policy(FlowPolicy(spec, STATISTICS, FlowPolicyConfig(), seed=3), tmp_path / "checkpoint")
    translate = export._translate

    def mistaken(answer: export._Answer, *others: Any) -> Any:
        other = deepcopy(answer)
        first = other.policy.features.encoders["image_a"].convolutions[0]  # type: ignore[attr-defined]
        with torch.no_grad():
            first.weight.copy_(first.weight.flip(1))
        return translate(other, *others)

    monkeypatch.setattr(export, "_translate", mistaken)
    with pytest.raises(CheckpointError, match="answers otherwise"):
        export.export_policy(tmp_path / "checkpoint")


@pytest.mark.slow
def test_a_file_that_answers_with_no_number_is_not_kept(tmp_path: Path) -> None:
    policy = POLICIES["gaussian"](SPEC, STATISTICS, SMALL["gaussian"][0])
    with torch.no_grad():
        next(policy.parameters())[...] = torch.nan
    save_policy(policy, tmp_path / "checkpoint")
    with pytest.raises(CheckpointError, match="answers otherwise than the policy, by nan"):
        export.export_policy(tmp_path / "checkpoint")
    assert [each.name for each in tmp_path.iterdir()] == ["checkpoint"]


@pytest.mark.slow
def test_a_check_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = checkpoint(tmp_path, "gaussian", SMALL["gaussian"][0])

    def torn(*_: object) -> None:
        raise RuntimeError("torn")

    monkeypatch.setattr("onnx.checker.check_model", torn)
    with pytest.raises(RuntimeError, match="torn"):
        export.export_policy(path)
    assert [each.name for each in tmp_path.iterdir()] == ["checkpoint"]


def test_the_error_of_a_joint_without_a_range_is_in_its_unit() -> None:
    wanted = np.zeros((1, 2), np.float32)
    for low, high in (((-1.0, 0.3), (1.0, 0.3)), ((-1.0, -np.inf), (1.0, np.inf))):
        robot = RobotSpec("toy", ("pan", "grip"), low, high, (1.0, 1.0))
        policy = SimpleNamespace(spec=InterfaceSpec({}, robot.action_spec, 10.0))
        assert export._largest_error(policy, wanted, wanted) == 0
        assert export._largest_error(policy, wanted + np.float32(0.5), wanted) == 0.5


def test_without_onnx_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = checkpoint(tmp_path, "gaussian", SMALL["gaussian"][0])
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(RobolearnError, match=r"pip install 'robolearn\[onnx\]'"):
        export.export_policy(path)


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist"):
        export.export_policy(tmp_path / "nothing")
