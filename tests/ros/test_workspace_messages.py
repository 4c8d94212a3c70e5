"""The interfaces of the workspace: what rosidl generates C, C++ and Python from must compile."""

from __future__ import annotations

import keyword
from pathlib import Path

import pytest

from robolearn.ros import definitions

PACKAGE = Path(__file__).parents[2] / "ros_ws" / "src" / "robolearn_msgs"
FILES = sorted(path for kind in definitions.KINDS for path in (PACKAGE / kind).glob(f"*.{kind}"))
CPP = """
    alignas alignof and and_eq asm auto bitand bitor bool break case catch char char8_t char16_t char32_t class compl
    concept const consteval constexpr constinit const_cast continue co_await co_return co_yield decltype default delete
    do double dynamic_cast else enum explicit export extern false float for friend goto if inline int long mutable
    namespace
    new noexcept not not_eq nullptr operator or or_eq private protected public register reinterpret_cast requires return
    short signed sizeof static static_assert static_cast struct switch template this thread_local throw true try typedef
    typeid typename union unsigned using virtual void volatile wchar_t while xor xor_eq restrict
"""


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_field_is_a_reserved_word(path: Path) -> None:
    reserved = {*CPP.split(), *keyword.kwlist}
    for part, text in enumerate(definitions.split(path.read_text(encoding="utf-8"))):
        fields = definitions.parse(f"robolearn_msgs/{path.suffix[1:]}/Part{part}", text).fields
        assert not {name for name, _ in fields} & reserved


def test_every_file_is_built() -> None:
    listed = (PACKAGE / "CMakeLists.txt").read_text(encoding="utf-8")
    assert all(f'"{path.parent.name}/{path.name}"' in listed for path in FILES)
