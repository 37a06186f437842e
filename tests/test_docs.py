"""What the pages of the documentation promise: links that lead somewhere, tables from the code, plain words."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from csscc.cli import cli
from csscc.coding.activations import ACTIVATIONS
from csscc.coding.coding import Coding
from csscc.coding.oracle import tsa
from csscc.passes.linear import LINEAR
from docs import pictures, tables
from tests.docs import PAGES, PRIVATE, ROOT, anchors, comments, links, prose

LINKED = [*PAGES, "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "examples/README.md", "models/README.md"]


@pytest.mark.parametrize("page", LINKED)
def test_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text()
    for link in links(text):
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), f"{page}: {link}"
        assert not anchor or anchor in anchors(target.read_text()), f"{page}: {link}"


def test_a_link_that_leads_nowhere_is_noticed() -> None:
    text = "# A b: `c`\n[x](y.md#z) ![p](pictures/q.svg) [w](https://a.b)\n```text\n# no [n](o.md)\n```\n"
    assert links(text) == ["y.md#z"]
    assert anchors(text) == {"a-b-c"}


def rows(table: str) -> list[str]:
    """What stands in the first column, below the heads."""
    return [line.split("|")[1].strip().strip("`") for line in table.splitlines()[2:]]


def test_the_tables_have_a_row_for_each_operator() -> None:
    page = tables.filled((ROOT / "docs" / "operators.md").read_text())
    assert "<!-- table" not in page
    assert sorted(rows(tables.linear())) == sorted(LINEAR)
    assert sorted(rows(tables.neurons())) == sorted(ACTIVATIONS)
    assert tables.linear() in page
    assert tables.neurons() in page


def test_the_reference_has_every_command_and_option() -> None:
    page = tables.filled((ROOT / "docs" / "cli.md").read_text())
    for name, command in cli.commands.items():
        start = page.index(f"## csscc {name}\n")
        part = page[start : page.find("\n## ", start)]
        options = [option for parameter in command.params for option in parameter.opts if option.startswith("-")]
        assert [option for option in options if option not in part] == [], name


def test_a_table_states_what_the_code_does() -> None:
    assert "| `Conv` | weights |" in tables.linear()
    assert "| `Relu` | 1 | channel | yes |  | bit for bit |" in tables.neurons()
    assert "| `Softmax` | 1 | layer |  |  | but for a few |" in tables.neurons()
    assert "| `Div` | 2 | channel |  | yes | bit for bit |" in tables.neurons()


@pytest.mark.parametrize("page", LINKED)
def test_the_words_are_those_of_the_field(page: str) -> None:
    """Not those of a metaphor that takes a second reading: neurons do not hear, and nothing is spelled or worth."""
    found = [
        f"{page}:{number}: {', '.join(words)}: {line.strip()}"
        for number, line in enumerate(prose((ROOT / page).read_text()).splitlines(), 1)
        if (words := PRIVATE.findall(line))
    ]
    assert not found, "\n".join(found)


def test_help_has_the_same_words() -> None:
    help = [line.strip() for line in tables.commands().splitlines() if PRIVATE.search(line)]
    assert not help, "\n".join(help)


@pytest.mark.parametrize("package", ["csscc", "passes", "runtime"])
def test_docstrings_and_comments_have_the_same_words(package: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {', '.join(words)}: {line.strip()}"
        for path in sorted((ROOT / package).rglob("*.py"))
        for number, line in enumerate(comments(path.read_text()).splitlines(), 1)
        if (words := PRIVATE.findall(line))
    ]
    assert not found, "\n".join(found)


def test_words_in_comments_are_noticed() -> None:
    source = 'x = "told"\n\n\ndef f():\n    """It says so.\n\n    Args:\n        told: `worth`.\n    """  # behind\n'
    assert [(n, PRIVATE.findall(line)) for n, line in enumerate(comments(source).splitlines(), 1) if line.strip()] == [
        (5, ["says"]), (7, []), (8, []), (9, ["behind"]),
    ]  # fmt: skip


def test_words_in_code_are_names() -> None:
    text = "A neuron hears.\n`worth` is [a name](behind.md).\n```text\nsaid\n```\nLayer by layer, top-1.\nby\nlayer.\n"
    assert PRIVATE.findall(prose(text)) == ["hears"]
    for bad in ("it listens", "is worth a look", "the nodes by layer", "Behind it", "the top of a range", "SAID"):
        assert PRIVATE.search(prose(bad)), bad


def test_pictures_show_what_the_page_states() -> None:
    for name, drawing in pictures.drawings().items():
        assert ElementTree.fromstring(drawing).tag.endswith("svg"), name
    stalled, cured = (pictures._error(Coding(T=16, beta=1.5, silent=L)) for L in (0, 1))
    assert cured < 1 < 10 < stalled
    currents, value = pictures._misled(Coding(T=8, beta=1.5, negative=False))
    for negative in (True, False):
        coding = Coding(T=8, beta=1.5, negative=negative)
        sent = coding.weights @ tsa([currents], lambda h: np.maximum(h, 0), coding.neuron()).spikes
        assert (abs(sent - value) < 1) == negative


def test_the_site_has_every_page() -> None:
    listed = set(re.findall(r": ([\w/]+\.md)$", (ROOT / "mkdocs.yml").read_text(), flags=re.MULTILINE))
    made = {"index.md", "contributing.md", "changelog.md", "security.md", "examples.md", "models.md"}
    assert listed == made | {Path(page).name for page in PAGES if page.startswith("docs/")}
