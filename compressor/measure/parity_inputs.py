"""What formats are asked when they are compared: real rows, edge cases, and texts for files that hold a tokenizer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compressor.gates.metrics import Held
from compressor.measure.token_rows import EDGES, INPUTS, TokenRows, by_length, edge_cases
from compressor.models import sentence_embedding, thresholds
from compressor.models.checkpoint import Checkpoint
from compressor.runtimes import TEXT_RUNTIME
from compressor.runtimes.baked_tokenizer.graph import takes_pairs
from compressor.runtimes.baked_tokenizer.probes import PROBES, probe_columns

ROWS, SINGLE, ALONE = "rows", "single", "alone"
"""Names of sets of real rows: all in batches, all one at a time, some one at a time."""
PADDED = {ALONE: "alone_padded", "edges_alone": "edges_padded"}
"""Sets of rows that are asked once more, padded to a longer length, by the names of the plain sets."""
TEXTS_FILE = "texts.json"
"""Beside a file of `TokenRows`: the texts of each row, a list of one or two, where its rows are of texts."""

_BATCH_TOKENS = 2048
_LONGEST_EDGE = 1024
"""Tokens of the longest made-up row: the scores of attention of one with 8,192 take 3 GB in a layer."""
_PADDED_TO = 128
"""Length to which short rows are padded, as apps with a fixed length do; rows that are longer, to twice the longest."""
_PROBE_SETS = {
    "probes": [list(range(len(PROBES)))],
    "probes_alone": [[index] for index in range(len(PROBES))],
}
"""Batches of each set of texts that tokenizers differ on: all together, and one at a time."""
_EDGE_SETS = {"edges_alone": "batch 1", "edges_together": "one batch", "untyped": "no token types"}


@dataclass(frozen=True)
class Endpoint:
    """A file and its runtime: one of the two sides of a comparison.

    Attributes:
        runtime: The runtime.
        file: The file's path in a checkpoint's folder; for torch, the folder itself.
    """

    runtime: str
    file: Path

    def __str__(self) -> str:
        """`torch`, or the file."""
        return self.runtime if self.file == Path() else self.file.as_posix()


@dataclass(frozen=True)
class Comparison:
    """A format and its reference.

    Attributes:
        name: The format's name in reports.
        candidate: The format.
        reference: The reference.
        kind: `float` formats must give the reference's logits, in any batches. `quantized` ones must give the labels of
            their reference, one row at a time: activations are rounded by the range of the whole batch. `evaluated`
            ones, which nothing here runs, must give its labels in any batches. `texts` ones are asked the texts of the
            rows and must give the labels of the graph that they hold. `padded` ones are their own reference: they must
            give the same labels to rows that are padded.
        sample: Real rows, at most and evenly spread, that a format is compared on; None for all.
        length: Tokens of the one row that a format takes: it is asked the rows that fit, padded. None where that is
            free.
    """

    name: str
    candidate: Endpoint
    reference: Endpoint
    kind: Held = "float"
    sample: int | None = None
    length: int | None = None

    @property
    def in_batches(self) -> bool:
        """Whether rows are asked in batches, too: what else is in one does not change an answer."""
        return self.kind in ("float", "evaluated")

    @property
    def sides(self) -> tuple[Endpoint, Endpoint]:
        """The reference and the candidate."""
        return self.reference, self.candidate


@dataclass(frozen=True)
class ParityInputs:
    """The inputs that all formats of a checkpoint are run on.

    Attributes:
        rows: File of real rows (`TokenRows`); None where there are only edges.
        texts: File of their texts (`TEXTS_FILE`); None where none is there or nothing takes texts.
        probes: Files of texts that tokenizers differ on, as tokens and as texts; None where nothing takes texts.
        edges: File of the edge cases (`EDGES`).
        chosen: Indices of the real rows that are also run one at a time.
        lengths: Tokens of each real row.
        edge_lengths: Tokens of each edge.
        longest: Tokens that a row may have.
        sets: Whether an answer is a set of labels, and not one.
        vectors: Whether an answer is a vector.
    """

    rows: Path | None
    texts: Path | None
    probes: tuple[Path, Path] | None
    edges: Path
    chosen: tuple[int, ...]
    lengths: NDArray[np.int64]
    edge_lengths: NDArray[np.int64]
    longest: int
    sets: bool = False
    vectors: bool = False

    @classmethod
    def of(cls, checkpoint: Checkpoint, rows: Path | None, chosen: int, work: Path) -> ParityInputs:
        """Makes the inputs: real rows, if there are any, and the edge cases of a checkpoint.

        Args:
            checkpoint: Gives the longest sequence and the size of the vocabulary.
            rows: File of real rows; `TEXTS_FILE` beside it has their texts.
            chosen: How many of them are also run one at a time, evenly spread.
            work: Folder for the made-up rows.
        """
        tokens = TokenRows.load(rows) if rows else None
        pad = tokens.pad_token_id if tokens else int(checkpoint.config.get("pad_token_id") or 0)
        types = max(1, checkpoint.token_types)
        longest, reads = (
            min(checkpoint.max_position_embeddings, _LONGEST_EDGE),
            checkpoint.known_family.padding_varies,
        )
        edges = edge_cases(longest, checkpoint.vocab_size, pad, types, first_padded=not reads)
        edges_file = work / "edges.npz"
        edges.save(edges_file)
        count = len(tokens) if tokens else 0
        lengths = tokens.lengths if tokens else np.zeros(0, np.int64)
        there, takes_texts = rows and rows.with_name(TEXTS_FILE), (checkpoint.path / TEXT_RUNTIME.file).is_file()
        return cls(
            rows,
            there if takes_texts and there and there.is_file() else None,
            _probes(checkpoint, work) if takes_texts else None,
            edges_file,
            tuple(spread(count, chosen)),
            lengths,
            edges.lengths,
            checkpoint.max_position_embeddings,
            thresholds.gives_sets(checkpoint.config),
            sentence_embedding.gives_vectors(checkpoint.config),
        )

    def row_sets(self, comparisons: Sequence[Comparison], untyped: str) -> list[dict[str, Any]]:
        """The sets of rows for a measuring process, for one that takes token ids.

        Args:
            comparisons: The comparisons that the answers are for.
            untyped: How inputs without token types are passed: `omitted` or `zeros`.
        """
        if len(comparisons) == 1 and (length := comparisons[0].length) is not None:
            return self._fixed_sets(length)
        edges = [[index] for index in range(len(EDGES))]
        asked: list[tuple[str, Path | None, list[list[int]]]] = [("edges_alone", self.edges, edges)]
        if batched := [entry for entry in comparisons if entry.in_batches and entry.length is None]:
            together = by_length(self.edge_lengths, 4 * int(self.edge_lengths.max()))
            asked += [("edges_together", self.edges, together), ("untyped", self.edges, edges)]
            samples = {self.real_rows(entry): entry.sample for entry in batched}
            asked += [(name, self.rows, self._batches(sample)) for name, sample in samples.items()]
        asked += [(name, self.rows, batches) for name, batches in self._alone(comparisons)]
        padded_to: dict[str, int] = {}
        if any(entry.kind == "padded" for entry in comparisons):
            padded_to = {PADDED[name]: self._padded_to(name) for name in PADDED}
            asked += [(PADDED[name], file, batches) for name, file, batches in asked if name in PADDED]
        if self.probes is not None and any(entry.kind == "texts" for entry in comparisons):
            asked += [(name, self.probes[0], batches) for name, batches in _PROBE_SETS.items()]
        return [
            {
                "name": name,
                "rows": str(file),
                "batches": batches,
                "token_types": untyped if name == "untyped" else "given",
                "padded_to": padded_to.get(name, 0),
            }
            for name, file, batches in asked
            if file is not None and batches
        ]

    def text_sets(self, comparisons: Sequence[Comparison]) -> list[dict[str, Any]]:
        """The sets of rows for a measuring process that takes texts; some of `row_sets`, by name."""
        assert self.probes is not None, "a comparison of texts is made where a file takes them"
        asked = [(name, self.probes[1], batches) for name, batches in _PROBE_SETS.items()]
        asked += [(name, self.texts, batches) for name, batches in self._alone(comparisons) if self.texts is not None]
        return [{"name": name, "texts": str(file), "batches": batches} for name, file, batches in asked if batches]

    def chosen_texts(self) -> list[list[str]] | None:
        """The texts of the real rows that are also run one at a time, where a file takes texts."""
        if self.texts is None:
            return None
        texts = json.loads(self.texts.read_text(encoding="utf-8"))
        return [texts[index] for index in self.chosen]

    def real_rows(self, comparison: Comparison) -> str:
        """Name of the set of real rows that both sides of a comparison are asked."""
        if comparison.kind == "padded" or comparison.length is not None:
            return ALONE
        name, sample = ROWS if comparison.in_batches else SINGLE, comparison.sample
        return name if sample is None or sample >= len(self.lengths) else f"{name}_{sample}"

    def _batches(self, sample: int | None) -> list[list[int]]:
        """Batches of real rows of similar length."""
        chosen = spread(len(self.lengths), sample)
        return [[chosen[index] for index in batch] for batch in by_length(self.lengths[chosen], _BATCH_TOKENS)]

    def _alone(self, comparisons: Sequence[Comparison]) -> list[tuple[str, list[list[int]]]]:
        """The sets of real rows that are run one at a time."""
        own = [entry for entry in comparisons if entry.kind in ("quantized", "texts")]
        samples = {self.real_rows(entry): entry.sample for entry in own}
        found = [(name, spread(len(self.lengths), limit)) for name, limit in samples.items()]
        return [(name, [[index] for index in indices]) for name, indices in (*found, (ALONE, list(self.chosen)))]

    def fitting(self, length: int) -> dict[str, list[int]]:
        """Rows of each plain set of `PADDED` that have at most so many tokens, by their place in the set."""
        tokens = {ALONE: self.lengths[list(self.chosen)], "edges_alone": self.edge_lengths}
        return {name: np.flatnonzero(sizes <= length).tolist() for name, sizes in tokens.items()}

    def _fixed_sets(self, length: int) -> list[dict[str, Any]]:
        """The sets of rows for a process that runs a graph of one length."""
        fits, files = self.fitting(length), {ALONE: self.rows, "edges_alone": self.edges}
        rows = {ALONE: list(self.chosen), "edges_alone": list(range(len(EDGES)))}
        return [
            {
                "name": PADDED[name],
                "rows": str(files[name]),
                "batches": [[rows[name][index]] for index in fits[name]],
                "padded_to": length,
            }
            for name in PADDED
            if fits[name]
        ]

    def _padded_to(self, name: str) -> int:
        """The length to which the rows of a set are padded."""
        longest = int(self.lengths[list(self.chosen)].max()) if name == ALONE and self.chosen else 0
        return min(self.longest, max(_PADDED_TO, 2 * longest))

    def place(self, comparison: Comparison, name: str, index: int) -> str:
        """Where a row of a set is: a real row, by its index, an edge case, or a made-up text."""
        if name in _EDGE_SETS:
            return f"{EDGES[index]}, {_EDGE_SETS[name]}"
        if name in _PROBE_SETS:
            return f"the text {PROBES[index][:40]!r}"
        if name == ALONE:
            return f"row {self.chosen[index]}"
        sampled = name != ROWS
        return f"row {spread(len(self.lengths), comparison.sample)[index] if sampled else index}"


def _probes(checkpoint: Checkpoint, work: Path) -> tuple[Path, Path]:
    """Writes the texts that tokenizers differ on, as tokens and as texts."""
    from compressor.models.loading import load_tokenizer

    tokenizer = load_tokenizer(checkpoint.path)
    columns = probe_columns(takes_pairs(checkpoint.path / TEXT_RUNTIME.file))
    length = checkpoint.max_sequence_length()
    encoded = tokenizer(*columns, truncation="longest_first", max_length=length)
    names = [name for name in INPUTS if name in encoded]
    rows = [dict(zip(names, row, strict=True)) for row in zip(*(encoded[name] for name in names), strict=True)]
    tokens, texts = work / "probes.npz", work / "probes.json"
    TokenRows.of(rows, int(tokenizer.pad_token_id or 0)).save(tokens)
    texts.write_text(json.dumps(list(zip(*columns, strict=True))), encoding="utf-8")
    return tokens, texts


def spread(count: int, limit: int | None) -> list[int]:
    """Indices of at most so many of some rows, evenly spread; all of them for None."""
    wanted = count if limit is None else min(limit, count)
    chosen: list[int] = np.unique(np.linspace(0, count - 1, wanted).round().astype(np.int64)).tolist()
    return chosen
