"""The recipe: every knob but the stages', which are in `recipe_stages.py`.

These models are the only definition of a recipe. They are strict (an unknown key or a value of another type is an
error) and frozen; the attribute docstrings become the JSON Schema's descriptions and `docs/recipe.md`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from compressor.metrics import METRICS, QUALITY_KINDS
from compressor.recipe_parts import RegressionGate, Scalar, Source, Spec, TextSpec
from compressor.recipe_stages import AnyStage
from compressor.recipe_training import StageSpec

DEFAULT_MAX_SEQUENCE_LENGTH = 128

MASKED_LM = "masked-lm"
"""The task of stages that pretrain, whatever the recipe's own is."""

REGRESSION = "regression"
"""What the comparison with another run is called, in recipes and in reports."""


class CorpusSpec(TextSpec):
    """Raw text that pretraining stages learn from, read as a stream: memory does not grow with it."""

    separator: str = "\n"
    """Separates the paragraphs inside one text."""
    sentence_order: bool = False
    """Make each sequence of two segments of one text, half of them swapped, and have pretraining stages train a head
    that tells the order, beside the masked-LM head. Texts need two sentences at least. Not for DistilBERT."""
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """Share of the texts held out, by another hash."""
    max_validation_sequences: Annotated[int, Field(ge=1)] = 400
    """Score on at most this many sequences of the held-out text, drawn by seed."""


class DataSpec(Spec):
    """Where the rows come from, and which columns hold what."""

    train: Source | None = None
    """csv, tsv, jsonl or parquet file (relative to the recipe), `package:PKG/path`, or `{hub: id, name:, split:}`. Of
    token-classification, jsonl, parquet, or CoNLL; of question-answering, jsonl, parquet, or SQuAD's json.

    Needed by every task but masked-lm, which reads `corpus`."""
    validation: Source | None = None
    """Held-out rows, same forms as `train`; left out: a hash split of `train`."""
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of `train` held out by a hash of the text when `validation` is left out (then 0.1 by default)."""
    text: str = "text"
    """Column with the text (the first sentence of a pair)."""
    text_pair: str | None = None
    """Column with the second sentence of a pair."""
    label: str = "label"
    """Column with the label, a string or an integer; of text-regression, a number."""
    tokens: str = "tokens"
    """Column with a row's words, a list, in token-classification; of CoNLL files, the first."""
    tags: str = "tags"
    """Column with a tag for each word, a list; of CoNLL files, the last. `O`, or `B-`, `I-` and a type."""
    question: str = "question"
    """Column with the question, in question-answering."""
    context: str = "context"
    """Column with the text that holds the answer."""
    answers: str = "answers"
    """Column with the answers, `{text: [...], answer_start: [...]}`; empty lists where there is none."""
    stride: Annotated[int, Field(ge=0)] = 128
    """Tokens that neighbouring windows of a long context share."""
    where: dict[str, Scalar] = Field(default_factory=dict)
    """Keep only rows whose columns have these values."""
    max_train_samples: Annotated[int, Field(ge=1)] | None = None
    """Train on at most this many rows, drawn by seed."""
    max_validation_samples: Annotated[int, Field(ge=1)] | None = None
    """Score on at most this many rows, drawn by seed."""
    corpus: str | CorpusSpec | None = None
    """Raw text for `objective: pretraining` and the task masked-lm: a mapping, or just its `source`."""

    @model_validator(mode="after")
    def _one_split(self) -> DataSpec:
        if self.validation is not None and self.validation_fraction is not None:
            raise ValueError("validation and validation_fraction are both given; keep one")
        return self

    @property
    def corpus_spec(self) -> CorpusSpec | None:
        """The corpus, with its defaults where the recipe gives only its source."""
        return CorpusSpec(source=self.corpus) if isinstance(self.corpus, str) else self.corpus


class MeasureSpec(Spec):
    """How every stage is timed and scored: the conditions of the device, as closely as this machine can."""

    runtime: Literal["onnxruntime", "torchscript"] = "onnxruntime"
    """Runtime that ships."""
    threads: Annotated[int, Field(ge=1, le=256)] = 1
    """Threads of the runtime while timing."""
    batch_size: Annotated[int, Field(ge=1)] = 1
    """Rows per call, for latency and for quality (dynamic int8 depends on the batch it runs in)."""
    sequence_length: Annotated[int, Field(ge=2)] = 128
    """Tokens per row while timing."""
    runs: Annotated[int, Field(ge=1)] = 200
    """Timed calls; p95 needs 59 before it has an upper bound."""


class Recipe(Spec):
    """A compression recipe."""

    schema_version: Literal[1]
    """Version of this format."""
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    """Names the run's folder under `artifacts/`."""
    task: Literal["text-classification", "text-regression", "token-classification", "question-answering", "masked-lm"]
    """What the model does: a label or a number for a text or a pair of texts, a tag for each word, the span that
    answers a question, or the tokens that are hidden."""
    model: str
    """BERT, DistilBERT or ALBERT checkpoint: a folder (relative to the recipe), `package:PKG/path`, or a hub
    id[@revision]."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Seeds sampling, new weights, dropout and the order of the rows."""
    data: DataSpec
    """The rows."""
    measure: MeasureSpec = Field(default_factory=MeasureSpec)
    """How stages are measured."""
    stages: Annotated[tuple[AnyStage, ...], Field(min_length=1)]
    """What is done to the checkpoint, in this order."""
    regression: dict[str, RegressionGate] | None = None
    """What `compress run --baseline RUN` demands of the last stage, compared with that run's model: `metric: {rule:
    limit}`. Left out: the task's main metric has a `max_drop` of 0.01, `latency_p50_ms` a `max_ratio` of 1.1 and
    `size_bytes` one of 1.01. `{}` demands nothing, and the comparison is only shown."""

    def stage_names(self) -> list[str]:
        """Unique names of the stages, in order: given, or the kind with `_2`, `_3`… when it occurs again."""
        return stage_names([(stage.name, stage.kind) for stage in self.stages])

    @property
    def regression_gates(self) -> dict[str, RegressionGate]:
        """The recipe's gates relative to another run, or the defaults."""
        if self.regression is not None:
            return self.regression
        return {
            QUALITY_METRICS[self.task][0]: RegressionGate(max_drop=0.01),
            "latency_p50_ms": RegressionGate(max_ratio=1.1),
            # Not 1: files hold names and versions.
            "size_bytes": RegressionGate(max_ratio=1.01),
        }

    def task_of(self, stage: StageSpec) -> str:
        """What a stage's checkpoint does: the recipe's task, or masked-lm while it is pretrained."""
        return MASKED_LM if getattr(stage, "objective", "task") == "pretraining" else self.task


def stage_names(stages: list[tuple[str | None, str]]) -> list[str]:
    """Names for (given name, kind) pairs: the given one, or the kind, numbered from its second occurrence on."""
    seen: dict[str, int] = {}
    names = []
    for name, kind in stages:
        seen[kind] = seen.get(kind, 0) + (name is None)
        names.append(name or (kind if seen[kind] == 1 else f"{kind}_{seen[kind]}"))
    return names


QUALITY_METRICS: dict[str, tuple[str, ...]] = {
    "text-classification": ("accuracy", "f1", "matthews_correlation"),
    "text-regression": ("spearman",),
    "token-classification": ("f1", "accuracy"),
    "question-answering": ("f1", "exact_match"),
    MASKED_LM: ("accuracy", "loss", "perplexity", "sentence_order_accuracy"),
}
"""Metrics of each task, the main one first."""


COLUMNS: dict[str, tuple[str, ...]] = {
    "text-classification": ("text", "text_pair", "label"),
    "text-regression": ("text", "text_pair", "label"),
    "token-classification": ("tokens", "tags"),
    "question-answering": ("question", "context", "answers", "stride"),
    MASKED_LM: (),
}
"""Keys of `data` that say what the rows of a task look like."""


def gate_metrics(task: str) -> list[str]:
    """Names of the metrics that a stage of this task can be gated by."""
    return [
        name for name, metric in METRICS.items() if metric.kind not in QUALITY_KINDS or name in QUALITY_METRICS[task]
    ]
