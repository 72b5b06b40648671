"""The interface of a runtime: `export` writes its format, `Session` runs it, `Runtime` is its entry in the table."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

from numpy.typing import NDArray

from compressor.errors import CompressError, StageError, described
from compressor.gates.metrics import Held
from compressor.host.machine import DISTRIBUTION, installed
from compressor.runtimes.inspection import Inspection

Inputs = Mapping[str, NDArray[Any]]
"""`input_ids`, `attention_mask` and, where the model has token types, `token_type_ids`; integers `(batch, sequence)`
each. Of a runtime that takes texts, `text` and, for pairs, `text_pair`; strings `(batch,)` each."""

Outputs = dict[str, NDArray[Any]]
"""`logits` `(batch, labels)` or `(batch, sequence, vocabulary)`, and the model's other outputs, by name; see
`compressor.models.outputs`."""


FLOAT32 = "float32"
"""The precision of most formats where nothing is quantized."""


class Session(Protocol):
    """A loaded model."""

    concurrent: bool
    """Whether several threads may call `predict` at once and gain from it."""

    def predict(self, inputs: Inputs) -> Outputs:
        """The model's outputs by name; inputs that it does not take are ignored."""


class _Module(Protocol):
    """A runtime's module."""

    Session: Callable[[Path, int], Session]

    def export(self, source: Path, path: Path) -> None:
        """Writes a checkpoint in the runtime's format."""

    def inspect(self, path: Path) -> Inspection:
        """The contents of a file of this format, if the runtime is `inspectable`."""


@dataclass(frozen=True)
class Runtime:
    """A format and the runtime that runs it. Its module is imported when it is first used.

    Attributes:
        name: The name in `measure.runtime` and in reports.
        module: Dotted name of the module, with `export(source, path)` and `Session(path, threads)`.
        file: The float format's place in a checkpoint folder.
        usage: How to run the file, for the model card; `{inputs}` stands for the names of the model's inputs.
        target: The name in the export stage's `targets`; None if the stage does not write it.
        follows_quantized: Whether the file holds a quantized graph's integers where the checkpoint has one, and so has
            to give that graph's labels instead of torch's logits.
        quantizes: Whether its weights are stored as the quantize stage says.
        floats: What its weights are stored in where nothing is quantized.
        blocks: Whether it has a form for weights in blocks with a scale each, as weight-only schemes make them.
        runs_here: Whether machines like this one can run its files. Else its session evaluates what a file holds, by
            the definitions of its operators, and nothing is claimed of its speed.
        bytes_out: Whether it has outputs of 8 bits, for vectors in int8 and binary.
        takes_texts: Whether its files hold the tokenizer: they take texts instead of token ids.
        measured: Whether it can be the runtime of `measure`.
        inspectable: Whether the module has `inspect(path)`, for `compress inspect`.
        extra: The extra of this project that installs it; None if a plain installation does.
        requires: Distributions of that extra.
    """

    name: str
    module: str
    file: Path
    usage: str
    target: str | None = None
    follows_quantized: bool = False
    quantizes: bool = False
    floats: str = FLOAT32
    blocks: bool = True
    runs_here: bool = True
    bytes_out: bool = True
    takes_texts: bool = False
    measured: bool = False
    inspectable: bool = False
    extra: str | None = None
    requires: tuple[str, ...] = ()

    def export(self, source: Path, path: Path) -> None:
        """Writes a checkpoint in this runtime's format.

        Raises:
            StageError: An extra is not installed, or the format's converter fails on the model.
        """
        try:
            self._load().export(source, path)
        except (CompressError, OSError, MemoryError):
            raise
        except Exception as error:  # converters raise anything, assertions too
            logging.getLogger("compressor").exception("export: %s", self.name)
            what = f"export: the converter to {self.name} fails on this model: {described(error)}"
            hint = f"leave {self.name} out of the export stage's targets; the log has the traceback"
            raise StageError(f"{what}; {hint}") from error

    def session(self, path: Path, threads: int) -> Session:
        """Loads a file of this runtime's format."""
        return self._load().Session(path, threads)

    def inspect(self, path: Path) -> Inspection:
        """The weights and operators of a file of this format."""
        return self._load().inspect(path)

    def precision(self, deployed: str | None) -> str:
        """What its file's weights are stored in.

        Args:
            deployed: The precision of the quantized graph that is deployed; None where there is none.
        """
        return deployed if deployed is not None and self.quantizes else self.floats

    def held(self, quantized: bool) -> Held:
        """What its file's answers are held to.

        Args:
            quantized: Whether the checkpoint has a quantized graph.
        """
        if not self.runs_here:
            return "evaluated"
        return "quantized" if quantized and (self.quantizes or self.follows_quantized) else "float"

    def missing(self) -> tuple[str, ...]:
        """Distributions that it needs and that are not installed."""
        return tuple(name for name in self.requires if not installed(name))

    @property
    def install(self) -> str:
        """The command that installs the missing distributions."""
        return f"pip install '{DISTRIBUTION}[{self.extra}]'"

    def _load(self) -> _Module:
        return cast(_Module, import_module(self.module))
