"""Put fitted physics into a cell's file, whose other lines stay as they are, comments too."""

from __future__ import annotations

from pathlib import Path

import yaml

from robolearn import durable
from robolearn.cell import load_cell
from robolearn.errors import CellError
from robolearn.physics import Physics

SECTION = "physics"
DIGITS = 6


def write_physics(cell: Path, physics: Physics, remark: str) -> None:
    """Write the section `physics` of a cell's file, in place of the one that stood there; at once or not at all.

    remark: where the numbers come from. Raises CellError for a file that is no cell.
    """
    load_cell(cell)
    text = cell.read_text(encoding="utf-8")
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if not isinstance(root, yaml.MappingNode) or root.flow_style:
        raise CellError(f"{cell} is written in braces; write its keys one a line, so that physics can be added")
    values = {k: [_rounded(x) for x in v] if isinstance(v, list) else _rounded(v) for k, v in physics.known().items()}
    section = f"{SECTION}:  # {remark}\n" + "".join(f"  {name}: {value}\n" for name, value in values.items())
    for key, value in root.value:
        if key.value == SECTION:
            end = text.find("\n", _last(value).end_mark.index - 1)
            text = text[: key.start_mark.index] + section + (text[end + 1 :] if end >= 0 else "")
            break
    else:
        text = f"{text.rstrip()}\n\n{section}"
    durable.write(cell, text.encode())


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def _last(node: yaml.Node) -> yaml.Node:
    """What a node ends with; the end of a block itself lies behind the comments after it."""
    while isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        node = last[1] if isinstance(node, yaml.MappingNode) else last
    return node
