"""Make the registry's torchvision importable beside a CPU build of torch.

torchvision's wheel is built against CUDA. With a CPU torch its import fails, because the kernels that would declare two
operators cannot be loaded. Declaring the schemas is enough for everything but non-maximum suppression itself. On a
healthy pair a second declaration would abort the process, so the two builds are told apart first.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import torch

SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_declared: list[torch.library.Library] = []  # the schemas live as long as their library object


def builds_clash(torch_cuda: str | None, torchvision_version_file: Path) -> bool:
    """True when torch is a CPU build and torchvision's version.py names a CUDA build (`0.28.0+cu130`)."""
    if torch_cuda is not None or not torchvision_version_file.is_file():
        return False
    text = torchvision_version_file.read_text(encoding="utf-8")
    return re.search(r"__version__ = ['\"][^'\"]*\+cu\d+['\"]", text) is not None


def declare_torchvision_operators() -> bool:
    """Declare the schemas where the installed builds clash; call before the first import of torchvision or open_clip.

    Returns whether this call declared them.
    """
    if _declared or "torchvision" in sys.modules:
        return False
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return False
    if not builds_clash(torch.version.cuda, Path(spec.origin).with_name("version.py")):
        return False
    library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in SCHEMAS:
        library.define(schema)
    _declared.append(library)
    return True
