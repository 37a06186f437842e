"""Reads the pages of the documentation: code blocks, prose, links."""

from __future__ import annotations

import io
import re
import tokenize
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = ["README.md", *sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^(?P<mark>```+)(?P<kind>\S*)[^\n]*\n(?P<text>.*?)^(?P=mark)[ ]*$", re.DOTALL | re.MULTILINE)
REMARK = re.compile(r"<!-- (?P<word>not run|slow|from|prints): (?P<rest>[^>]+) -->\n\n?\Z")
# Words of metaphors that take a second reading.
PRIVATE = re.compile(
    r"\b(hear[ds]?|hearing|listen\w*(?! on)|speaks?|says?|said|saying|unsaid|tells?|told|worth|spell\w*|behind|"
    r"tops?(?![\w-])|(?<!layer )by layer)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Block:
    """Code between fences; `remark` is a comment in front of it: a word that `REMARK` names, and the rest."""

    kind: str
    text: str
    line: int
    remark: tuple[str, str] = ("", "")


def blocks(text: str) -> list[Block]:
    """The code blocks of a page, in order."""
    found = []
    for fence in FENCE.finditer(text):
        remark = REMARK.search(text[: fence.start()])
        noted = (remark["word"], remark["rest"]) if remark else ("", "")
        found.append(Block(fence["kind"], fence["text"], text.count("\n", 0, fence.start()) + 1, noted))
    return found


def comments(source: str) -> str:
    """The comments and docstrings of Python source, its lines where they were; fields of classes and code left out."""
    lines = [""] * (source.count("\n") + 2)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT or (token.type == tokenize.STRING and token.string.startswith('"""')):
            text = re.sub(r"``?[^`]*``?", lambda code: "code" + "\n" * code[0].count("\n"), token.string)
            for place, line in enumerate(text.split("\n"), token.start[0] - 1):
                lines[place] += re.sub(r"^ +(\w+, )*\w+: ", "", line) + " "
    return "\n".join(lines)


def prose(text: str) -> str:
    """A page without code, comments and addresses, its lines where they were."""
    text = FENCE.sub(lambda fence: "\n" * fence[0].count("\n"), text)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r"\]\([^)]*\)", "]", text)
    return re.sub(r"`[^`]*`", lambda code: "code" + "\n" * code[0].count("\n"), text)


def links(text: str) -> list[str]:
    """Where the links of a page lead, those to other sites left out."""
    targets = re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", text))
    return [target for target in targets if not re.match(r"[a-z]+:", target) and not target.startswith("pictures/")]


def anchors(text: str) -> set[str]:
    """Names of the headings of a page, as GitHub and MkDocs make them."""
    heads = re.findall(r"^#+ (.*)$", FENCE.sub("", text), flags=re.MULTILINE)
    plain = [re.sub(r"[^\w\s-]", "", re.sub(r"\]\([^)]*\)", "", head)).strip().lower() for head in heads]
    return {re.sub(r"\s", "-", head) for head in plain}
