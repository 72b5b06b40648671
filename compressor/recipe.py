"""The recipe: every knob on one page.

These models are the only definition of a recipe. They are strict (an unknown key or a value of another type is an
error) and frozen; the attribute docstrings become the JSON Schema's descriptions and `docs/recipe.md`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from compressor.metrics import METRICS, QUALITY_KINDS, RULES

Scalar = bool | int | float | str

DEFAULT_MAX_SEQUENCE_LENGTH = 128

MASKED_LM = "masked-lm"
"""The task of stages that pretrain, whatever the recipe's own is."""


class Spec(BaseModel):
    """Base of every part of a recipe: strict, frozen, no unknown keys."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class HubDataset(Spec):
    """A data set on the Hugging Face hub."""

    hub: str
    """Data set id, such as `nyu-mll/glue`."""
    name: str | None = None
    """Configuration of the data set, such as `sst2`."""
    split: str
    """Split, such as `train`."""
    revision: str | None = None
    """Commit, tag or branch; the commit it resolves to is written into the lock."""


Source = str | HubDataset


class CorpusSpec(Spec):
    """Raw text, read as a stream: memory does not grow with it."""

    source: Source
    """txt, csv, tsv, jsonl or parquet file (relative to the recipe), `package:PKG/path`, or a data set on the hub."""
    text: str = "text"
    """Column with the text; a txt file has none, each of its lines is a text."""
    where: dict[str, Scalar] = Field(default_factory=dict)
    """Keep only rows whose columns have these values."""
    separator: str = "\n"
    """Separates the paragraphs inside one text."""
    fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Keep this share of the texts, drawn by a hash of the text."""
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """Share of the texts held out, by another hash."""
    max_validation_sequences: Annotated[int, Field(ge=1)] = 400
    """Score on at most this many sequences of the held-out text, drawn by seed."""


class DataSpec(Spec):
    """Where the rows come from, and which columns hold what."""

    train: Source | None = None
    """csv, tsv, jsonl or parquet file (relative to the recipe), `package:PKG/path`, or `{hub: id, name:, split:}`.

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
    """Column with the label, a string or an integer."""
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


class Gate(Spec):
    """Limits for one metric. `pass` and `fail` need the whole interval on one side, else it is `inconclusive`."""

    min: float | None = None
    """The value is at least this."""
    max: float | None = None
    """The value is at most this."""
    max_drop: float | None = None
    """Reference minus value is at most this, in the metric's own unit."""
    min_retention: float | None = None
    """Value / reference is at least this."""
    min_speedup: float | None = None
    """Reference / value is at least this; both timed in turn in one process."""
    max_ratio: float | None = None
    """Value / reference is at most this."""
    relative_to: Literal["baseline", "previous"] = "baseline"
    """The reference: the teacher, or the stage before this one."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Confidence of each of the two one-sided bounds."""

    @property
    def limits(self) -> dict[str, float]:
        """The rules that are set, with their limits."""
        return {rule: limit for rule in RULES if (limit := getattr(self, rule)) is not None}

    @model_validator(mode="after")
    def _has_a_rule(self) -> Gate:
        if not self.limits:
            raise ValueError(f"no rule; give at least one of {', '.join(RULES)}")
        return self


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


class TrainingSpec(StageSpec):
    """Keys that every training stage shares."""

    epochs: Annotated[float, Field(gt=0)] = 3.0
    """Passes over the training rows."""
    max_steps: Annotated[int, Field(ge=1)] | None = None
    """Optimizer steps; overrides `epochs`."""
    batch_size: Annotated[int, Field(ge=1)] = 32
    """Rows per forward pass and process."""
    gradient_accumulation_steps: Annotated[int, Field(ge=1)] = 1
    """Forward passes per optimizer step."""
    learning_rate: Annotated[float, Field(gt=0)] = 5e-5
    """Peak learning rate of AdamW; rises over the warm-up, then falls linearly to 0."""
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the steps spent warming up."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """AdamW weight decay, not applied to biases and LayerNorm."""
    max_sequence_length: Annotated[int, Field(ge=3)] | None = None
    """Longer texts are cut, here and in the shipped tokenizer; by default 128 or what the checkpoint allows."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Mixed precision. `auto` is bf16 where that is faster: on GPUs, and on CPUs with bf16 instructions for sequences
    of 128 tokens or more; else fp32. fp16 needs an accelerator."""


class ObjectiveSpec(TrainingSpec):
    """Keys of stages that train on the task's rows or, as a language model, on `data.corpus`."""

    objective: Literal["task", "pretraining"] = "task"
    """`pretraining` trains a masked language model on `data.corpus`. It starts from the recipe's model or what earlier
    pretraining left of it, since fine-tuning on a task throws the language model's head away. In a masked-lm recipe it
    is the only one."""
    mlm_probability: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """Pretraining: share of the tokens that are predicted."""
    masking: Literal["subword", "whole_word"] = "subword"
    """Pretraining: what is masked together."""
    maskings: Annotated[int, Field(ge=1)] | None = None
    """Pretraining: different maskings of the corpus that the epochs take turns with; by default one for each epoch, at
    most 4. A teacher reads the corpus once for each."""


class FinetuneSpec(ObjectiveSpec):
    """Trains the checkpoint on the task's labels, or as a masked language model. The task's first makes the teacher."""

    stage: Literal["finetune"]
    """The kind of stage."""


class DistillSpec(ObjectiveSpec):
    """Builds a smaller student and trains it to match the teacher.

    `objective: task`: the student starts from the incoming checkpoint and learns on the task's rows:
    `alpha_soft * T^2 * KL(teacher || student at temperature T) + alpha_hard * cross-entropy with the labels`, and from
    chosen layers of the teacher `+ alpha_cosine * (1 - cosine of hidden states) + alpha_attention * KL of attention`.

    `objective: pretraining`: DistilBERT's triple loss on `data.corpus`, at the masked tokens,
    `alpha_soft * T^2 * KL over the vocabulary + alpha_mlm * masked-LM + alpha_cosine * (1 - cosine of hidden states)`.
    """

    stage: Literal["distill"]
    """The kind of stage."""
    num_hidden_layers: Annotated[int, Field(ge=1)] | None = None
    """Layers of the student; by default as many as `layers` lists, or half of the teacher's, or all of a checkpoint
    that has fewer than the teacher already."""
    layers: tuple[Annotated[int, Field(ge=0)], ...] | Literal["every_other", "importance"] = "every_other"
    """Which layers the student starts from, first layer 0. `every_other` spaces them evenly from layer 0; `importance`
    drops one after the other the layer whose absence changes the outputs least."""
    hidden_size: Annotated[int, Field(ge=1)] | None = None
    """Width of the student, a multiple of the head size; by default the incoming checkpoint's. A narrower one keeps the
    strongest channels, heads and neurons."""
    student: str | None = None
    """Start from this ready BERT or DistilBERT checkpoint instead: a folder, `package:PKG/path` or a hub id."""
    architecture: Literal["bert", "distilbert"] = "distilbert"
    """`distilbert` has no token types, and a ReLU layer where BERT has its tanh pooler; `bert` keeps both."""
    temperature: Annotated[float, Field(gt=0)] = 2.0
    """Softens both distributions of the soft loss."""
    alpha_soft: Annotated[float, Field(ge=0)] | None = None
    """Weight of the soft loss; by default 0.9, in pretraining 5."""
    alpha_hard: Annotated[float, Field(ge=0)] | None = None
    """Task: weight of the cross-entropy with the labels; by default 0.1."""
    alpha_mlm: Annotated[float, Field(ge=0)] | None = None
    """Pretraining: weight of the masked-LM loss; by default 2."""
    alpha_cosine: Annotated[float, Field(ge=0)] | None = None
    """Weight of the cosine loss between hidden states; by default 0, in pretraining 1."""
    alpha_attention: Annotated[float, Field(ge=0)] | None = None
    """Task: weight of the divergence between attention distributions, head by head; by default 0."""
    layer_map: tuple[Annotated[int, Field(ge=0)], ...] | None = None
    """Task: for each layer of the student, the teacher's layer that it learns hidden states and attention from; by
    default evenly spaced up to the last: 1, 3, 5 for three of six. In pretraining, last learns from last."""
    top_k: Annotated[int, Field(ge=1)] = 32
    """Pretraining: how many of the teacher's probabilities are kept for each masked token; the rest keep their sum."""

    @model_validator(mode="after")
    def _consistent(self) -> DistillSpec:
        if isinstance(self.layers, tuple):
            if not self.layers:
                raise ValueError("layers is empty; list at least one layer, or say every_other")
            if self.num_hidden_layers not in (None, len(self.layers)):
                raise ValueError(
                    f"num_hidden_layers is {self.num_hidden_layers} but layers lists {len(self.layers)}; "
                    "drop one of the keys or make them agree"
                )
        fixed = ("num_hidden_layers", "layers", "hidden_size", "architecture")
        if self.student is not None and (given := [key for key in fixed if key in self.model_fields_set]):
            raise ValueError(f"student is a ready checkpoint, so {', '.join(given)} cannot be chosen; drop one of them")
        return self


class QuantizeSpec(StageSpec):
    """Turns weights into integers in the exported graph."""

    stage: Literal["quantize"]
    """The kind of stage."""
    scheme: Literal["dynamic_int8"] = "dynamic_int8"
    """`dynamic_int8`: int8 weights, activations quantized on the fly to uint8."""
    backend: Literal["onnxruntime"] = "onnxruntime"
    """Which library quantizes."""
    per_channel: bool = True
    """One scale per output channel instead of one per matrix."""
    embeddings: bool = True
    """Quantize the embedding tables too: they are half of a small BERT."""
    reduce_range: bool = False
    """7-bit weights; for x86 devices without VNNI, where 8-bit products can saturate."""

    @property
    def default_gates(self) -> dict[str, Gate]:
        """A silent loss of quantization fails the run."""
        return {"quantized_coverage": Gate(min=0.95)} if self.embeddings else {}


class ExportSpec(StageSpec):
    """Writes the formats that ship and proves that each gives torch's answers."""

    stage: Literal["export"]
    """The kind of stage."""
    targets: Annotated[tuple[Literal["onnx", "torchscript"], ...], Field(min_length=1)] = ("onnx",)
    """Formats to write."""

    @property
    def default_gates(self) -> dict[str, Gate]:
        """A parity miss fails the run."""
        return {"parity_label_agreement": Gate(min=0.995), "parity_max_abs_diff": Gate(max=1e-3)}


AnyStage = Annotated[FinetuneSpec | DistillSpec | QuantizeSpec | ExportSpec, Field(discriminator="stage")]


class Recipe(Spec):
    """A compression recipe."""

    schema_version: Literal[1]
    """Version of this format."""
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    """Names the run's folder under `artifacts/`."""
    task: Literal["text-classification", "masked-lm"]
    """What the model does."""
    model: str
    """BERT or DistilBERT checkpoint: a folder (relative to the recipe), `package:PKG/path`, or a hub id[@revision]."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Seeds sampling, new weights, dropout and the order of the rows."""
    data: DataSpec
    """The rows."""
    measure: MeasureSpec = Field(default_factory=MeasureSpec)
    """How stages are measured."""
    stages: Annotated[tuple[AnyStage, ...], Field(min_length=1)]
    """What is done to the checkpoint, in this order."""

    def stage_names(self) -> list[str]:
        """Unique names of the stages, in order: given, or the kind with `_2`, `_3`… when it occurs again."""
        return stage_names([(stage.name, stage.kind) for stage in self.stages])

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
    MASKED_LM: ("accuracy", "loss", "perplexity"),
}
"""Metrics of each task, the main one first."""


def gate_metrics(task: str) -> list[str]:
    """Names of the metrics that a stage of this task can be gated by."""
    return [
        name for name, metric in METRICS.items() if metric.kind not in QUALITY_KINDS or name in QUALITY_METRICS[task]
    ]
