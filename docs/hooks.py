"""What MkDocs does besides: pages from the files at the top of the repository, tables and pictures from the code."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT))  # after what is installed

from docs import pictures, tables  # noqa: E402 (found from the root of the repository)

PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
    "examples/README.md": "examples.md",
    "models/README.md": "models.md",
}
LINK = re.compile(r"\]\((?:\.\./)?([\w./-]+\.md)(#[\w-]+)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages and the pictures that no file in this folder holds."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text()))
    for name, drawing in pictures.drawings().items():
        files.append(File.generated(config, f"pictures/{name}.svg", content=drawing))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Links between files of the repository become links between pages; tables take the place of their marks."""
    return LINK.sub(_link, tables.filled(markdown))


def _link(link: re.Match[str]) -> str:
    path, anchor = link[1], link[2] or ""
    return f"]({PAGES.get(path, path.removeprefix('docs/'))}{anchor})"
