"""Make a keypoints reward of what a vision model sees in one picture: what has to move, and on which way.

Lee et al., "Affordance-guided reinforcement learning via visual prompting" (KAGI), 2024. One question, about the first
picture of the first episode; its way holds for episodes that begin alike.
"""

from __future__ import annotations

from collections.abc import Sequence

from robolearn.recipes.rewards.data import RewardData
from robolearn.recipes.rewards.settings import Report, TrainingSettings
from robolearn.rewards.endpoint import Endpoint
from robolearn.rewards.keypoints import KeypointsConfig, KeypointsReward
from robolearn.rewards.marks import GRID
from robolearn.rewards.vlm_labels import marked_way


def make_keypoints(
    data: RewardData, indices: Sequence[int], settings: TrainingSettings, report: Report
) -> KeypointsReward:
    """Nothing is learned. A waypoint is passed within half a cell, which is as exactly as a model can tell it."""
    camera = settings.cameras[0]
    image = data.images(indices[0], camera)[0]
    goal = data.goal(indices[0], settings.goal)
    client = Endpoint(settings.endpoint)
    thing, way = marked_way(client, goal, image)
    report(settings.steps, f"requests: {client.requests}, cost {client.cost:.2f}")
    return KeypointsReward(
        KeypointsConfig(
            waypoints=(thing.centre, *way),
            radius=0.5 / GRID,
            camera=camera,
            colour=thing.colour,
            success_dir=settings.success_dir,
            device=settings.device,
        )
    )
