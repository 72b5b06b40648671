"""The stages of a recipe: every knob of every stage on one page.

Like `recipe.py`, the only definition: strict and frozen; attribute docstrings become help.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from compressor.metrics import RULES


class Spec(BaseModel):
    """Base of every part of a recipe: strict, frozen, no unknown keys."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


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


class DistillationSpec(ObjectiveSpec):
    """Keys of stages that train a student to match the teacher.

    `objective: task`: on the task's rows,
    `alpha_soft * T^2 * KL(teacher || student at temperature T) + alpha_hard * cross-entropy with the labels`, and from
    chosen layers of the teacher `+ alpha_cosine * (1 - cosine of hidden states) + alpha_attention * KL of attention`.

    `objective: pretraining`: DistilBERT's triple loss on `data.corpus`, at the masked tokens,
    `alpha_soft * T^2 * KL over the vocabulary + alpha_mlm * masked-LM + alpha_cosine * (1 - cosine of hidden states)`,
    and on a corpus of pairs `+ alpha_order * cross-entropy of the order of the segments`.
    """

    temperature: Annotated[float, Field(gt=0)] = 2.0
    """Softens both distributions of the soft loss."""
    alpha_soft: Annotated[float, Field(ge=0)] | None = None
    """Weight of the soft loss; by default 0.9, in pretraining 5."""
    alpha_hard: Annotated[float, Field(ge=0)] | None = None
    """Task: weight of the cross-entropy with the labels; by default 0.1."""
    alpha_mlm: Annotated[float, Field(ge=0)] | None = None
    """Pretraining: weight of the masked-LM loss; by default 2."""
    alpha_order: Annotated[float, Field(ge=0)] | None = None
    """Pretraining with `data.corpus.sentence_order`: weight of the sentence-order loss; by default 1."""
    alpha_cosine: Annotated[float, Field(ge=0)] | None = None
    """Weight of the cosine loss between hidden states; by default 1, in task distillation of a distill stage 0."""
    alpha_attention: Annotated[float, Field(ge=0)] | None = None
    """Task: weight of the divergence between attention distributions, head by head; by default 0."""
    layer_map: tuple[Annotated[int, Field(ge=0)], ...] | None = None
    """Task: for each layer of the student, the teacher's layer that it learns hidden states and attention from; by
    default evenly spaced up to the last: 1, 3, 5 for three of six. In pretraining, last learns from last."""
    top_k: Annotated[int, Field(ge=1)] = 32
    """Pretraining: how many of the teacher's probabilities are kept for each masked token; the rest keep their sum."""


class DistillSpec(DistillationSpec):
    """Builds a smaller student and trains it to match the teacher.

    The student starts from layers of the incoming checkpoint, or from a ready one.
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
    """Start from this ready checkpoint instead: a folder, `package:PKG/path` or a hub id."""
    architecture: Literal["bert", "distilbert"] | None = None
    """`distilbert` has no token types, and a ReLU layer where BERT has its tanh pooler; `bert` keeps both. By default
    distilbert; a checkpoint with shared or factorized weights stays what it is."""

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


class RecoverySpec(DistillationSpec):
    """Keys of stages that change a checkpoint and then train it back to match the teacher."""

    epochs: Annotated[float, Field(ge=0)] = 3.0
    """Passes over the training rows; 0 leaves the checkpoint untrained, for a later stage to train."""


class ShareSpec(RecoverySpec):
    """Makes layers share their weights, as in ALBERT, and trains the student back to match the teacher.

    The weights of group g serve the layers with `layer * groups // layers == g`. Sharing all of a layer gives a plain
    ALBERT; sharing one of its halves gives a `compact_bert`, which `import compressor` makes known to `AutoModel…`.
    """

    stage: Literal["share"]
    """The kind of stage."""
    num_hidden_groups: Annotated[int, Field(ge=1)] = 1
    """Groups of layers; those of a group share."""
    share: Literal["all", "attention", "ffn"] = "all"
    """What layers of a group share; the rest stays each layer's own."""
    num_hidden_layers: Annotated[int, Field(ge=1)] | None = None
    """Layers of the student; by default the incoming checkpoint's. More or fewer cost no parameters where all is
    shared, only time."""
    layers: tuple[Annotated[int, Field(ge=0)], ...] | Literal["mean", "least_harm"] = "least_harm"
    """What each group starts from: one incoming layer for each group, the `mean` of those it replaces, or whichever of
    these changes the hidden states least, layer by layer, on a sample of the training rows."""


class FactorizeSpec(RecoverySpec):
    """Splits the token embeddings into two matrices, V x E and E x H, as in ALBERT, and trains the student back.

    By singular value decomposition, weighted by how often each token occurs. What comes out is an ALBERT; if layers
    share in other ways than an ALBERT's, a `compact_bert`.
    """

    stage: Literal["factorize"]
    """The kind of stage."""
    embedding_size: Annotated[int, Field(ge=2)] = 128
    """E, the width of the embeddings; at the incoming width nothing is split."""


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


AnyStage = Annotated[
    FinetuneSpec | DistillSpec | ShareSpec | FactorizeSpec | QuantizeSpec | ExportSpec, Field(discriminator="stage")
]
