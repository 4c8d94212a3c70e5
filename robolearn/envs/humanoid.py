"""Gymnasium's environments as a vision-language model can make something of them.

Rocamonde et al., "Vision-language models are zero-shot reward models for reinforcement learning", 2023: their humanoid
kneels only where it looks like one. In theirs and here: a sky, a dull tiled floor, a body with a surface of its own in
white light, a camera that follows from 3.5 m, and episodes that a fall does not end. Difference: the textures are made
by MuJoCo and no photographs.
"""

from __future__ import annotations

import functools
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

import robolearn.twin  # noqa: F401, which settles the OpenGL before anybody imports MuJoCo
from robolearn.envs.gym_env import PREFIX, GymVectorEnv

CAMERA = {
    "trackbodyid": 1,
    "distance": 3.5,
    "lookat": np.array([0.0, 0.0, 1.0]),
    "elevation": -10.0,
    "azimuth": 180.0,
}
SIZE_PX = 480


def made_for_clip(task_id: str, num_envs: int) -> GymVectorEnv:
    """Environments of `gym:<id>` that are drawn; those of LOOKS look as a network knows such things."""
    name = task_id.removeprefix(PREFIX)
    return GymVectorEnv(task_id, num_envs, render=True, settings=LOOKS[name]() if name in LOOKS else {})


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    """Where changed models lie as long as this process runs."""
    return tempfile.TemporaryDirectory(prefix="robolearn-looks-")


def _humanoid() -> dict[str, Any]:
    source = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets" / "humanoid.xml"
    tree = ElementTree.parse(source)
    root = tree.getroot()
    for texture in root.iter("texture"):
        texture.attrib.update(_TEXTURES[texture.get("name", "skybox")])
    for material in root.iter("material"):
        if material.get("name") == "MatPlane":
            material.attrib.update(reflectance="0", shininess="0", specular="0", texrepeat="20 20")
    for geom in root.iter("geom"):
        geom.set("rgba", "1 1 1 1")
    for light in root.iter("light"):
        light.attrib.update(pos="0 -2 4", dir="0 0.4 -1", specular=".5 .5 .5")
    file = Path(_folder().name) / "humanoid.xml"
    tree.write(file)
    return {
        "xml_file": str(file),
        "terminate_when_unhealthy": False,
        "default_camera_config": CAMERA,
        "width": SIZE_PX,
        "height": SIZE_PX,
    }


_TEXTURES: Mapping[str, dict[str, str]] = {
    "skybox": {"rgb1": ".55 .75 .95", "rgb2": ".85 .92 1"},
    "texgeom": {"rgb1": "0.80 0.58 0.46", "rgb2": "0.55 0.38 0.30", "builtin": "gradient", "mark": "none"},
    "texplane": {"rgb1": ".55 .53 .50", "rgb2": ".70 .68 .65"},
}

LOOKS: Mapping[str, Callable[[], dict[str, Any]]] = {"Humanoid-v5": _humanoid}
"""What an environment is made with, by its id."""
