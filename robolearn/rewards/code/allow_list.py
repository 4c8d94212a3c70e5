"""What a written reward function may contain: an allow-list over its syntax tree.

Nothing that is not listed passes: no imports, attributes other than the listed ones of `np`, loops without a bound,
classes, lambdas, comprehensions, try, with, global names or string formatting; numbers and powers are bounded. The list
keeps honest mistakes and plain attacks out before a process is started; the sandbox does not rely on it.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence

from robolearn.errors import RobolearnError

MAX_CHARACTERS = 8000
MAX_NODES = 1500
MAX_NUMBER = 1e6
MAX_POWER = 8
MAX_LOOP = 100

# fmt: off
NUMPY = frozenset({
    "abs", "absolute", "all", "any", "arctan", "arctan2", "argmax", "argmin", "array", "clip", "concatenate", "cos",
    "cross", "deg2rad", "dot", "e", "exp", "expm1", "float32", "float64", "hypot", "inf", "isfinite", "linalg",
    "log", "log1p", "logical_and", "logical_not", "logical_or", "max", "maximum", "mean", "median", "min", "minimum",
    "nan_to_num", "pi", "prod", "rad2deg", "sign", "sin", "sqrt", "square", "stack", "std", "sum", "tan", "tanh",
    "var", "where",
})
# fmt: on
LINALG = frozenset({"norm"})
BUILTINS = frozenset({"abs", "bool", "dict", "float", "int", "len", "max", "min", "range", "round", "sum"})
METHODS = frozenset({"mean", "sum", "max", "min", "clip", "copy", "any", "all"})

_NODES = (
    *(ast.Module, ast.FunctionDef, ast.arguments, ast.arg, ast.Return, ast.Assign, ast.AugAssign, ast.AnnAssign),
    *(ast.If, ast.For, ast.IfExp, ast.Expr, ast.Pass, ast.Break, ast.Continue, ast.BoolOp, ast.BinOp, ast.UnaryOp),
    *(ast.Compare, ast.Call, ast.keyword, ast.Constant, ast.Name, ast.Load, ast.Store, ast.Attribute, ast.Subscript),
    *(ast.Slice, ast.Tuple, ast.List, ast.Dict, ast.And, ast.Or, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv),
    *(ast.Mod, ast.Pow, ast.Not, ast.UAdd, ast.USub, ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE),
    *(ast.Is, ast.IsNot),
)


class RewardCodeError(RobolearnError):
    """Written reward code is refused or failed. The message is what its author is told."""


def check_code(code: str, name: str, parameters: Sequence[str]) -> None:
    """Raise RewardCodeError unless `code` is one function `name(parameters)` and helpers, all within the list."""
    if len(code) > MAX_CHARACTERS:
        raise RewardCodeError(f"the code has {len(code)} characters, at most {MAX_CHARACTERS} are read")
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise RewardCodeError(f"the code does not parse: {error}") from error
    if sum(1 for _ in ast.walk(tree)) > MAX_NODES:
        raise RewardCodeError(f"the code is too long: more than {MAX_NODES} syntax nodes")
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    if len(functions) != len(tree.body):
        raise RewardCodeError("only function definitions may stand at the top")
    names = [function.name for function in functions]
    if names.count(name) != 1 or len(set(names)) != len(names):
        raise RewardCodeError(f"the code defines {', '.join(names) or 'nothing'}, expected one {name}")
    main = functions[names.index(name)]
    if [argument.arg for argument in main.args.args] != list(parameters):
        raise RewardCodeError(f"{name} must take ({', '.join(parameters)}) and nothing else")
    seen: set[str] = set()
    for function in functions:  # a function may call those above it, so there is no recursion
        _check_function(function, seen)
        seen.add(function.name)


def _check_function(function: ast.FunctionDef, callable_names: set[str]) -> None:
    spec = function.args
    if spec.vararg or spec.kwarg or spec.kwonlyargs or spec.posonlyargs or spec.defaults or function.decorator_list:
        raise RewardCodeError(f"{function.name}: plain parameters only, without defaults, * or decorators")
    for node in ast.walk(function):
        if not isinstance(node, _NODES):
            raise RewardCodeError(f"line {getattr(node, 'lineno', '?')}: {type(node).__name__} is not allowed")
        if isinstance(node, ast.FunctionDef) and node is not function:
            raise RewardCodeError(f"line {node.lineno}: a function inside a function is not allowed")
        if isinstance(node, ast.arg | ast.Name | ast.FunctionDef):
            _check_name(node)
        elif isinstance(node, ast.Constant):
            _check_constant(node)
        elif isinstance(node, ast.Attribute):
            _check_attribute(node)
        elif isinstance(node, ast.Call):
            _check_call(node, callable_names)
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
            _check_power(node)
        elif isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Pow):
            raise RewardCodeError(f"line {node.lineno}: **= is not allowed")
        elif isinstance(node, ast.For):
            _check_loop(node)


def _check_name(node: ast.arg | ast.Name | ast.FunctionDef) -> None:
    name = node.arg if isinstance(node, ast.arg) else node.id if isinstance(node, ast.Name) else node.name
    bound = not isinstance(node, ast.Name) or isinstance(node.ctx, ast.Store)
    if name.startswith("_") or not name.isascii():
        raise RewardCodeError(f"line {node.lineno}: the name {name!r} is not allowed")
    if bound and (name == "np" or name in BUILTINS):
        raise RewardCodeError(f"line {node.lineno}: {name!r} must not be redefined")


def _check_constant(node: ast.Constant) -> None:
    value = node.value
    if value is None or isinstance(value, bool) or (isinstance(value, str) and len(value) <= 300):
        return
    if not isinstance(value, int | float) or not abs(value) <= MAX_NUMBER:
        raise RewardCodeError(f"line {node.lineno}: the constant is not allowed; numbers reach {MAX_NUMBER:g}")


def _check_attribute(node: ast.Attribute) -> None:
    path = _path(node)
    if isinstance(node.ctx, ast.Store):
        raise RewardCodeError(f"line {node.lineno}: {path} must not be assigned to")
    above = path.rpartition(".")[0]
    listed = NUMPY if above == "np" else LINALG if above == "np.linalg" else () if above.startswith("np.") else METHODS
    if node.attr not in listed:
        raise RewardCodeError(f"line {node.lineno}: {path} is not on the list")


def _path(node: ast.expr) -> str:
    """Names joined by dots, of which the first may stand for what is computed."""
    names = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return ".".join([node.id if isinstance(node, ast.Name) else "(...)", *reversed(names)])


def _check_call(node: ast.Call, callable_names: set[str]) -> None:
    if isinstance(node.func, ast.Name) and node.func.id not in BUILTINS | callable_names:
        raise RewardCodeError(f"line {node.lineno}: {node.func.id}() is not on the list, or stands below its use")
    if not isinstance(node.func, ast.Name | ast.Attribute):
        raise RewardCodeError(f"line {node.lineno}: only names can be called")
    if any(keyword.arg is None or keyword.arg in ("out", "dtype", "where") for keyword in node.keywords):
        raise RewardCodeError(f"line {node.lineno}: ** and out=, dtype=, where= are not allowed")


def _check_power(node: ast.BinOp) -> None:
    exponent = node.right.operand if isinstance(node.right, ast.UnaryOp) else node.right
    if not (isinstance(exponent, ast.Constant) and isinstance(exponent.value, int | float)):
        raise RewardCodeError(f"line {node.lineno}: an exponent must be a number")
    if abs(exponent.value) > MAX_POWER:
        raise RewardCodeError(f"line {node.lineno}: an exponent may be at most {MAX_POWER}")


def _check_loop(node: ast.For) -> None:
    source = node.iter
    fits = isinstance(source, ast.Call) and isinstance(source.func, ast.Name) and source.func.id == "range"
    if not fits or not isinstance(source, ast.Call) or source.keywords:
        raise RewardCodeError(f"line {node.lineno}: loops run over range(number) only")
    for argument in source.args:
        if not (isinstance(argument, ast.Constant) and isinstance(argument.value, int) and argument.value <= MAX_LOOP):
            raise RewardCodeError(f"line {node.lineno}: range() takes numbers up to {MAX_LOOP}")
