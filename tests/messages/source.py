"""Collects the messages that the source can raise, with what it fills in left open, by reading its syntax trees."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("csscc", "passes", "runtime")
RAISED = ("RefusedError", "UsageError", "NotMetError", "BadParameter")  # what the command line shows as it is
DEPTH = 4  # names that stand for one another
RETURNED = (  # whose functions return or yield reasons and warnings
    "passes/linear/",
    "passes/convert/find_regions.py",
    "passes/canonical/true_causes.py",
    "csscc/measure/inputs.py",
    "csscc/measure/input_range.py",
    "csscc/measure/agreement.py",
    "csscc/measure/comparison.py",
    "csscc/measure/opened.py",
    "csscc/api.py",
)
LETTERS = 8  # what has fewer is made of other messages, which have their own rows
OPEN = "\0"  # where something is filled in


@dataclass(frozen=True)
class Template:
    """A message as the source has it."""

    where: str
    text: str

    def __str__(self) -> str:
        return f"{self.where}: {self.text.replace(OPEN, '{}')}"

    def is_in(self, message: str) -> bool:
        """Whether a message has this text, whatever was filled in, with other text around it or not."""
        return re.search(".*".join(map(re.escape, self.text.split(OPEN))), message, re.DOTALL) is not None


def templates() -> list[Template]:
    """All messages in the source."""
    return [t for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py")) for t in of_file(path)]


def of_file(path: Path) -> list[Template]:
    """The messages of one file."""
    return list(of_source(path.read_text(), str(path.relative_to(ROOT))))


def of_source(source: str, name: str) -> Iterator[Template]:
    """The messages of a module: what it raises, and errors that the command line prints."""
    module = ast.parse(source)
    if name.startswith(RETURNED):
        yield from _returned(module, name)
    outer = {id(inner): f for f in ast.walk(module) if isinstance(f, ast.FunctionDef) for inner in ast.walk(f)}
    for call in ast.walk(module):
        if not isinstance(call, ast.Call) or not call.args:
            continue
        called = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        if called in RAISED or called == "warn":
            for text in _texts(call.args[0], outer.get(id(call)), module, DEPTH):
                if _letters(text) >= LETTERS:
                    yield Template(f"{name}:{call.lineno}", text)
        elif called == "echo":
            for text in _texts(call.args[0], outer.get(id(call)), module, DEPTH):
                if text.startswith("Error: ") and _letters(text) > LETTERS:
                    yield Template(f"{name}:{call.lineno}", text.removeprefix("Error: "))


@cache
def notes() -> list[Template]:
    """All notes of passes in the source."""
    files = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    return [note for path in files for note in notes_of_source(path.read_text(), str(path.relative_to(ROOT)))]


def notes_of_source(source: str, name: str) -> Iterator[Template]:
    """Notes of a module, ``network.report(pass, node, note)``, and the reasons in them that its functions return."""
    module = ast.parse(source)
    outer = {id(inner): f for f in ast.walk(module) if isinstance(f, ast.FunctionDef) for inner in ast.walk(f)}
    functions = {f.name: f for f in module.body if isinstance(f, ast.FunctionDef)}
    for call in ast.walk(module):
        if not isinstance(call, ast.Call) or getattr(call.func, "attr", "") != "report" or len(call.args) != 3:
            continue
        function = outer.get(id(call))
        for text in _texts(call.args[2], function, module, DEPTH):
            if _letters(text) >= LETTERS:
                yield Template(f"{name}:{call.lineno}", text)
        read = [part.id for part in ast.walk(call.args[2]) if isinstance(part, ast.Name)]
        values = [value for part in read for value, _ in _values(part, function, module)]
        makers = {getattr(value.func, "id", "") for value in values if isinstance(value, ast.Call)}
        for maker in sorted(makers & functions.keys()):
            yield from _returned_by(functions[maker], module, name)


def _returned(module: ast.Module, name: str) -> Iterator[Template]:
    """The texts that functions return or yield, also as one of several values."""
    for function in ast.walk(module):
        if isinstance(function, ast.FunctionDef):
            yield from _returned_by(function, module, name)


def _returned_by(function: ast.FunctionDef, module: ast.Module, name: str) -> Iterator[Template]:
    """Those of one function."""
    for statement in ast.walk(function):
        given = statement.value if isinstance(statement, ast.Return | ast.Yield) else None
        given = given.elt if isinstance(given, ast.GeneratorExp) else given
        for value in given.elts if isinstance(given, ast.Tuple) else [given] if given else []:
            for text in _texts(value, function, module, 1):
                if " " in text and _letters(text) >= LETTERS:
                    yield Template(f"{name}:{statement.lineno}", text)


def _texts(value: ast.expr, function: ast.FunctionDef | None, module: ast.Module, depth: int) -> list[str]:
    """What an expression may be, `OPEN` where that is not written in this module."""
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        return [value.value]
    if isinstance(value, ast.FormattedValue):
        return _texts(value.value, function, module, depth)
    if isinstance(value, ast.JoinedStr) or (isinstance(value, ast.BinOp) and isinstance(value.op, ast.Add)):
        parts = value.values if isinstance(value, ast.JoinedStr) else [value.left, value.right]
        return ["".join(chosen) for chosen in product(*(_texts(part, function, module, depth) for part in parts))]
    if isinstance(value, ast.IfExp):
        return [t for branch in (value.body, value.orelse) for t in _texts(branch, function, module, depth)]
    if isinstance(value, ast.Name) and depth:
        found = [t for v, f in _values(value.id, function, module) for t in _texts(v, f, module, depth - 1)]
        return list(dict.fromkeys(t if _letters(t) >= LETTERS else OPEN for t in found)) or [OPEN]
    return [OPEN]


def _letters(text: str) -> int:
    return len(re.findall("[A-Za-z]", text))


Function = ast.FunctionDef | None


def _values(name: str, function: Function, module: ast.Module) -> Iterator[tuple[ast.expr, Function]]:
    """What a name is assigned in a function or the module, or given as an argument where this module calls it."""
    for statement in (*(ast.walk(function) if function else ()), *module.body):
        if isinstance(statement, ast.Assign):
            target = statement.targets[0]
            pairs = [(target, statement.value)]
            if isinstance(target, ast.Tuple) and isinstance(statement.value, ast.Tuple):
                pairs = list(zip(target.elts, statement.value.elts, strict=False))
            yield from ((v, function) for t, v in pairs if isinstance(t, ast.Name) and t.id == name)
    names = [a.arg for a in function.args.args] if function else []
    if function and name in names:
        for call in ast.walk(module):
            if isinstance(call, ast.Call) and getattr(call.func, "id", "") == function.name:
                yield from ((argument, None) for argument in call.args[names.index(name) :][:1])
