"""The commands that serve a policy to robots without ROS, and a reward model to whoever labels or learns."""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from robolearn.cli.output import print_json, say


def serve(
    checkpoint: Annotated[Path, Positional, arg(metavar="CHECKPOINT")],
    host: str = "127.0.0.1",
    port: int = 8470,
    token: str = "",
    device: str = "cpu",
    json: bool = False,
) -> int:
    """Serve a policy over TCP to robots and programs without ROS, until Ctrl-C.

    Where a checkpoint is named, such as in evaluate, collect and the policy node, tcp://HOST:PORT uses it.

    Example: robolearn serve runs/bc/checkpoints/best --host 192.168.1.10

    Args:
        checkpoint: the policy.
        host: address to listen on; anything but this host wants a token.
        port: 0 takes a free one.
        token: what clients have to show, as ROBOLEARN_POLICY_TOKEN says in their environment and by default in ours,
            where no list of processes shows it.
        device: `cpu` or `cuda`.
        json: print the address as JSON when the server is ready.
    """
    from robolearn.recipes.policies import open_robot_policy
    from robolearn.serving.client import TOKEN_VARIABLE
    from robolearn.serving.server import PolicyServer

    logging.basicConfig(format="%(message)s")
    logging.getLogger("robolearn").setLevel(logging.INFO)  # and no library's
    token = token or os.environ.get(TOKEN_VARIABLE, "")
    server = PolicyServer(str(checkpoint), lambda: open_robot_policy(str(checkpoint), device), host, port, token)
    if json:
        print_json({"address": server.address, "policy": str(checkpoint)})
    say(f"{checkpoint} is served at {server.address}; end with Ctrl-C")
    with contextlib.closing(server), contextlib.suppress(KeyboardInterrupt):
        server.serve()
    return 0


def reward_serve(
    model: Annotated[Path, Positional, arg(metavar="MODEL")],
    host: str = "127.0.0.1",
    port: int = 8480,
    token: str = "",
    device: str = "cpu",
    json: bool = False,
) -> int:
    """Serve a reward model over HTTP, until Ctrl-C, so that it runs apart from who labels or learns.

    Where a model's folder is named, http://HOST:PORT uses it; `label --reward hop --score-server` asks it for hops.

    Example: robolearn reward serve runs/hop --port 8480

    Args:
        model: the folder that `robolearn reward train` wrote.
        host: address to listen on; anything but this host wants a token.
        port: 0 takes a free one.
        token: what clients have to show, as ROBOLEARN_REWARD_TOKEN says in their environment and by default in ours,
            where no list of processes shows it.
        device: `cpu` or `cuda`.
        json: print the address as JSON when the server is ready.
    """
    from robolearn.rewards.saved import load_reward
    from robolearn.rewards.score_protocol import TOKEN_VARIABLE
    from robolearn.rewards.score_server import ScoreServer

    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    reward = load_reward(model, device)
    server = ScoreServer(reward, host, port, token or os.environ.get(TOKEN_VARIABLE, ""))
    if json:
        print_json({"address": server.address, "model": reward.id, "version": reward.version})
    say(f"{model} is served at {server.address}; end with Ctrl-C")
    with contextlib.closing(server), contextlib.suppress(KeyboardInterrupt):
        server.serve()
    return 0
