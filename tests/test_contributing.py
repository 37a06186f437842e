"""The recipes of CONTRIBUTING.md, done as written: in a copy of the sources, with the tests that they name.

A block of Python under the path of a file is that file; a block of changes under one is made in it; an indented line
``python -m pytest ...`` is run behind them.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
INSIDE = ("passes", "runtime", "models")  # folders at the top that are packages of csscc once it is installed
COPIED = ("csscc", "tests", "docs", *INSIDE)
RECIPES = (
    "Adding a pass",
    "Adding a linear operator",
    "Adding an activation",
    "Adding a target",
    "Adding a coding",
)
BLOCK = re.compile(r"`([\w.]+(?:/[\w.]+)+)`[^`]*:\n\n```(python|diff)\n(.*?)```\n", re.DOTALL)
COMMAND = re.compile(r"^ {4}python -m pytest (.*)$", re.MULTILINE)


def section(title: str) -> str:
    """What stands under a heading of the page."""
    parts = re.split(r"^## (.*)\n", (ROOT / "CONTRIBUTING.md").read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))[title]


def changed(text: str, change: str) -> str:
    """`text` with each part of `change`, between lines of ``...``, made at the one place where it fits."""
    for part in re.split(r"^\.\.\.\n", change, flags=re.MULTILINE):
        marked = [(line[:1], line[1:]) for line in part.splitlines(keepends=True)]
        assert {mark for mark, _ in marked} <= {" ", "+", "-"}, part
        before, after = ("".join(line for mark, line in marked if mark in (" ", kept)) for kept in "-+")
        assert before != after, part
        assert text.count(before) == 1, f"these lines stand in the file {text.count(before)} times:\n{before}"
        text = text.replace(before, after)
    return text


def copy_of_sources(folder: Path) -> Path:
    for name in COPIED:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("real"))
    for name in INSIDE:
        (folder / "csscc" / name).symlink_to(folder / name)
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def follow(recipe: str, folder: Path) -> list[str]:
    """Write and change the files that a recipe names; returns the paths of those it changes."""
    touched = []
    for path, kind, text in BLOCK.findall(recipe):
        file = folder / path
        if kind == "python":
            assert not file.exists(), f"{path} is there already"
            file.write_text(text)
        else:
            file.write_text(changed(file.read_text(), text))
        touched.append(path)
    return touched


def pytest_in(folder: Path, arguments: str) -> subprocess.CompletedProcess[str]:
    hidden = ("PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT", "PYTEST_ADDOPTS", "PYTHONPATH")
    clean = {name: value for name, value in os.environ.items() if name not in hidden}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    quoted = re.findall(r'"[^"]*"|\S+', arguments)
    return subprocess.run(
        [*command, *(a.strip('"') for a in quoted)], cwd=folder, env=clean, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("title", RECIPES)
def test_a_recipe_works_as_written(title: str, tmp_path: Path) -> None:
    recipe, folder = section(title), copy_of_sources(tmp_path)
    touched = follow(recipe, folder)
    commands = COMMAND.findall(recipe)
    assert touched
    assert commands
    assert recipe.count("```") == 2 * len(touched), "a block that is under no path"
    for arguments in commands:
        done = pytest_in(folder, arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        assert re.search(r"\b[1-9]\d* passed", done.stdout), done.stdout


@pytest.mark.parametrize(
    ("title", "most"), [("Adding an activation", 2), ("Adding a target", 2), ("Adding a coding", 4)]
)
def test_how_many_places_a_recipe_touches(title: str, most: int) -> None:
    """Besides documents and tests."""
    paths = {path for path, _, _ in BLOCK.findall(section(title)) if not path.startswith(("docs/", "tests/"))}
    assert len(paths) <= most, paths


def test_a_recipe_fails_where_its_code_does(tmp_path: Path) -> None:
    recipe = section("Adding a pass").replace("replace_readers(second.outputs[0], first.inputs[0])", "pass")
    folder = copy_of_sources(tmp_path)
    follow(recipe, folder)
    assert pytest_in(folder, COMMAND.findall(recipe)[0]).returncode == 1


def test_changes_that_do_not_fit_are_noticed() -> None:
    assert changed("a\nb\nc\n", " a\n-b\n+d\n...\n c\n+e\n") == "a\nd\nc\ne\n"
    for change in (" a\n+b\n", " x\n+y\n", " b\n"):
        with pytest.raises(AssertionError):
            changed("a\na\nb\n", change)


PATHS = re.compile(r"`((?:csscc|passes|runtime|tests|docs|benchmarks|models|typings)/[\w./]*)`")


@pytest.mark.parametrize(
    "page", ["CONTRIBUTING.md", "README.md", *sorted(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))]
)
def test_paths_that_a_page_names_exist(page: str) -> None:
    text = (ROOT / page).read_text()
    new = {path for title in RECIPES for path, kind, _ in BLOCK.findall(section(title)) if kind == "python"}
    missing = {p for p in PATHS.findall(text) if not (ROOT / p).exists()} - new
    assert not missing
