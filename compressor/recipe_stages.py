"""The stages of a recipe: every knob of every stage on one page.

Like `recipe.py`, the only definition: strict and frozen; attribute docstrings become help.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from compressor.recipe_parts import Gate, Spec, TextSpec


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
    alpha_mlm: Annotated[float, Field(ge=0)] | None = None
    """Pretraining: weight of the masked-LM loss; by default 1 in finetune, where it has to be positive, and 2 where a
    teacher is learned from."""
    alpha_order: Annotated[float, Field(ge=0)] | None = None
    """Pretraining with `data.corpus.sentence_order`: weight of the sentence-order loss; by default 1."""


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


class VocabularySpec(Spec):
    """Which tokens stay: those that occur.

    The special tokens and both forms of every single character always do, so that whatever could be split into tokens
    before still can.
    """

    keep: Annotated[int, Field(ge=1)] | None = None
    """So many tokens stay: those that occur most often."""
    min_count: Annotated[int, Field(ge=1)] | None = None
    """Tokens stay that occur at least so often."""
    corpus: str | TextSpec | None = None
    """Raw text to count in, a mapping or just its `source`; by default the training rows."""

    @model_validator(mode="after")
    def _one_limit(self) -> VocabularySpec:
        if (self.keep is None) == (self.min_count is None):
            raise ValueError("give one of keep and min_count")
        return self

    @property
    def text(self) -> TextSpec | None:
        """The raw text, with its defaults where the recipe gives only its source."""
        return TextSpec(source=self.corpus) if isinstance(self.corpus, str) else self.corpus


class TargetSpec(Spec):
    """What a model may cost at most, measured as the metric of the same name is after this stage."""

    num_parameters: Annotated[int, Field(ge=1)] | None = None
    """Parameters, embeddings and head included."""
    size_bytes: Annotated[int, Field(ge=1)] | None = None
    """Bytes of the float32 file that ships; int8 takes about a quarter of it."""
    latency_p50_ms: Annotated[float, Field(gt=0)] | None = None
    """Median milliseconds of the float32 file under the conditions of `measure`, on this machine."""

    @property
    def limits(self) -> dict[str, float]:
        """The metric that is set, with its limit."""
        return {name: value for name in type(self).model_fields if (value := getattr(self, name)) is not None}

    @model_validator(mode="after")
    def _one_limit(self) -> TargetSpec:
        if len(self.limits) != 1:
            raise ValueError(f"give one of {', '.join(type(self).model_fields)}")
        return self


class PruneSpec(RecoverySpec):
    """Removes heads, feed-forward neurons, layers and tokens, and trains the student back to match the teacher.

    Rows and columns leave the weights, so that files are smaller and kernels faster. Fewer layers and feed-forward
    networks of one width are still a plain BERT, DistilBERT or ALBERT; fewer heads, and widths that differ from layer
    to layer, are a `compact_bert`, which `import compressor` makes known to `AutoModel…`. What layers share is pruned
    once.
    """

    stage: Literal["prune"]
    """The kind of stage."""
    heads: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the attention heads to remove; at least one stays in each layer."""
    ffn: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the feed-forward neurons to remove. A multiple of eight stays in each layer, which kernels need to be
    fast, and eight at least."""
    layers: tuple[Annotated[int, Field(ge=0)], ...] | Annotated[int, Field(ge=1)] = ()
    """Whole layers to remove: a list, first layer 0, or a number of them: one after the other the layer whose absence
    changes the outputs least on a sample of the training rows."""
    vocabulary: VocabularySpec | None = None
    """Trim the WordPiece tokenizer and the token embeddings together. Hidden states are then compared with the
    teacher's only where both split every training row alike, unless `alpha_cosine` asks for it."""
    target: TargetSpec | None = None
    """Instead of `heads` and `ffn`: what the model may cost. Of the mixtures of both that meet it, the stage takes the
    one that changes the outputs least on a sample of the training rows, before recovery."""
    steps: Annotated[int, Field(ge=1)] = 1
    """Remove heads and neurons in so many steps, and score, cut and recover in each. The last recovers for half of
    `epochs` or `max_steps`, those before share the other half."""
    sparsity: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the weights in the layers' matrices that become zero, those of smallest magnitude: more and more over
    the first two thirds of recovery (cubic schedule), and kept at zero. This makes a compressed download smaller, and
    nothing faster. Only stages that do not train can follow."""
    pattern: Annotated[str, Field(pattern=r"^[1-9][0-9]*:[1-9][0-9]*$")] | None = None
    """Instead of `sparsity`, N:M such as `2:4`: of every M neighbouring weights at most N are not zero, for hardware
    that skips the others."""
    scope: Literal["layer", "global"] = "layer"
    """`layer`: every layer loses its share; `global`: the share is of all layers together, and those that matter more
    keep more."""
    scoring: Literal["taylor", "magnitude", "random"] = "taylor"
    """What heads and neurons are kept for: `taylor`, how much the loss on a sample of the training rows would change
    without them, to first order; `magnitude`, the norms of their weights; `random`, drawn by seed, for comparison."""

    @property
    def kept_of(self) -> tuple[int, int] | None:
        """N and M of the pattern."""
        if self.pattern is None:
            return None
        kept, _, of = self.pattern.partition(":")
        return int(kept), int(of)

    @model_validator(mode="after")
    def _makes_sense(self) -> PruneSpec:
        ways = ("heads", "ffn", "layers", "vocabulary", "target", "sparsity", "pattern")
        if not self.model_fields_set.intersection(ways):
            raise ValueError(f"nothing to remove; give at least one of {', '.join(ways)}")
        if self.target is not None and (self.heads or self.ffn):
            raise ValueError("target finds the shares of heads and ffn; drop them, or drop target")
        if self.sparsity and self.pattern:
            raise ValueError("sparsity and pattern are both given; keep one")
        if self.kept_of is not None and self.kept_of[0] >= self.kept_of[1]:
            raise ValueError(f"pattern is {self.pattern}: N of every M weights stay, so N must be less than M")
        if self.steps > 1 and not (self.heads or self.ffn or self.target):
            raise ValueError("steps removes heads and neurons bit by bit; give heads, ffn or target, or drop steps")
        if self.steps > 1 and not (self.epochs or self.max_steps):
            raise ValueError(f"steps is {self.steps}, but with 0 epochs nothing is learned in between; raise epochs")
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


AnyStage = Annotated[
    FinetuneSpec | DistillSpec | ShareSpec | FactorizeSpec | PruneSpec | QuantizeSpec | ExportSpec,
    Field(discriminator="stage"),
]
