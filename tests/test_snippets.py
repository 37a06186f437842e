"""Every command and every piece of Python on the pages runs, in order, in a folder of the page's own.

Blocks of ``sh`` and ``python`` run; a Python block whose first line is a comment with a file's name is that file.
``<!-- not run: reason -->`` in front of a block leaves it out; ``<!-- slow: reason -->`` does so unless
``CSSCC_SLOW_SNIPPETS=1``; ``<!-- from: path -->`` names the script, run by hand, that holds it.
``<!-- prints: command -->`` in front of a block of ``text`` says that the command prints it; one that the page has not
run by then is run for it.
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
from tests.shown import differences

Capture = pytest.CaptureFixture[str]
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


def run(block: Block, printed: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    """Run a block; `printed` gets what each of its commands prints."""
    named = FILE.match(block.text)
    if block.kind == "sh":
        for words in commands(block.text):
            do(words, monkeypatch)
            printed[shlex.join(words)] = capsys.readouterr().out
    elif named:
        Path(named[1]).write_text(block.text)
    else:
        exec(compile(block.text, "snippet", "exec"), {"__name__": "snippet"})


def check(block: Block, printed: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    """Compare a block of output with what its command prints; run the command if the page has not."""
    (words,) = commands(block.remark[1])
    command = shlex.join(words)
    if command not in printed:
        run(Block("sh", command, block.line), printed, monkeypatch, capsys)
    found = differences(block.text, printed[command])
    assert not found, "\n".join(found)


@pytest.mark.parametrize("page", PAGES)
def test_snippets_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    for folder in ("models", "examples"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    printed = dict[str, str]()
    for block in blocks((ROOT / page).read_text()):
        try:
            if block.kind in RUN and block.remark[0] not in NEVER:
                run(block, printed, monkeypatch, capsys)
            elif block.remark[0] == "prints":
                check(block, printed, monkeypatch, capsys)
        except BaseException as error:
            said = capsys.readouterr()
            raise AssertionError(f"{page}:{block.line}\n{block.text}\n{said.out}{said.err}{error}") from error


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


def test_a_snippet_that_fails_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.chdir(tmp_path)
    for kind, text in (
        ("sh", "csscc inspect no_such.onnx\n"),
        ("sh", "rm -rf x\n"),
        ("sh", "python -c 'raise SystemExit(1)'\n"),
        ("python", "1 / 0\n"),
    ):
        (block,) = blocks(f"```{kind}\n{text}```\n")
        with pytest.raises((AssertionError, SystemExit, ZeroDivisionError)):
            run(block, {}, monkeypatch, capsys)


def test_output_that_is_shown_is_compared() -> None:
    printed = " ─────\n  loss   +0.10 points\n  steps   1,012 / 20\n  error  0.56%\n  time   4.2 ms\nand more 1\n"
    assert not differences("loss +0.11 points\nsteps 1,012 / 20\nerror 0.54%\ntime 17 ms", printed)
    assert not differences("error  0.56%", printed)
    for shown in (
        "",
        "loss +0.13 points",
        "loss -0.10 points",
        "steps 1,013 / 20",
        "steps 1,012 / 20.0",
        "error 0.5%",
        "error nan%",
        "loss +0.10 points error",
    ):
        assert differences(shown, printed), shown
    assert differences("error 0.56%", printed.replace("0.56", "nan"))
    assert not differences("loss +0.10 points\n  ...\nerror 0.56%\n...\nand more 1\n", printed)
    for shown in (
        "error 0.56%\n...\nloss +0.10 points\n",  # in another order
        "loss +0.10 points\n...\nloss +0.10 points\n",
        "loss +0.10 points\n...\nerror 0.59%\n",
        "loss +0.14 points\n...\nerror 0.56%\n",
        "...\n",
    ):
        assert differences(shown, printed), shown


def test_output_that_is_stale_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.chdir(tmp_path)
    command = "python -c 'print(\"spikes 2.25\")'"
    for text, stale in (("spikes 2.26\n", False), ("spikes 2.28\n", True), ("neurons 2.25\n", True)):
        (block,) = blocks(f"<!-- prints: {command} -->\n\n```text\n{text}```\n")
        printed = dict[str, str]()
        if stale:
            with pytest.raises(AssertionError, match=r"2\.28 is 2\.25 now|not printed: neurons"):
                check(block, printed, monkeypatch, capsys)
        else:
            check(block, printed, monkeypatch, capsys)


def test_commands_are_read_as_a_shell_reads_them() -> None:
    text = "csscc a  # why\n\ncsscc b \\\n   --c 'd e'\npython -c \"\nimport x\ny = '#1'\"\n"
    assert commands(text) == [["csscc", "a"], ["csscc", "b", "--c", "d e"], ["python", "-c", "\nimport x\ny = '#1'"]]
    with pytest.raises(AssertionError):
        commands("csscc 'a\n")
