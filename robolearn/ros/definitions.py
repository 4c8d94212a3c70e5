"""Where interface definitions come from, and what they parse to.

A definition is looked up in this order: packages on `ROBOLEARN_MSGS_PATH` (a list of package folders, or of folders
that hold packages), the package of this repository (checkout, then installed copy), the type store of rosbags with the
texts of `interfaces.py`, and last the `share` folders of `AMENT_PREFIX_PATH`.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from rosbags.interfaces import Nodetype
from rosbags.typesys import Stores, get_typestore
from rosbags.typesys.base import TypesysError, make_typesdict
from rosbags.typesys.msg import MSGParser
from rosbags.typesys.store import TIDMAP, Typestore

from robolearn.errors import UnknownNameError
from robolearn.ros.interfaces import DEFAULTS, TEXTS

KINDS = ("msg", "srv", "action")
PLACEHOLDER: tuple[str, Any] = (
    "structure_needs_at_least_one_member",
    (Nodetype.BASE, ("uint8", 0)),
)  # what rosidl puts into empty ones

# rosbags knows no wide strings: they are parsed as strings, and told by name
WIDE = re.compile(r"^[ \t]*wstring(?=\b[^\n]*?[\s\]](\w+))", re.MULTILINE)
BOUNDED_WIDE = re.compile(r"^[ \t]*wstring[ \t]*<=", re.MULTILINE)
TIDMAP["wstring"] = 18  # FIELD_TYPE_WSTRING of type_description_interfaces, for type hashes

FieldDesc = Any  # as rosbags nests them: (Nodetype, name and bound), or (Nodetype, (element, size))


@dataclass(frozen=True)
class Definition:
    """Fields, constants and defaults of one message, or of one part of a service or an action."""

    name: str
    fields: tuple[tuple[str, FieldDesc], ...]
    constants: tuple[tuple[str, str, Any], ...] = ()
    defaults: dict[str, Any] = field(default_factory=dict)


def _char_is_uint8(desc: FieldDesc) -> FieldDesc:
    """rosidl reads `char` as uint8; rosbags hashes it as a type of its own, which spoils every service hash."""
    kind, value = desc
    if kind == Nodetype.BASE:
        return (kind, ("uint8", value[1])) if value[0] == "char" else desc
    if kind == Nodetype.NAME:
        return desc
    return (kind, (_char_is_uint8(value[0]), value[1]))


def _as_wide(desc: FieldDesc) -> FieldDesc:
    kind, value = desc
    return (kind, ("wstring", 0)) if kind == Nodetype.BASE else (kind, (_as_wide(value[0]), value[1]))


def parse(name: str, text: str) -> Definition:
    """Parse one message text. Raises ValueError with the reason."""
    package, _, short = name.split("/")
    if BOUNDED_WIDE.search(text):
        raise ValueError(
            f"{name}: the definition has a wstring with a bound, which is not supported; leave the bound away"
        )
    text, wide = WIDE.sub("string", text), set(WIDE.findall(text))
    try:  # rosbags renames whatever does not stand in `msg`, so parse there and keep our own name
        (message,) = MSGParser(f"MSG: {package}/msg/{short}\n{text}").specification()
    except TypesysError as error:
        reason = str(error).splitlines()[-1]
        raise ValueError(f"{name}: the definition cannot be read near {reason!r}") from error
    ((constants, fields),) = make_typesdict([message]).values()
    return Definition(
        name,
        tuple((key, _as_wide(desc) if key in wide else _char_is_uint8(desc)) for key, desc in fields) or (PLACEHOLDER,),
        tuple(constants),
        {entry.name: entry.value for entry in message.fields if entry.value is not None},
    )


def split(text: str) -> list[str]:
    """The parts of a .srv or .action text, between lines of `---`."""
    parts: list[list[str]] = [[]]
    for line in text.splitlines():
        if line.strip() == "---":
            parts.append([])
        else:
            parts[-1].append(line)
    return ["\n".join(part) for part in parts]


def _packages_in(folder: Path) -> dict[str, Path]:
    """Packages that a search-path entry names: itself, or the folders directly inside it."""
    candidates = [folder, *(sorted(folder.iterdir()) if folder.is_dir() else [])]
    return {p.name: p for p in candidates if any((p / kind).is_dir() for kind in KINDS)}


@lru_cache(maxsize=1)
def search_path() -> dict[str, Path]:
    """Package name to folder, of every package with texts on disk that comes before the standard ones."""
    ours = Path("ros_ws", "src", "robolearn_msgs")
    above = Path(__file__).resolve().parents[2:]
    installed = [folder / "share" / "robolearn" / ours for folder in above]
    found: dict[str, Path] = {}
    override = [Path(entry) for entry in os.environ.get("ROBOLEARN_MSGS_PATH", "").split(os.pathsep) if entry]
    for folder in (*override, above[0] / ours, *installed):
        for name, path in _packages_in(folder).items():
            found.setdefault(name, path)
    return found


def _ament_folders() -> list[Path]:
    prefixes = os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)
    return [Path(prefix) / "share" for prefix in prefixes if prefix]


@lru_cache(maxsize=1)
def store() -> Typestore:
    """The type store of ROS 2 Jazzy, with `char` mended. Shared: definitions are added to it as they are used."""
    types = get_typestore(Stores.ROS2_JAZZY)
    for name, (constants, fields) in types.fielddefs.items():
        types.fielddefs[name] = (constants, [(key, _char_is_uint8(desc)) for key, desc in fields] or [PLACEHOLDER])
    return types


def _text(name: str) -> str | None:
    package, kind, short = name.split("/")
    own = search_path().get(package)
    if own is not None and (own / kind / f"{short}.{kind}").is_file():
        return (own / kind / f"{short}.{kind}").read_text(encoding="utf-8")
    if name in TEXTS:
        return TEXTS[name]
    if name in store().fielddefs:
        return None
    for share in _ament_folders():
        path = share / package / kind / f"{short}.{kind}"
        if path.is_file():
            return path.read_text(encoding="utf-8")
    return None


def message(name: str) -> Definition:
    """Definition of `package/msg/Name`. Raises UnknownNameError."""
    text = _text(name)
    if text is not None:
        return parse(name, text)
    if name not in store().fielddefs:
        package = name.split("/")[0]
        raise UnknownNameError(
            "message type", name, [f"{package}/msg/{n}" for n in names(package, "msg")] or packages()
        )
    constants, fields = store().fielddefs[name]
    return Definition(name, tuple(fields), tuple(constants), DEFAULTS.get(name, {}))


def parts(name: str) -> list[str]:
    """Texts of the two parts of a service or the three of an action. Raises UnknownNameError or ValueError."""
    package, kind, _ = name.split("/")
    text = _text(name)
    if text is None:
        raise UnknownNameError(f"{kind} type", name, [f"{package}/{kind}/{n}" for n in names(package, kind)])
    texts, wanted = split(text), {"srv": 2, "action": 3}[kind]
    if len(texts) != wanted:
        raise ValueError(f"{name}: the definition has {len(texts)} parts, wanted {wanted} separated by '---'")
    return texts


def packages() -> set[str]:
    """Names of every package with a definition."""
    known = {name.split("/")[0] for name in (*store().fielddefs, *TEXTS)} | set(search_path())
    for share in _ament_folders():
        known |= set(_packages_in(share))
    return known


def names(package: str, kind: str) -> list[str]:
    """Short names of a package's definitions of one kind, sorted."""
    prefix = f"{package}/{kind}/"
    standard = (*store().fielddefs, *TEXTS) if kind == "msg" else TEXTS
    known = {name.removeprefix(prefix) for name in standard if name.startswith(prefix)}
    folders = [search_path().get(package), *(share / package for share in _ament_folders())]
    for folder in folders:
        if folder is not None:
            known |= {path.stem for path in (folder / kind).glob(f"*.{kind}")}
    return sorted(known)
