"""Keys of pruning: the parts to remove, and how they are chosen."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from compressor.spec import Spec
from compressor.training.spec import RecoverySpec, TargetSpec, VocabularySpec

_WAYS = ("heads", "ffn", "layers", "vocabulary", "target", "sparsity", "pattern")
"""Keys that remove something inside the encoder."""


class VectorsSpec(Spec):
    """The numbers of a sentence's vector that stay."""

    dimensions: Annotated[int, Field(ge=1)]
    """How many."""
    reduction: Literal["pca", "first"] = "pca"
    """`pca`: along the directions that hold most of the vectors of training texts, folded into a dense layer. `first`:
    the first numbers, of a model whose training made them useful without the others (`dimensions` of a stage that
    trains)."""
    texts: Annotated[int, Field(ge=1)] = 4096
    """Training texts, evenly spread, whose vectors tell the directions."""


class PruningSpec(RecoverySpec):
    """Keys of pruning: the heads, neurons, layers, tokens and weights to remove, and how they are chosen."""

    heads: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the attention heads to remove; at least one stays in each layer."""
    ffn: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the feed-forward neurons to remove. Each layer keeps a multiple of eight, at least eight: kernels are
    slower on other widths."""
    layers: tuple[Annotated[int, Field(ge=0)], ...] | Annotated[int, Field(ge=1)] = ()
    """Whole layers to remove: a list (the first layer is 0), or a number. With a number, the stage removes one layer at
    a time, each time the one whose removal changes the outputs least on a sample of the training rows."""
    vocabulary: VocabularySpec | None = None
    """Trim the tokenizer and the token embeddings together. Hidden states are then compared with the
    teacher's only if both split every training row into the same tokens, unless `alpha_cosine` is given."""
    target: TargetSpec | None = None
    """Instead of `heads` and `ffn`: an upper limit on size, parameters or latency. Of the combinations of heads and
    neurons that meet it, the stage takes the one that changes the outputs least on a sample of the training rows."""
    vectors: VectorsSpec | None = None
    """Task sentence-similarity: fewer numbers in a vector, `{dimensions: 128, reduction: pca}`. After recovery, if
    something else is removed too; alone it trains nothing."""
    steps: Annotated[int, Field(ge=1)] = 1
    """Number of steps in which heads and neurons are removed; each step scores, cuts and recovers. The last step
    recovers for half of `epochs` or `max_steps`, the steps before it share the other half."""
    sparsity: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the weights in the layers' matrices to set to zero, smallest magnitude first. The share grows over the
    first two thirds of recovery (cubic schedule). Zeros make a compressed download smaller, and nothing faster. Only
    stages that do not train can follow."""
    pattern: Annotated[str, Field(pattern=r"^[1-9][0-9]*:[1-9][0-9]*$")] | None = None
    """Instead of `sparsity`: N:M such as `2:4`. At most N of every M consecutive weights stay nonzero, for hardware
    that skips zeros."""
    scope: Literal["layer", "global"] = "layer"
    """`layer`: every layer loses the same share; `global`: the share is of all layers together, and layers with higher
    scores keep more."""
    scoring: Literal["taylor", "magnitude", "random"] = "taylor"
    """How heads and neurons are scored; the highest scores stay. `taylor`: first-order estimate of the change of the
    loss on a sample of the training rows, and of the vectors themselves in sentence-similarity; `magnitude`: norms of
    the weights; `random`: drawn by seed, a baseline."""

    @property
    def cuts(self) -> bool:
        """Whether something inside the encoder is removed, and not the numbers of its vectors alone."""
        return bool(self.model_fields_set.intersection(_WAYS))

    @property
    def trains(self) -> bool:
        """Whether there is something to recover from, and weights are learned at all."""
        return self.cuts and super().trains

    @property
    def kept_of(self) -> tuple[int, int] | None:
        """N and M of the pattern."""
        if self.pattern is None:
            return None
        kept, _, of = self.pattern.partition(":")
        return int(kept), int(of)

    @model_validator(mode="after")
    def _makes_sense(self) -> PruningSpec:
        if not self.cuts and self.vectors is None:
            raise ValueError(f"nothing to remove; give at least one of {', '.join(_WAYS)}, vectors")
        if not self.cuts and (given := [key for key in ("epochs", "max_steps") if key in self.model_fields_set]):
            raise ValueError(f"vectors alone trains nothing; drop {given[0]}, and put a distill stage behind it")
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

    @property
    def scores_by_loss(self) -> bool:
        """Whether heads and neurons are scored by gradients of the loss, which takes a trained head."""
        return self.scoring == "taylor" and bool(self.heads or self.ffn or self.target)

    @property
    def makes_zeros(self) -> bool:
        """With `sparsity` or `pattern`."""
        return bool(self.sparsity or self.pattern)
