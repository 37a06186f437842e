"""Every note of a pass, word for word, with the smallest network that has it."""

from __future__ import annotations

import re

import pytest

from tests.docs import PRIVATE
from tests.messages.notes import NOTES
from tests.messages.source import OPEN, notes, notes_of_source


@pytest.mark.parametrize("note", NOTES)
def test_it_is_noted(note: str) -> None:
    """``...`` stands for numbers and names."""
    found = [f"{event.source}: {event.node}: {event.text}" for event in NOTES[note]()]
    wanted = ".*".join(map(re.escape, note.split("...")))
    assert any(re.fullmatch(wanted, text) for text in found), f"noted are: {found}"


def test_no_note_lacks_a_row() -> None:
    missing = [str(template) for template in notes() if not any(template.is_in(note) for note in NOTES)]
    assert not missing, "give each a row in tests/messages/notes.py:\n" + "\n".join(missing)


def test_notes_have_the_words_of_the_field() -> None:
    assert [str(template) for template in notes() if PRIVATE.search(template.text)] == []


SOURCE = """
def why(node):
    if node.many:
        return f"it has {node.many} readers"
    return ""

def apply(network, node):
    reason = why(node)
    network.report("a-pass", node.name, f"left as it is: {reason}")
    network.report("a-pass", node.name, "two became one" if node.two else "three became one", once=True)
    other.report(reason)
"""


def test_a_note_without_a_row_is_noticed() -> None:
    found = [template.text.replace(OPEN, "*") for template in notes_of_source(SOURCE, "passes/x.py")]
    assert found == ["left as it is: *", "it has * readers", "two became one", "three became one"]
