"""The expressions of `$(eval ...)`: literals, comparisons, logic, arithmetic and a few string methods; nothing else.

Native launch runs the text as Python. Here the syntax tree is walked over an allow-list, and no operator is allowed
whose result can be much larger than the text (powers, repeated strings, formats), so that a launch file from a
stranger cannot do more than name the programs it wants to start.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any

from robolearn.errors import LaunchError

_COMPARISONS: Mapping[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda item, holder: item in holder,
    ast.NotIn: lambda item, holder: item not in holder,
}
_ARITHMETIC: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_STRING_METHODS = ("lower", "upper", "strip", "lstrip", "rstrip", "startswith", "endswith")


def evaluate(text: str) -> Any:
    """The value of an expression. Raises LaunchError for anything that is not on the allow-list or fails."""
    try:
        value = _value(ast.parse(text.strip(), mode="eval").body)
        str(value)  # an integer too long to print fails here, not at the caller
    except (SyntaxError, ValueError, TypeError, ArithmeticError, RecursionError, MemoryError) as error:
        raise LaunchError(f"$(eval ...) of {text!r}: {error}") from None
    return value


def _value(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=str() | bool() | int() | float() | None as value):
            return value
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return [_value(item) for item in items]
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return not _value(operand)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_number(operand)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return +_number(operand)
        case ast.BoolOp(op=ast.And(), values=values):
            return _until(values, False)
        case ast.BoolOp(op=ast.Or(), values=values):
            return _until(values, True)
        case ast.IfExp(test=test, body=body, orelse=other):
            return _value(body) if _value(test) else _value(other)
        case ast.Compare(left=first, ops=operators, comparators=others):
            return _compare(first, operators, others)
        case ast.BinOp(left=left, op=kind, right=right) if type(kind) in _ARITHMETIC:
            return _arithmetic(left, kind, right)
        case ast.Call(func=ast.Attribute(value=owner, attr=name), args=arguments, keywords=[]) if (
            name in _STRING_METHODS
        ):
            return getattr(_string(owner), name)(*(_string(argument) for argument in arguments))
        case ast.Name(id=name):
            raise TypeError(f'{name} has no value; put quotes around text, as in \'"$(var x)" == "{name}"\'')
    raise TypeError(f"{ast.unparse(node)!r} is not allowed; wanted literals, comparisons, and, or, not, arithmetic")


def _until(values: list[ast.expr], wanted: bool) -> Any:
    """`and` stops at the first false value, `or` at the first true one."""
    for node in values:
        value = _value(node)
        if bool(value) == wanted:
            break
    return value


def _compare(first: ast.expr, operators: list[ast.cmpop], others: list[ast.expr]) -> bool:
    left = _value(first)
    for kind, node in zip(operators, others, strict=True):
        if type(kind) not in _COMPARISONS:
            raise TypeError("'is' is not allowed; wanted ==")
        right = _value(node)
        if not _COMPARISONS[type(kind)](left, right):
            return False
        left = right
    return True


def _arithmetic(left: ast.expr, kind: ast.operator, right: ast.expr) -> Any:
    values = (_value(left), _value(right))
    if isinstance(kind, ast.Add) and all(isinstance(value, str) for value in values):
        return values[0] + values[1]
    if not all(isinstance(value, int | float) for value in values):
        raise TypeError(f"{values[0]!r} and {values[1]!r} are not two numbers")
    return _ARITHMETIC[type(kind)](*values)


def _number(node: ast.expr) -> Any:
    value = _value(node)
    if not isinstance(value, int | float):
        raise TypeError(f"{value!r} is not a number")
    return value


def _string(node: ast.expr) -> str:
    value = _value(node)
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not a text")
    return value
