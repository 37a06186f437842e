"""Lower the network to the file that is written and run: the end of the pipeline.

before:  a time-folded network, its silent steps merged
after:   the model of a target, see `csscc.passes.lower.targets`, with what is known of it as metadata
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from csscc.dialect.adapter import export_model
from csscc.dialect.metadata import facts_of, write
from csscc.dialect.model import with_metadata
from csscc.dialect.network import Network
from csscc.passes.base import BasePass
from csscc.passes.lower.targets import target_of


@dataclass(frozen=True)
class Lower(BasePass):
    """Make `Network.file`, in the target named `form`; `settings` are written into it."""

    form: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    name: ClassVar[str] = "lower"

    def apply(self, network: Network) -> int:
        """Return 1 if there was no file yet."""
        if network.file is not None:
            return 0
        model = export_model(network)
        target = target_of(self.form, model)
        facts = facts_of(network, {**self.settings, "form": target.name})
        network.file = target.module.down(with_metadata(model, {**network.metadata, **write(facts)}))
        return 1
