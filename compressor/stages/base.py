"""Keys and properties that all stages share, and the entry of a stage in the table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

from pydantic import Field

from compressor.data.spec import TextSpec
from compressor.errors import Add
from compressor.gates.metrics import Held
from compressor.gates.spec import FLOAT, Gate
from compressor.models.checkpoint import Checkpoint
from compressor.models.families.base import WHOLE_LAYERS_HINT
from compressor.models.shape import Shape
from compressor.spec import Spec
from compressor.training.context import Context, Facts

_JUDGING = ("name", "gates", "size_only")
"""Keys that do not change what a stage makes."""


class StageSpec(Spec):
    """Keys of every stage."""

    name: str | None = None
    """Name in reports and in `--set`; by default the stage's kind, numbered when it occurs again."""
    gates: dict[str, Gate] = Field(default_factory=dict)
    """Limits this stage must meet: `metric: {rule: limit}`."""

    @property
    def kind(self) -> str:
        """The kind of stage: a key of `compressor.stages.STAGES`."""
        return str(getattr(self, "stage"))  # noqa: B009 -- the discriminator lives on the subclasses

    makes_teacher: ClassVar[bool] = False
    """Whether the first such stage of a task makes its teacher, or the next one where the first only warms up."""
    needs_head: ClassVar[bool] = True
    """Whether the incoming checkpoint has to have the task's head."""
    quantizes: ClassVar[bool] = False
    """Whether it leaves a quantized graph, which nothing but a stage that ships can follow."""
    ships: ClassVar[bool] = False
    """Whether it writes the files that ship: the last stage, where formats are compared."""

    @property
    def trains(self) -> bool:
        """Whether it learns weights."""
        return False

    @property
    def warms_up(self) -> bool:
        """Whether it trains for the stage behind it, and leaves the task's own head as it is."""
        return False

    @property
    def trims_vocabulary(self) -> bool:
        """Whether it changes the tokens."""
        return False

    @property
    def makes_zeros(self) -> bool:
        """Whether it leaves weights at zero that further training would fill."""
        return False

    def held(self, quantized: Mapping[str, bool]) -> frozenset[Held]:
        """What the files that it writes are held to; the argument is that of `files`."""
        return frozenset()

    @property
    def precisions(self) -> dict[str, bool]:
        """Precisions of the quantized files that it leaves, the deployed one first; and whether only size counts."""
        return {}

    def files(self, quantized: Mapping[str, bool]) -> dict[str, str]:
        """The files that it writes to ship, by name, and their precisions; see `compressor.runtimes.shipped`.

        Args:
            quantized: The `precisions` of the stage that quantizes.
        """
        return {}

    @property
    def longest_fixed(self) -> int:
        """The longest of the fixed lengths of graphs that it writes for accelerators; 0 for none."""
        return 0

    def fixed_files(self, quantized: Mapping[str, bool]) -> dict[str, str]:
        """Those of `files` that take one row of a fixed length."""
        return {}

    @property
    def for_size(self) -> tuple[str, ...]:
        """Names of files that may be slower than the same format in float."""
        return ()

    def file_gates(self, quantized: Mapping[str, bool]) -> dict[str, Gate]:
        """Gates of single files that hold unless the recipe says otherwise; the argument is that of `files`."""
        return {}

    @property
    def leaves_blocks(self) -> str | None:
        """Name of the deployed scheme, if it stores weights in blocks with a scale each."""
        return None

    @property
    def takes_no_blocks(self) -> tuple[str, ...]:
        """The formats that it writes which have no form for such weights."""
        return ()

    @property
    def recorded_rows(self) -> int:
        """Validation rows that ship with its files, with each format's answers."""
        return 0

    @property
    def counted_text(self) -> TextSpec | None:
        """Raw text that it counts tokens in; None for the training rows."""
        return None

    @property
    def ready_student(self) -> str | None:
        """A ready checkpoint that it starts from; None for the incoming one."""
        return None

    @property
    def trial(self) -> Literal["size", "latency", "quality"] | None:
        """The metric by which it tries models out, as they would ship; it becomes a part of the stage's key."""
        return None

    def leaves(self, shape: Shape, teacher: Shape, ready: Shape | None, add: Add) -> Shape:
        """The shape of the checkpoint that it leaves; notes each key that the incoming checkpoint does not allow.

        Args:
            shape: The incoming checkpoint.
            teacher: The teacher.
            ready: The ready checkpoint that it starts from, if that is here.
            add: Notes a problem, at a place within the stage.
        """
        return shape

    def check(self, task: str, incoming: Checkpoint | None, add: Add) -> None:
        """Notes what keeps it from running here: libraries that are missing, a tokenizer that it cannot change.

        Args:
            task: The task of its checkpoint.
            incoming: The checkpoint whose tokenizer the stage gets, if it is here.
            add: Notes a problem, at a place within the stage.
        """

    def check_here(self, task: str, incoming: Checkpoint, pairs: bool, add: Add) -> None:
        """Notes what only the libraries and the processor of this machine can say; a run asks before its first stage.

        Args:
            task: The task of its checkpoint.
            incoming: The checkpoint whose tokenizer the stage gets.
            pairs: Whether a row has two texts.
            add: Notes a problem, at a place within the stage.
        """

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

    def gates_of(self, quantized: Mapping[str, bool]) -> tuple[tuple[str, Gate], ...]:
        """All gates, those of single files too: the recipe's speed-up of a file over float replaces the default one.

        Args:
            quantized: As of `files`.
        """
        gates = self.all_gates
        files = {
            metric: gate
            for metric, gate in self.file_gates(quantized).items()
            if metric not in gates or gates[metric].relative_to != FLOAT
        }
        return (*gates.items(), *files.items())

    def work(self) -> dict[str, Any]:
        """The keys that determine the stage's output: all but its name, and what only judges it."""
        return self.model_dump(mode="json", exclude=set(_JUDGING))


def refuse_inside(shape: Shape, place: tuple[str, ...], add: Add) -> bool:
    """Notes that a stage or a key changes the inside of layers, where that cannot be; whether it has.

    Args:
        shape: The incoming checkpoint.
        place: The key, within the stage; the empty place for the stage.
        add: Notes a problem, at a place within the stage.
    """
    if shape.whole_layers:
        add(place, f"changes the inside of layers, which those of {shape.family} have to keep", WHOLE_LAYERS_HINT,
            kind="unsupported")  # fmt: skip
    return shape.whole_layers


def refuse_moved_first(shape: Shape, layers: Sequence[int], add: Add) -> None:
    """Notes a choice of layers that leaves out the first, or puts it elsewhere, where that cannot be.

    Args:
        shape: The incoming checkpoint.
        layers: The layers that stay, in their order.
        add: Notes a problem, at a place within the stage.
    """
    if shape.first_moves(layers):
        what = f"takes layer 0 from its place; the first layer of {shape.family} is of a kind of its own"
        add(("layers",), what, "keep layer 0, once, as the first", kind="unsupported")


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
