"""The recipe of a draft: the keys of every stage, each with the reason for its value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from compressor.data.spec import DataSpec
from compressor.drafting.guess import ASSUMED, Guess
from compressor.drafting.lengths import Lengths
from compressor.drafting.plans import Reduction
from compressor.drafting.target import Budget
from compressor.drafting.yaml_text import Key, write
from compressor.models.families import FAMILIES
from compressor.models.shape import Shape
from compressor.runtimes import TARGETS
from compressor.spec import Spec
from compressor.stages import STAGES
from compressor.tasks import (
    MASKED_LM,
    TASKS,
    main_metric,
    metrics,
    multi_label,
    question_answering,
    text_classification,
)

_NARROW = 128
"""Width below which products of integers are not faster than those of floats."""
_UNEVEN = 0.8
"""Share of the most frequent label from which accuracy says little."""
_EPOCHS = ((50_000, 1), (10_000, 2), (3_000, 3), (1_000, 5), (0, 10))
"""Epochs by the number of rows: about as many steps for each."""
_SLACK = ((2000, 0.0), (1000, 0.02), (300, 0.05), (100, 0.1), (0, 0.2))
"""What retention may be lower by, by the number of validation rows: fewer cannot show that little is lost."""
_WIDER = 0.03
"""By how much more where the metric is not accuracy: spans and ranks vary more from row to row."""
_HELD_OUT = 2000
"""Validation rows to aim for."""


@dataclass(frozen=True)
class Draft:
    """All that a recipe is written from.

    Attributes:
        name: Of the recipe.
        model: The checkpoint, as the recipe names it.
        files: `train` and maybe `validation`, or the source of a corpus, as the recipe names them; of sentence encoders
            any keys of `data` that name files.
        facts: Paragraphs on the checkpoint and the rows.
        guess: What the rows are.
        rows: How many rows were read; the file may have more.
        judged: How many rows of a validation file were read; 0 without one.
        trained: Whether the checkpoint's own head is used.
        shape: The checkpoint's shape.
        lengths: Tokens of the rows.
        target: What the file that ships has to meet.
    """

    name: str
    model: str
    files: dict[str, Any]
    facts: tuple[str, ...]
    guess: Guess
    rows: int
    judged: int
    trained: bool
    shape: Shape
    lengths: Lengths
    target: Budget

    @property
    def held_out(self) -> float:
        """Share of the rows that are held out where there is no file of them."""
        return min(0.25, max(0.1, round(_HELD_OUT / self.rows, 2)))

    @property
    def learning_rate(self) -> float:
        """Narrower models take larger steps: 5e-5 at a width of 768."""
        return float(f"{min(1e-3, max(2e-5, 5e-5 * 768 / self.shape.hidden)):.0e}")

    @property
    def epochs(self) -> int:
        """By the number of rows."""
        return next(epochs for least, epochs in _EPOCHS if self.rows >= least)

    def text(self, plan: Reduction, expected: str) -> str:
        """The recipe with the stages of a plan.

        Args:
            plan: What is left of the model.
            expected: What is estimated of it, for the comment at the beginning.
        """
        task = self.guess.task
        named = text_classification.NAME if task == multi_label.NAME else task
        measured = max(2, self.lengths.limit)
        head = [
            "A recipe by `compress init`; lines with `assumed` are guesses. `compress run` runs it, and docs/recipe.md "
            "lists every key.",
            *self.facts,
            expected,
        ]
        entries = [
            Key("schema_version", 1),
            Key("name", self.name),
            Key("task", named, self.guess.notes.get("task", "")),
            Key("model", self.model),
            Key("seed", 0),
            Key("data", self._data()),
            Key("measure", {"threads": 1, "batch_size": 1, "sequence_length": measured, "runs": 200}, _TIMED),
            Key("stages", self._stages(plan)),
        ]
        return write(head, entries)

    def _data(self) -> list[Key]:
        notes = self.guess.notes
        if self.guess.task == MASKED_LM:
            source = self.files["train"]
            note = "; ".join(notes[key] for key in ("train", "text", "where") if key in notes)
            plain = isinstance(source, str) and not self.guess.data
            return [Key("corpus", source if plain else {"source": source, **self.guess.data}, note)]
        found = [Key(key, value, notes.get(key, "")) for key, value in self.files.items()]
        if self.files.keys() == {"train"}:
            found.append(Key("validation_fraction", self.held_out, _help(DataSpec, "validation_fraction")))
        found += [Key(key, value, notes.get(key, "")) for key, value in self.guess.data.items()]
        return found

    def _stages(self, plan: Reduction) -> list[list[Key]]:
        found = [] if self.trained else [self._finetune()]
        changes = self._changes(plan)
        # The last one that changes the model recovers for all: what is trained in between is lost again.
        for index, change in enumerate(changes):
            found.append(self._change(change, plan, last=index == len(changes) - 1))
        return [*found, self._quantize(plan), self._export(plan)]

    def _finetune(self) -> list[Key]:
        comment = f"{self.guess.notes.get('head', 'The checkpoint has no head for the task')}: a new one is trained."
        return [Key("stage", "finetune", comment), *self._training()]

    def _changes(self, plan: Reduction) -> list[list[Key]]:
        """The keys of each stage that makes the model smaller."""
        found = []
        if plan.layers < self.shape.layers:
            known = FAMILIES[self.shape.family]
            becomes = [Key("architecture", "bert", _KEEPS_TYPES)] if "bert" in known.becomes else []
            depth = Key("num_hidden_layers", plan.layers, f"Of {self.shape.layers} layers.")
            found.append([Key("stage", "distill", _doc("distill")), depth, *becomes])
        if plan.share:
            found.append([Key("stage", "share", _doc("share")), Key("num_hidden_groups", 1)])
        if plan.embedding is not None:
            width = Key("embedding_size", plan.embedding, f"Of a width of {self.shape.embedding}.")
            found.append([Key("stage", "factorize", _doc("factorize")), width])
        removed = []
        if plan.half_neurons:
            removed.append(Key("ffn", 0.5, "Half of the feed-forward neurons go."))
        if plan.keep is not None:
            note = f"Of {self.shape.words:,} tokens, the most frequent ones of the rows; every text can still be split."
            removed.append(Key("vocabulary", {"keep": plan.keep}, note))
        if removed:
            found.append([Key("stage", "prune", _doc("prune")), *removed])
        return found

    def _change(self, keys: list[Key], plan: Reduction, last: bool) -> list[Key]:
        if not last and keys[0].value != "distill":
            return [*keys, Key("epochs", 0, "The stage behind it recovers for both."), *self._cut()]
        task = self.guess.task
        learned = keys[0].value == "distill" and task != MASKED_LM and not TASKS[task].HEAD.vectors
        hidden = [Key("alpha_cosine", 1.0, "Hidden states are learned too.")] if learned else []
        gate = [self._gate(plan)] if last else []  # what is in between does not ship
        return [*keys, *self._training(), *hidden, *gate]

    def _training(self) -> list[Key]:
        """The keys that all training has."""
        return [
            Key("epochs", self.epochs),
            Key("batch_size", 16),
            Key("learning_rate", self.learning_rate),
            Key("dropout", 0, "Drawing dropout is slow on CPUs; leave the line out on GPUs."),
            *self._cut(),
        ]

    def _cut(self) -> list[Key]:
        lengths = self.lengths
        if self.guess.task == MASKED_LM:
            return [Key("max_sequence_length", lengths.limit, "Texts are packed into sequences of so many tokens.")]
        share = f"{100 * lengths.cut:.1f} % of the rows are longer, and are cut" if lengths.cut else "no row is longer"
        return [Key("max_sequence_length", lengths.limit, f"Tokens; {share}.")]

    @property
    def _metric(self) -> str:
        counts = self.guess.counts
        keys = ("query", "score", "text_pair", "validation", "train", "retrieval")
        given = {key: value for key, value in {**self.files, **self.guess.data}.items() if key in keys}
        measured = metrics(self.guess.task, DataSpec(**given))
        uneven = self.guess.task == text_classification.NAME and max(counts.values(), default=0) > _UNEVEN * sum(
            counts.values()
        )
        return "matthews_correlation" if uneven else main_metric(self.guess.task, measured)

    def _gate(self, plan: Reduction) -> Key:
        """The limit on quality, as far as the validation rows can show it."""
        judged = self.judged or int(self.rows * self.held_out)
        slack = next(slack for least, slack in _SLACK if judged >= least)
        slack += 0 if self._metric == TASKS[text_classification.NAME].METRICS[0] else _WIDER
        limit = {self._metric: {"min_retention": round(plan.retention(self.shape.layers) - slack, 2)}}
        note = (
            f"{ASSUMED}the share of the teacher's quality that has to stay, as far as about {judged:,} rows can show it"
        )
        return Key("gates", limit, note)

    def _quantize(self, plan: Reduction) -> list[Key]:
        found = [
            Key("stage", "quantize", _doc("quantize")),
            Key("scheme", "dynamic_int8"),
            Key("reduce_range", True, "7-bit weights: exact on x86 processors without VNNI too."),
        ]
        if plan.int4_table:
            found.append(Key("embeddings", "int4", "The table of tokens in 4 bits."))
        return [*found, self._gate(plan)]

    def _export(self, plan: Reduction) -> list[Key]:
        others = ", ".join(name for name in TARGETS if name != "onnx")
        found = [
            Key("stage", "export", _doc("export")),
            Key("targets", ["onnx"], f"Also: {others}."),
        ]
        if self.shape.hidden < _NARROW:
            found.append(Key("size_only", True, f"{ASSUMED}a model this narrow need not be faster in int8."))
        gates: dict[str, Any] = {}
        if self.target.size_bytes is not None:
            gates["size_bytes"] = {"max": self.target.size_bytes}
        if self.target.latency_ms is not None:
            gates["latency_p50_ms"] = {"max": self.target.latency_ms}
        return [*found, Key("gates", gates, "The target.")] if gates else found


_TIMED = "How every stage is timed, on the machine that runs this recipe: set what the device will see."
_KEEPS_TYPES = "Keeps token types; distilbert has none."


def _doc(stage: str) -> str:
    """The first sentence of what a stage's settings say of it."""
    doc = STAGES[stage].spec.__doc__ or ""
    return " ".join(doc.split("\n\n")[0].split())


def _help(spec: type[Spec], field: str) -> str:
    """What a key's settings say of it."""
    return " ".join((spec.model_fields[field].description or "").split())


def usual_length(task: str) -> int | None:
    """Tokens that rows of a task are cut to whatever their lengths; None for those that go by them."""
    if task == MASKED_LM:
        return 128
    return question_answering.MAX_SEQUENCE_LENGTH if task == question_answering.NAME else None
