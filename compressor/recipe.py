"""The recipe: every knob on one page.

These models are the only definition of a recipe. They are strict (an unknown key or a value of another type is an
error) and frozen; the attribute docstrings become the JSON Schema's descriptions and `docs/recipe.md`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from compressor.metrics import METRICS, RULES

Scalar = bool | int | float | str


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


class DataSpec(Spec):
    """Where the rows come from, and which columns hold what."""

    train: Source
    """csv, tsv, jsonl or parquet file (relative to the recipe), `package:PKG/path`, or `{hub: id, name:, split:}`."""
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

    @model_validator(mode="after")
    def _one_split(self) -> DataSpec:
        if self.validation is not None and self.validation_fraction is not None:
            raise ValueError("validation and validation_fraction are both given; keep one")
        return self


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
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Mixed precision; fp16 needs an accelerator, bf16 pays on CPUs only for long sequences."""


class FinetuneSpec(TrainingSpec):
    """Trains the checkpoint on the task's labels. As the first stage it makes the teacher."""

    stage: Literal["finetune"]
    """The kind of stage."""


class DistillSpec(TrainingSpec):
    """Builds a shallower student out of the incoming checkpoint and trains it to match the teacher's logits.

    The loss is `alpha_soft * T^2 * KL(teacher || student at temperature T) + alpha_hard * cross-entropy`.
    """

    stage: Literal["distill"]
    """The kind of stage."""
    num_hidden_layers: Annotated[int, Field(ge=1)] | None = None
    """Layers of the student; by default as many as `layers` lists, or half of the teacher's."""
    layers: tuple[Annotated[int, Field(ge=0)], ...] | Literal["every_other"] = "every_other"
    """Which layers the student starts from, first layer 0; `every_other` spaces them evenly from layer 0."""
    architecture: Literal["bert", "distilbert"] = "distilbert"
    """`distilbert` has no token types, and a ReLU layer where BERT has its tanh pooler; `bert` keeps both."""
    temperature: Annotated[float, Field(gt=0)] = 2.0
    """Softens both distributions of the soft loss."""
    alpha_soft: Annotated[float, Field(ge=0)] = 0.9
    """Weight of the soft loss."""
    alpha_hard: Annotated[float, Field(ge=0)] = 0.1
    """Weight of the cross-entropy with the labels."""

    @model_validator(mode="after")
    def _consistent(self) -> DistillSpec:
        if self.alpha_soft == 0 and self.alpha_hard == 0:
            raise ValueError("alpha_soft and alpha_hard are both 0: nothing to learn from; make one positive")
        if isinstance(self.layers, tuple):
            if not self.layers:
                raise ValueError("layers is empty; list at least one layer, or say every_other")
            if self.num_hidden_layers not in (None, len(self.layers)):
                raise ValueError(
                    f"num_hidden_layers is {self.num_hidden_layers} but layers lists {len(self.layers)}; "
                    "drop one of the keys or make them agree"
                )
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
    task: Literal["text-classification"]
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
}
"""Metrics of each task, the main one first."""


def gate_metrics(task: str) -> list[str]:
    """Names of the metrics that a stage of this task can be gated by."""
    return [name for name, metric in METRICS.items() if metric.kind != "quality" or name in QUALITY_METRICS[task]]
