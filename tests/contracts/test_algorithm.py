"""What every algorithm of ALGORITHMS owes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from robolearn.algorithms import ALGORITHMS, algorithm_class
from robolearn.algorithms.algorithm import Algorithm, Batch
from robolearn.algorithms.compile import compiled
from robolearn.algorithms.compute import Compute
from robolearn.errors import UnknownNameError
from robolearn.networks.captured import WARM_UP_CALLS
from robolearn.networks.normalizer import FieldStatistics
from robolearn.policies.gaussian import GaussianPolicyConfig
from robolearn.specs import InterfaceSpec, RobotSpec, image_spec

ROBOT = RobotSpec("toy", ("pan", "grip"), (-1.0, -1.0), (1.0, 3.0), (1.0, 1.0))
SPEC = InterfaceSpec({"proprio": ROBOT.proprio_spec, "image_a": image_spec(16, 16)}, ROBOT.action_spec, 10.0)
STATISTICS = {
    "proprio": FieldStatistics((0.0,) * 4, (0.5,) * 4, (-1.0,) * 4, (1.0,) * 4),
    "action": FieldStatistics((0.0,) * 2, (0.5,) * 2, (-1.0,) * 2, (1.0,) * 2),
}
SIZE = 6  # of a batch
CHUNK_ALGORITHMS = sorted(name for name, made in ALGORITHMS.items() if made.learns_from == "chunks")
TRANSITION_ALGORITHMS = sorted(name for name, made in ALGORITHMS.items() if made.learns_from == "transitions")
CRITICAL_ALGORITHMS = sorted(name for name, made in ALGORITHMS.items() if "critic_loss" in made.metrics)


def make(name: str, seed: int = 0, **settings: Any) -> Algorithm:
    algorithm = ALGORITHMS[name]
    if name == "rlpd":
        settings = {"utd": 1, **settings}
    return algorithm(SPEC, STATISTICS, algorithm.config_type(steps=10, batch_size=SIZE, **settings), seed=seed)


def batch(algorithm: Algorithm, seed: int = 0, size: int = SIZE) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    if ALGORITHMS[name_of(algorithm)].learns_from == "transitions":
        return {
            "proprio": torch.rand(size, 4, generator=generator),
            "next_proprio": torch.rand(size, 4, generator=generator),
            "action": torch.rand(size, 2, generator=generator),
            "reward": torch.rand(size, generator=generator),
            "bootstrap": (torch.rand(size, generator=generator) < 0.8).float(),
            "discount": torch.full((size,), 0.9),
            "return_to_go": torch.rand(size, generator=generator),
        }
    if ALGORITHMS[name_of(algorithm)].learns_from == "goals":
        prefixes = ("", "next_", "goal_", "far_", "way_", "target_", "option_")
        ends = {f"{p}bootstrap": (torch.rand(size, generator=generator) < 0.8).float() for p in ("", "option_")}
        return {
            **{f"{prefix}proprio": torch.rand(size, 4, generator=generator) for prefix in prefixes},
            **ends,
            **{name.replace("bootstrap", "reward"): -value for name, value in ends.items()},
            "action": torch.rand(size, 2, generator=generator),
        }
    steps = algorithm.config.policy.chunk_steps
    return {
        "proprio": torch.rand(size, 4, generator=generator),
        "image_a": torch.randint(0, 256, (size, 16, 16, 3), dtype=torch.uint8, generator=generator),
        "action": torch.rand(size, steps, 2, generator=generator),
        "action_mask": torch.rand(size, steps, generator=generator) < 0.8,
    }


def name_of(algorithm: Algorithm) -> str:
    return next(name for name, made in ALGORITHMS.items() if type(algorithm) is made)


@pytest.fixture(params=sorted(ALGORITHMS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def weights(algorithm: Algorithm) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in algorithm.policy().state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_update_learns_and_tells_in_scalars(name: str) -> None:
    algorithm = make(name)
    assert isinstance(algorithm, Algorithm)
    before = weights(algorithm)
    metrics = algorithm.update(batch(algorithm))
    assert algorithm.gradient_step == 1
    assert not same(weights(algorithm), before)
    assert set(metrics) == set(ALGORITHMS[name].metrics)
    assert all(isinstance(value, torch.Tensor) and value.shape == () for value in metrics.values())
    assert all(torch.isfinite(value) and not value.requires_grad for value in metrics.values())


def test_validate_learns_nothing(name: str) -> None:
    algorithm = make(name)
    algorithm.update(batch(algorithm))
    before = {key: value.clone() for key, value in algorithm.state_dict().items()}
    metrics = algorithm.validate(batch(algorithm))
    assert metrics
    assert all(torch.isfinite(value) for value in metrics.values())
    assert same(dict(algorithm.state_dict()), before)


def test_the_same_seed_repeats_and_another_does_not(name: str) -> None:
    runs = []
    for seed in (1, 1, 2):
        algorithm = make(name, seed)
        for i in range(3):
            algorithm.update(batch(algorithm, i))
        runs.append(weights(algorithm))
    assert same(runs[0], runs[1])
    assert not same(runs[0], runs[2])


def test_a_restored_algorithm_continues_bit_for_bit(name: str) -> None:
    whole, first, second = make(name), make(name), make(name, seed=9)
    data: list[Batch] = [batch(whole, i) for i in range(6)]
    for one in data:
        whole.update(one)
    for one in data[:3]:
        first.update(one)
    second.load_state_dict({key: value.clone() for key, value in first.state_dict().items()})
    for one in data[3:]:
        second.update(one)
    assert second.gradient_step == 6
    assert same(dict(second.state_dict()), dict(whole.state_dict()))


@pytest.mark.parametrize("name", CHUNK_ALGORITHMS)
def test_what_the_mask_hides_is_not_learned(name: str) -> None:
    algorithm, other = make(name), make(name)
    one = batch(algorithm)
    two = {**one, "action": torch.where(one["action_mask"][..., None], one["action"], torch.tensor(1e3))}
    algorithm.update(one)
    other.update(two)
    assert same(weights(algorithm), weights(other))


@pytest.mark.parametrize("name", CHUNK_ALGORITHMS)
def test_a_batch_with_nothing_to_imitate_is_no_nan(name: str) -> None:
    algorithm = make(name)
    one = batch(algorithm)
    nothing = {**one, "action_mask": torch.zeros_like(one["action_mask"])}
    assert torch.isfinite(algorithm.update(nothing)["loss"])


@pytest.mark.parametrize("name", CRITICAL_ALGORITHMS)
def test_where_the_task_was_over_the_next_observation_does_not_matter(name: str) -> None:
    algorithm, other = make(name), make(name)
    one = {**batch(algorithm), "bootstrap": torch.zeros(SIZE)}
    two = {**one, "next_proprio": one["next_proprio"] + 1.0}
    first, second = algorithm.validate(one), other.validate(two)
    torch.testing.assert_close(first["critic_loss"], second["critic_loss"])
    bootstrapped = algorithm.validate({**one, "bootstrap": torch.ones(SIZE)})
    assert not torch.isclose(first["critic_loss"], bootstrapped["critic_loss"])


@pytest.mark.parametrize("name", [*TRANSITION_ALGORITHMS, "hiql"])
def test_rows_for_two_steps_are_two_steps(name: str) -> None:
    algorithm = make(name)
    algorithm.update(batch(algorithm, size=2 * SIZE))
    assert algorithm.gradient_step == 2


def after(algorithm: Algorithm, updates: int) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Its metrics and its state after that many updates."""
    metrics: dict[str, torch.Tensor] = {}
    for i in range(updates):
        metrics = algorithm.update(batch(algorithm, i))
    return metrics, {key: value.clone() for key, value in algorithm.state_dict().items()}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")  # torch's own
@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_compiled_equals_plain(name: str) -> None:
    """Gradients and metrics agree to rounding. Parameters may not: where a gradient is nothing but rounding, Adam steps
    by its learning rate all the same, and either way."""
    plain = make(name)
    fast = ALGORITHMS[name](SPEC, STATISTICS, plain.config, seed=0, wrapper=compiled())
    _, wanted = after(plain, 1)
    _, found = after(fast, 1)
    gradients = [key for key in wanted if "mean." in key and "adam" in key]
    assert gradients
    for key in gradients:
        torch.testing.assert_close(
            found[key], wanted[key], rtol=1e-3, atol=2e-6, msg=lambda text, key=key: f"{key}: {text}"
        )
    (metrics, wanted), (fast_metrics, found) = after(plain, 4), after(fast, 4)
    for key, value in metrics.items():
        torch.testing.assert_close(
            fast_metrics[key], value, rtol=2e-3, atol=2e-4, msg=lambda text, key=key: f"{key}: {text}"
        )
    for key, value in wanted.items():
        furthest = 5 * 2 * 3e-4 if value.is_floating_point() and "adam" not in key else None
        if furthest:
            assert (found[key] - value).abs().max() <= furthest, key


@pytest.mark.parametrize("name", [*CHUNK_ALGORITHMS, *TRANSITION_ALGORITHMS])
def test_bfloat16_changes_results_by_little_and_types_not_at_all(name: str) -> None:
    precise = make(name)
    rough = ALGORITHMS[name](SPEC, STATISTICS, precise.config, seed=0, wrapper=Compute(precision="bfloat16").wrapper())
    (metrics, state), (rough_metrics, rough_state) = after(precise, 2), after(rough, 2)
    assert {key: value.dtype for key, value in state.items()} == {k: value.dtype for k, value in rough_state.items()}
    assert any(not torch.equal(rough_metrics[key], value) for key, value in metrics.items())
    for key, value in metrics.items():
        torch.testing.assert_close(
            rough_metrics[key], value, rtol=0.03, atol=0.02, msg=lambda text, key=key: f"{key}: {text}"
        )


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")  # torch's own
@pytest.mark.parametrize("name", ["iql", "rlpd", "sac"])
def test_compiled_in_bfloat16_equals_plain_in_bfloat16(name: str) -> None:
    """Each gradient to the rounding of bfloat16; where the processor multiplies it, too."""
    wide = {"policy": GaussianPolicyConfig(hidden_sizes=(128, 128)), "critic_hidden_sizes": (128, 128)}
    plain, fast = (
        ALGORITHMS[name](SPEC, STATISTICS, make(name, **wide).config, 0, wrapper=how.wrapper())
        for how in (Compute(precision="bfloat16"), Compute(compile=True, precision="bfloat16"))
    )
    _, wanted = after(plain, 1)
    _, found = after(fast, 1)
    gradients = [key for key in wanted if "mean." in key and "adam" in key]
    assert gradients
    for key in gradients:
        assert (found[key] - wanted[key]).norm() <= 0.02 * wanted[key].norm(), key


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore")  # of the compiler
@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_captured_equals_plain(name: str) -> None:
    """First in plain calls, then as they were recorded."""
    config = make(name).config
    plain, fast = (
        ALGORITHMS[name](SPEC, STATISTICS, config, 0, "cuda", wrapper)
        for wrapper in (Compute("cuda").wrapper(), Compute("cuda", True, "float32").wrapper())
    )
    history = []
    for i in range(2 * WARM_UP_CALLS + 2):
        rows = {key: values.cuda() for key, values in batch(plain, i).items()}
        history.append((fast.update(rows), plain.update(rows)))
    for found, wanted in history:  # looked at late: an answer must not be overwritten by the next
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)
    for key, value in plain.policy().state_dict().items():
        torch.testing.assert_close(fast.policy().state_dict()[key], value, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("hidden", [(200,), (64, 64)])
@pytest.mark.parametrize("name", CRITICAL_ALGORITHMS)
def test_the_first_last_and_small_layers_stay_in_float32_and_so_do_their_gradients(
    name: str, hidden: tuple[int, ...]
) -> None:
    """Bit for bit, where there are no others."""
    small = {"policy": GaussianPolicyConfig(hidden_sizes=hidden), "critic_hidden_sizes": hidden}
    runs = [
        ALGORITHMS[name](SPEC, STATISTICS, make(name, **small).config, seed=0, wrapper=wrapper)
        for wrapper in (Compute().wrapper(), Compute(precision="bfloat16").wrapper())
    ]
    assert same(after(runs[0], 3)[1], after(runs[1], 3)[1])


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")  # torch's own
def test_two_compiled_learners_do_not_take_each_others_program() -> None:
    fast = [
        ALGORITHMS["iql"](SPEC, STATISTICS, make("iql", expectile=expectile).config, seed=0, wrapper=compiled())
        for expectile in (0.5, 0.9)
    ]
    for algorithm, expectile in zip(fast, (0.5, 0.9), strict=True):
        metrics, _ = after(algorithm, 2)
        wanted, _ = after(make("iql", expectile=expectile), 2)
        torch.testing.assert_close(metrics["value_loss"], wanted["value_loss"], rtol=1e-3, atol=1e-5)


def test_an_unknown_name_gets_the_near_misses() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown algorithm 'bcc'; did you mean bc"):
        algorithm_class("bcc")
