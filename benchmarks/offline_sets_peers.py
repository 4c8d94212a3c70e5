"""CORL's own scripts on transitions of `offline_sets.py`, run by a Python that has torch and gymnasium.

`python offline_sets_peers.py CHECKOUT ALGORITHM ENV NPZ STEPS BATCH SEED EPISODES DEVICE` prints the mean return of
EPISODES episodes after so many gradient steps on batches of that size. The scripts are loaded as they are; observations
are normalised as theirs do it.
"""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch

FIRST_SEED = 1_000_000  # of the evaluation, as robolearn's
SCRIPTS = {"calql": "finetune/cal_ql.py"}  # where it is not offline/<algorithm>.py


def load(checkout: Path, algorithm: str) -> Any:
    """The script as a module."""
    for name in ("d4rl", "gym", "wandb", "pyrallis"):  # that the scripts import and an update does not use
        module = types.ModuleType(name)
        module.Env = object  # type: ignore[attr-defined]
        module.wrap = lambda: lambda function: function  # type: ignore[attr-defined]
        sys.modules[name] = module
    script_file = checkout / "algorithms" / SCRIPTS.get(algorithm, f"offline/{algorithm}.py")
    spec = importlib.util.spec_from_file_location("corl_script", script_file)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    sys.modules["corl_script"] = script
    spec.loader.exec_module(script)
    return script


def learner_of(script: Any, algorithm: str, state: int, action: int, steps: int, device: str) -> tuple[Any, Any]:
    """The learner with the settings of the script's own config for locomotion, and its actor."""
    adam = torch.optim.Adam
    if algorithm == "td3_bc":
        actor, first, second = (
            net.to(device)
            for net in (script.Actor(state, action, 1.0), script.Critic(state, action), script.Critic(state, action))
        )
        optimizers = [adam(net.parameters(), 3e-4) for net in (actor, first, second)]
        return script.TD3_BC(
            1.0, actor, optimizers[0], first, optimizers[1], second, optimizers[2], device=device
        ), actor
    if algorithm == "iql":
        q, v, actor = (
            net.to(device)
            for net in (
                script.TwinQ(state, action),
                script.ValueFunction(state),
                script.GaussianPolicy(state, action, 1.0),
            )
        )
        learner = script.ImplicitQLearning(
            max_action=1.0,
            actor=actor,
            actor_optimizer=adam(actor.parameters(), 3e-4),
            q_network=q,
            q_optimizer=adam(q.parameters(), 3e-4),
            v_network=v,
            v_optimizer=adam(v.parameters(), 3e-4),
            max_steps=steps,
            device=device,
        )
        return learner, actor
    layers = script.TrainConfig().q_n_hidden_layers
    first, second = (script.FullyConnectedQFunction(state, action, True, layers).to(device) for _ in range(2))
    actor = script.TanhGaussianPolicy(state, action, 1.0, orthogonal_init=True).to(device)
    conservative = {"cql": "ContinuousCQL", "calql": "CalQL"}[algorithm]
    learner = getattr(script, conservative)(
        critic_1=first,
        critic_2=second,
        critic_1_optimizer=adam(first.parameters(), 3e-4),
        critic_2_optimizer=adam(second.parameters(), 3e-4),
        actor=actor,
        actor_optimizer=adam(actor.parameters(), 3e-5),
        target_entropy=-float(action),
        policy_lr=3e-5,  # of the temperature; left out, it is ten times that, which no config of theirs has
        bc_steps=0,
        cql_alpha=script.TrainConfig().cql_alpha,
        device=device,
    )
    return learner, actor


def main() -> None:
    checkout, algorithm, name, file = Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
    steps, size, seed, episodes = (int(text) for text in sys.argv[5:9])
    device = sys.argv[9]
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # or CQL's numbers become so small that an update takes seconds
    torch.manual_seed(seed)
    np.random.seed(seed)
    script = load(checkout, algorithm)
    data = {key: values.astype(np.float32) for key, values in np.load(file).items()}
    mean, std = data["observations"].mean(0), data["observations"].std(0) + 1e-3
    for key in ("observations", "next_observations"):
        data[key] = (data[key] - mean) / std
    rows, state, action = len(data["rewards"]), data["observations"].shape[1], data["actions"].shape[1]
    buffer = script.ReplayBuffer(state, action, rows, device)
    buffer.load_d4rl_dataset(data)
    learner, actor = learner_of(script, algorithm, state, action, steps, device)
    for _ in range(steps):
        learner.train(buffer.sample(size))
    actor.eval()
    env = gymnasium.make(name)
    low, high = env.action_space.low, env.action_space.high  # type: ignore[attr-defined]
    totals = []
    for episode in range(episodes):
        seen, _ = env.reset(seed=FIRST_SEED + episode)
        total, ended = 0.0, False
        while not ended:
            chosen = actor.act(((seen - mean) / std).astype(np.float32), device)
            seen, reward, terminated, truncated, _ = env.step((low + high) / 2 + (high - low) / 2 * chosen)
            total, ended = total + float(reward), terminated or truncated
        totals.append(total)
    print(np.mean(totals))


if __name__ == "__main__":
    main()
