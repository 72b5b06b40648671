"""What the keys of every stage have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import Field

from compressor.gates.spec import Gate
from compressor.spec import Spec
from compressor.training.context import Context, Facts


class StageSpec(Spec):
    """What every stage has."""

    name: str | None = None
    """Name in reports and in `--set`; by default the stage's kind, numbered when it occurs again."""
    gates: dict[str, Gate] = Field(default_factory=dict)
    """Limits this stage must meet: `metric: {rule: limit}`."""

    @property
    def kind(self) -> str:
        """The kind of stage: a key of `compressor.stages.STAGES`."""
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


Run = Callable[[Path, Path, Any, Context], Facts]
"""Fills the second folder, which is empty, with what a stage makes of the checkpoint in the first; returns facts."""


@dataclass(frozen=True)
class Stage:
    """A kind of stage.

    Attributes:
        spec: Its keys; `stage: Literal[...]` names it.
        run: Does its work.
    """

    spec: type[StageSpec]
    run: Run

    @property
    def kind(self) -> str:
        """The name in recipes."""
        return str(get_args(self.spec.model_fields["stage"].annotation)[0])

    @property
    def module(self) -> str:
        """Dotted name of the module whose code, with what it imports, does the work."""
        return self.run.__module__
