"""Python started in a checkout, where three packages of csscc lie beside the folder ``csscc``."""

from __future__ import annotations

import subprocess
import sys

from tests.docs import ROOT

# An editable installation brings a finder of its own; without it, modules are found in the current folder.
CODE = """
import sys
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in str(finder)]
import csscc, csscc.models, csscc.passes, csscc.runtime.native
print(csscc.__file__, csscc.passes.__file__, csscc.compile.__module__)
"""


def test_a_checkout_that_is_not_installed_is_imported() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], cwd=ROOT, capture_output=True, text=True)
    files = [str(ROOT / package / "__init__.py") for package in ("csscc", "passes")]
    assert done.stdout.split() == [*files, "csscc.api"], done.stderr
