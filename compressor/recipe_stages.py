"""The stages of a recipe: every knob of every stage on one page.

Like `recipe.py`, the only definition: strict and frozen; attribute docstrings become help.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from compressor.recipe_deployment import ExportSpec, QuantizeSpec
from compressor.recipe_parts import Spec, TextSpec
from compressor.recipe_training import DistillationSpec, ObjectiveSpec, RecoverySpec


class FinetuneSpec(ObjectiveSpec):
    """Trains the checkpoint on the task's labels, or as a masked language model. The task's first makes the teacher."""

    stage: Literal["finetune"]
    """The kind of stage."""


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


AnyStage = Annotated[
    FinetuneSpec | DistillSpec | ShareSpec | FactorizeSpec | PruneSpec | QuantizeSpec | ExportSpec,
    Field(discriminator="stage"),
]
