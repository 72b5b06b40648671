"""The inputs of a stage besides its own keys: explicit, typed, nothing global."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from compressor.models.heads import Head
from compressor.models.small_vectors import Precision
from compressor.progress import Progress
from compressor.tasks import TASKS

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase


class Memo(Protocol):
    """Keeps costly by-products that several stages can share, such as a teacher's logits."""

    def __call__(
        self, makers: Sequence[str], inputs: Mapping[str, Any], build: Callable[[Path], Mapping[str, Any]]
    ) -> Path:
        """The folder that `build` filled for these inputs, now or before.

        Args:
            makers: Modules whose code fills it.
            inputs: What the result depends on besides.
            build: Fills the folder.
        """


class Trial(Protocol):
    """Tries out checkpoints that are not finished, as they would ship."""

    def size_bytes(self, folders: Sequence[Path]) -> list[float]:
        """Bytes of the file that ships of each checkpoint, which is written into its folder."""

    def latency_p50_ms(self, folders: Sequence[Path]) -> list[float]:
        """Median milliseconds per call of each checkpoint, timed in turn in fresh processes."""

    def quality(self, checkpoint: Path, file: Path, whole: Path) -> float:
        """How good a checkpoint's exported file is on the rows that choose, given the same in float; more is better."""


@dataclass(frozen=True)
class Context:
    """The inputs of a stage.

    Attributes:
        recipe: The recipe's name.
        stage: The stage's name, for progress.
        key: Digest of everything that decides what the stage leaves: its own key in the store, which is in
            recipe.lock.yaml too. Chained to the keys before it, hence to the data, the seed, the code and the versions
            of libraries; gates are no part of it.
        task: What the stage's checkpoint is to do: the recipe's task, or masked-lm.
        pairs: Whether the task's rows are pairs of texts.
        teacher: The teacher's checkpoint folder; the stage's own input where the stage makes the teacher.
        student: A ready checkpoint to start from; None for the stage's own input.
        teacher_layers: The teacher's layers whose hidden states this or another stage learns from it.
        labels: Names of the head's outputs, in order; none for masked-lm.
        seed: Seeds everything random.
        tokenized: The training rows for a tokenizer and a length: `input_ids`, …, `length`, `labels`; memory-mapped.
        packed: The corpus for a tokenizer and a length, as sequences: a folder with `train.npy`.
        texts: Raw text that the stage counts tokens in, from the first one whenever it is called; None for the training
            rows.
        trial: Tries out what has to meet a target.
        memo: Keeps by-products.
        work: Folder for what a killed stage can go on from.
        progress: Tells the user what is happening.
        held_out: Training rows that no stage trains on, to choose thresholds on, as `tokenized` has the others; None
            where thresholds are not chosen.
        precisions: Smaller precisions that files of a sentence encoder give vectors in, beside floats.
    """

    recipe: str
    stage: str
    key: str
    task: str
    pairs: bool
    teacher: Path
    student: Path | None
    teacher_layers: tuple[int, ...]
    labels: tuple[str, ...]
    seed: int
    tokenized: Callable[[PreTrainedTokenizerBase, Path, int], Dataset]
    packed: Callable[[PreTrainedTokenizerBase, int], Path]
    texts: Callable[[], Iterator[str]] | None
    trial: Trial
    memo: Memo
    work: Path
    progress: Progress
    held_out: Callable[[PreTrainedTokenizerBase, Path, int], Dataset] | None = None
    precisions: tuple[Precision, ...] = ()

    @property
    def model_head(self) -> Head:
        """The kind of head of the stage's checkpoint."""
        return TASKS[self.task].HEAD

    @property
    def head(self) -> dict[str, Any]:
        """Config entries of a head with these labels; empty for masked-lm."""
        names = dict(enumerate(self.labels))
        ids = {name: index for index, name in names.items()}
        return {"num_labels": len(names), "id2label": names, "label2id": ids} if names else {}


Facts = dict[str, Any]
"""Facts that a stage reports: small, JSON, shown in reports."""
