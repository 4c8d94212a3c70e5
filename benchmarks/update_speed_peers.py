"""The peers of `update_speed.py`, one worker process each, run by a Python that has them installed.

`python update_speed_peers.py PEER ALGORITHM THREADS DEVICE [CORL]` prints `ready` after its warm-up, and then, for each
line on stdin, the updates a second of wall and of CPU time that it does in that many seconds. Replay sampling is
included. Networks, batches and settings are those of `update_speed.py`; CORL is a checkout of corl-team/CORL, whose
scripts are loaded as they are.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path

THREADS, DEVICE = int(sys.argv[3]), sys.argv[4]
os.environ["XLA_FLAGS"] = (
    f"--xla_cpu_multi_thread_eigen={'true' if THREADS > 1 else 'false'} intra_op_parallelism_threads={THREADS}"
)
os.environ["OMP_NUM_THREADS"] = str(THREADS)

import gymnasium  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402

torch.set_num_threads(THREADS)
OBSERVATION, ACTION, BATCH, ROWS = 17, 6, 256, 20_000
RNG = np.random.default_rng(0)
Update = Callable[[], int]  # does some updates and says how many


class Dummy(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (OBSERVATION,), np.float32)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (ACTION,), np.float32)

    def reset(self, **kwargs: object) -> tuple:
        return np.zeros(OBSERVATION, np.float32), {}

    def step(self, action: object) -> tuple:
        return np.zeros(OBSERVATION, np.float32), 0.0, False, False, {}


def rows() -> dict[str, np.ndarray]:
    return {
        "observations": RNG.normal(size=(ROWS, OBSERVATION)).astype(np.float32),
        "next_observations": RNG.normal(size=(ROWS, OBSERVATION)).astype(np.float32),
        "actions": RNG.uniform(-1, 1, (ROWS, ACTION)).astype(np.float32),
        "rewards": RNG.normal(size=ROWS).astype(np.float32),
        "terminals": np.zeros(ROWS, np.float32),
        "mc_returns": np.zeros(ROWS, np.float32),
    }


def fill(model: object) -> None:
    data = rows()
    for i in range(ROWS):
        model.replay_buffer.add(  # type: ignore[attr-defined]
            data["observations"][i : i + 1],
            data["next_observations"][i : i + 1],
            data["actions"][i : i + 1],
            data["rewards"][i : i + 1],
            np.zeros(1),
            [{}],
        )


def sb3(algorithm: str) -> Update:
    from stable_baselines3 import SAC
    from stable_baselines3.common.logger import Logger

    critics = 10 if algorithm == "rlpd" else 2
    model = SAC(
        "MlpPolicy", Dummy(), batch_size=BATCH, buffer_size=ROWS, device=DEVICE, policy_kwargs={"n_critics": critics}
    )
    model.set_logger(Logger(None, []))
    fill(model)
    steps = 20 if algorithm == "rlpd" else 50

    def update() -> int:
        model.train(gradient_steps=steps, batch_size=BATCH)
        return steps

    return update


def sbx(algorithm: str) -> Update:
    from sbx import SAC
    from stable_baselines3.common.logger import Logger

    wide = algorithm == "rlpd"
    kwargs = {"n_critics": 10, "layer_norm": True} if wide else {}
    model = SAC(
        "MlpPolicy",
        Dummy(),
        batch_size=BATCH,
        buffer_size=ROWS,
        policy_delay=20 if wide else 1,
        policy_kwargs={**kwargs, "net_arch": [256, 256]},
    )
    model.set_logger(Logger(None, []))
    fill(model)
    steps = 20 if wide else 50

    def update() -> int:
        model.train(gradient_steps=steps, batch_size=BATCH)
        return steps

    return update


def d3rlpy(algorithm: str) -> Update:
    import d3rlpy as library

    data = rows()
    data["terminals"][99::100] = 1.0
    dataset = library.dataset.MDPDataset(data["observations"], data["actions"], data["rewards"], data["terminals"])
    config = {
        "sac": library.algos.SACConfig,
        "iql": library.algos.IQLConfig,
        "cql": library.algos.CQLConfig,
    }[algorithm]
    learner = config(batch_size=BATCH).create(device=f"{DEVICE}:0")
    learner.build_with_dataset(dataset)

    def update() -> int:
        learner.update(dataset.sample_transition_batch(BATCH))
        return 1

    return update


def corl(algorithm: str) -> Update:
    file = {"iql": "offline/iql.py", "cql": "offline/cql.py", "calql": "finetune/cal_ql.py"}[algorithm]
    for name in ("d4rl", "gym", "wandb", "pyrallis"):  # that the scripts import and an update does not use
        module = types.ModuleType(name)
        module.Env = object  # type: ignore[attr-defined]
        module.wrap = lambda: lambda function: function  # type: ignore[attr-defined]
        sys.modules[name] = module
    path = Path(sys.argv[5]) / "algorithms" / file
    spec = importlib.util.spec_from_file_location("corl_script", path)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    sys.modules["corl_script"] = script
    spec.loader.exec_module(script)
    buffer = script.ReplayBuffer(OBSERVATION, ACTION, ROWS, DEVICE)
    buffer.load_d4rl_dataset(rows())
    adam = torch.optim.Adam
    if algorithm == "iql":
        q, v = script.TwinQ(OBSERVATION, ACTION).to(DEVICE), script.ValueFunction(OBSERVATION).to(DEVICE)
        actor = script.GaussianPolicy(OBSERVATION, ACTION, 1.0).to(DEVICE)
        learner = script.ImplicitQLearning(
            max_action=1.0,
            actor=actor,
            actor_optimizer=adam(actor.parameters(), 3e-4),
            q_network=q,
            q_optimizer=adam(q.parameters(), 3e-4),
            v_network=v,
            v_optimizer=adam(v.parameters(), 3e-4),
            device=DEVICE,
        )
    else:
        first, second = (script.FullyConnectedQFunction(OBSERVATION, ACTION, True, 2).to(DEVICE) for _ in range(2))
        actor = script.TanhGaussianPolicy(OBSERVATION, ACTION, 1.0, orthogonal_init=True).to(DEVICE)
        learner = {"cql": "ContinuousCQL", "calql": "CalQL"}[algorithm]
        learner = getattr(script, learner)(
            critic_1=first,
            critic_2=second,
            critic_1_optimizer=adam(first.parameters(), 3e-4),
            critic_2_optimizer=adam(second.parameters(), 3e-4),
            actor=actor,
            actor_optimizer=adam(actor.parameters(), 3e-5),
            target_entropy=-float(ACTION),
            device=DEVICE,
        )

    def update() -> int:
        learner.train(buffer.sample(BATCH))
        return 1

    return update


PEERS = {"sb3": sb3, "sbx": sbx, "d3rlpy": d3rlpy, "corl": corl}


def main() -> None:
    update = PEERS[sys.argv[1]](sys.argv[2])
    for _ in range(2):
        update()
    print("ready", flush=True)
    for line in sys.stdin:
        seconds, done, started, used = float(line), 0, time.perf_counter(), time.process_time()
        while time.perf_counter() - started < seconds:
            done += update()
        wall_s, cpu_s = time.perf_counter() - started, time.process_time() - used
        print(f"rate {done / wall_s} {done / cpu_s}", flush=True)


if __name__ == "__main__":
    main()
