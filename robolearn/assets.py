"""Finding the files that are not Python: models of `sim_assets` and launch files.

Looked for in this order: $ROBOLEARN_ASSETS, the checkout that this package lies in, what an install put under
`share/robolearn` of a folder above the package: a virtual environment, ~/.local (`pip install --user`), a `--target`.
"""

from __future__ import annotations

import os
from pathlib import Path

from robolearn.errors import AssetError, UnknownNameError

OVERRIDE = "ROBOLEARN_ASSETS"
LAUNCH_SUFFIX = ".launch.yaml"


def asset_roots() -> list[Path]:
    """Folders that may hold `sim_assets/` and `launch/`, the first one that has a file wins."""
    override = os.environ.get(OVERRIDE)
    roots = [Path(override)] if override else []
    here = Path(__file__)
    above = here.resolve().parents[1:]
    around = dict.fromkeys((*above, *here.absolute().parents[1:]))  # a file may be a link into an installer's cache
    installed = [folder / "share" / "robolearn" for folder in around]
    return [*roots, above[0], *(folder for folder in installed if folder.is_dir())]


def asset(name: str) -> Path:
    """Path of a file such as `sim_assets/robots/so101/so101.xml`. Raises AssetError naming where it was looked for."""
    roots = asset_roots()
    for root in roots:
        if (root / name).is_file():
            return root / name
    looked = ", ".join(str(root) for root in roots)
    raise AssetError(f"{name} is in none of {looked}; set {OVERRIDE} to the folder that holds sim_assets and launch")


def scene_file(scene: str | Path) -> Path:
    """Of a scene by its name in `sim_assets/scenes`, or by the path of its file. Raises AssetError."""
    return scene if isinstance(scene, Path) else asset(f"sim_assets/scenes/{scene}.xml")


def launch_file(name: str) -> Path:
    """A launch file by path, or `launch/<name>.launch.yaml` by name. Raises UnknownNameError with the near misses."""
    if Path(name).is_file():
        return Path(name)
    known = {
        path.name.removesuffix(LAUNCH_SUFFIX)
        for root in asset_roots()
        for path in (root / "launch").glob(f"*{LAUNCH_SUFFIX}")
    }
    if name not in known:
        raise UnknownNameError("launch file", name, known)
    return asset(f"launch/{name}{LAUNCH_SUFFIX}")
