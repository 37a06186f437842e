"""Every command and every piece of Python on the pages runs, in order, in a folder of the page's own.

Blocks of ``sh`` and ``python`` run; a Python block whose first line is a comment with a file's name is that file.
``<!-- not run: reason -->`` in front of a block leaves it out; ``<!-- slow: reason -->`` does so unless
``CSSCC_SLOW_SNIPPETS=1``; ``<!-- from: path -->`` names the script, run by hand, that holds it.
"""

from __future__ import annotations

import os
import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest

from csscc import cli
from tests.docs import PAGES, ROOT, Block, blocks

RUN = ("sh", "python")
SHOWN = ("text", "diff", "toml", "csv", "js", "cpp", "csharp")
FILE = re.compile(r"# ([\w.]+)\n")
LEFT_OUT = {"not run": 16, "slow": 4}  # blocks of RUN that may be left out on all pages together
NEVER = {"not run", "from"} if os.environ.get("CSSCC_SLOW_SNIPPETS") == "1" else {"not run", "from", "slow"}


def commands(text: str) -> list[list[str]]:
    """The words of each command, whatever it takes in lines; comments left out."""
    found, held = list[list[str]](), ""
    for line in text.splitlines():
        held = f"{held}\n{line}" if held else line
        if line.endswith("\\"):
            held = held[:-1]
            continue
        try:
            words = shlex.split(held, comments=True)
        except ValueError:  # a quotation that goes on
            continue
        found += [words] if words else []
        held = ""
    assert not held, f"this command does not end: {held}"
    return found


def do(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a command in this process, which has imported what it needs."""
    if words[0] == "csscc":
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as stop:
            cli.main()
        assert not stop.value.code, f"{shlex.join(words)}: exit code {stop.value.code}"
    elif words[:2] == ["python", "-c"]:
        exec(words[2], {})
    elif words[0] == "python" and words[1].endswith(".py"):
        monkeypatch.setattr(sys, "argv", words[1:])
        runpy.run_path(words[1], run_name="__main__")
    else:
        raise AssertionError(f"neither csscc nor python: {shlex.join(words)}; mark the block as not run")


def run(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    named = FILE.match(block.text)
    if block.kind == "sh":
        for words in commands(block.text):
            do(words, monkeypatch)
    elif named:
        Path(named[1]).write_text(block.text)
    else:
        exec(compile(block.text, "snippet", "exec"), {"__name__": "snippet"})


@pytest.mark.parametrize("page", PAGES)
def test_snippets_run(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("models", "examples"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    for block in blocks((ROOT / page).read_text()):
        if block.kind in RUN and block.remark[0] not in NEVER:
            try:
                run(block, monkeypatch)
            except BaseException as error:
                said = capsys.readouterr()
                raise AssertionError(f"{page}:{block.line}\n{block.text}\n{said.out}{said.err}") from error


@pytest.mark.parametrize("page", PAGES)
def test_every_block_states_what_it_is(page: str) -> None:
    text = (ROOT / page).read_text()
    for block in blocks(text):
        assert block.kind in RUN + SHOWN, f"{page}:{block.line}"
        if block.remark[0] == "from":
            assert block.text in (ROOT / block.remark[1]).read_text(), f"{page}:{block.line}: {block.remark[1]}"


def test_few_blocks_are_left_out() -> None:
    found = [b for page in PAGES for b in blocks((ROOT / page).read_text()) if b.kind in RUN]
    for word, most in LEFT_OUT.items():
        assert sum(block.remark[0] == word for block in found) <= most, word
    assert sum(not block.remark[0] for block in found) > LEFT_OUT["not run"]


def test_a_snippet_that_fails_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for kind, text in (
        ("sh", "csscc inspect no_such.onnx\n"),
        ("sh", "rm -rf x\n"),
        ("sh", "python -c 'raise SystemExit(1)'\n"),
        ("python", "1 / 0\n"),
    ):
        (block,) = blocks(f"```{kind}\n{text}```\n")
        with pytest.raises((AssertionError, SystemExit, ZeroDivisionError)):
            run(block, monkeypatch)


def test_commands_are_read_as_a_shell_reads_them() -> None:
    text = "csscc a  # why\n\ncsscc b \\\n   --c 'd e'\npython -c \"\nimport x\ny = '#1'\"\n"
    assert commands(text) == [["csscc", "a"], ["csscc", "b", "--c", "d e"], ["python", "-c", "\nimport x\ny = '#1'"]]
    with pytest.raises(AssertionError):
        commands("csscc 'a\n")
