"""Every message that a user can meet, word for word, with the smallest input that has it."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from csscc.errors import CssccError
from tests.docs import PRIVATE
from tests.messages import commands, contradictions, data, models, options, refusals, results, warnings
from tests.messages.given import Messages, copy, fill
from tests.messages.source import OPEN, Template, of_source, templates

TABLES: tuple[Messages, ...] = (
    commands.MESSAGES,
    contradictions.MESSAGES,
    options.MESSAGES,
    data.MESSAGES,
    models.MESSAGES,
    refusals.MESSAGES,
    results.MESSAGES,
    warnings.MESSAGES,
)
ALL = {message: given for table in TABLES for message, given in table.items()}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    fill(folder)
    return folder


@pytest.mark.parametrize("message", ALL)
def test_it_reads(message: str, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``...`` stands for what is not csscc's own: folders of this machine, and the words of other libraries."""
    copy(files, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CSSCC_NATIVE", raising=False)
    with pytest.raises((CssccError, click.ClickException)) as caught:
        ALL[message](monkeypatch)
    monkeypatch.undo()
    error = caught.value
    text = error.format_message() if isinstance(error, click.ClickException) else str(error)
    assert re.fullmatch(".*".join(map(re.escape, message.split("..."))), text, re.DOTALL), f"it reads: {text}"


def test_no_message_lacks_a_row() -> None:
    missing = [str(template) for template in templates() if not any(template.is_in(message) for message in ALL)]
    assert not missing, "give each a row in a table of tests/messages:\n" + "\n".join(missing)


def test_messages_have_the_words_of_the_field() -> None:
    assert [str(template) for template in templates() if PRIVATE.search(template.text)] == []


SOURCE = """
def refuse(what):
    raise RefusedError(f"{what}; give another")

def f(a, b):
    reported = f"no {a} is in it" if a else "nothing is in it"
    refuse(f"{b} cannot be read")
    raise UsageError(f"{a}: {reported}")
"""


def test_a_message_without_a_row_is_noticed() -> None:
    found = list(of_source(SOURCE, "s.py"))
    texts = [template.text.replace(OPEN, "*") for template in found]
    assert texts == ["* cannot be read; give another", "*: no * is in it", "*: nothing is in it"]
    assert found[0].is_in("where: x.npy cannot be read; give another, or none")
    assert not found[0].is_in("x.npy cannot be read; give it again")
    assert str(Template("s.py:3", f"{OPEN} is bad")) == "s.py:3: {} is bad"


def test_reasons_that_functions_return_are_messages() -> None:
    source = 'ADVICE = "split the model here"\ndef f(n):\n    return (f"it has {n} axes", ADVICE) if n else ""\n'
    source += 'def g(n):\n    return f"it has {n} axes", ADVICE\n'
    texts = [template.text.replace(OPEN, "*") for template in of_source(source, "passes/linear/x.py")]
    assert "split the model here" in texts
    assert "it has * axes" in texts
    assert list(of_source(source, "csscc/x.py")) == []
