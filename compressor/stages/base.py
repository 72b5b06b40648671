"""What the keys of every stage have in common."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from compressor.gates.spec import Gate
from compressor.spec import Spec


class StageSpec(Spec):
    """What every stage has."""

    name: str | None = None
    """Name in reports and in `--set`; by default the stage's kind, numbered when it occurs again."""
    gates: dict[str, Gate] = Field(default_factory=dict)
    """Limits this stage must meet: `metric: {rule: limit}`."""

    @property
    def kind(self) -> str:
        """The kind of stage, which names its module in `compressor.stages`."""
        return str(getattr(self, "stage"))  # noqa: B009 -- the discriminator lives on the subclasses

    @property
    def libraries(self) -> tuple[str, ...]:
        """Distributions that the stage needs and a plain installation does not bring; their versions count."""
        return ()

    @property
    def default_gates(self) -> dict[str, Gate]:
        """Gates that hold unless the recipe sets its own for the metric."""
        return {}

    @property
    def all_gates(self) -> dict[str, Gate]:
        """The recipe's gates and the defaults it does not override."""
        return {**self.default_gates, **self.gates}

    def work(self) -> dict[str, Any]:
        """What decides this stage's output: everything but its name and gates."""
        return self.model_dump(mode="json", exclude={"name", "gates"})
