"""A recipe's `embedding`: how a sentence becomes a vector."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field

from compressor.models import small_vectors
from compressor.models.sentence_embedding import Pooling
from compressor.models.small_vectors import Precision, SmallerForm
from compressor.spec import Spec, each_once


class EmbeddingSpec(Spec):
    """How a sentence becomes a vector; what is left out is as the checkpoint's sentence-transformers files say.

    Without such files, it is the mean of the tokens, normalised.
    """

    pooling: Pooling | None = None
    """`mean` of the tokens, `cls` for the first one, or `max` of each channel."""
    normalize: bool | None = None
    """Divide the vector by its length."""
    prompts: dict[str, str] | None = None
    """Texts that are put in front of queries and documents, such as `{query: "query: ", document: "passage: "}`."""
    max_length: Annotated[int, Field(ge=3)] | None = None
    """Tokens that texts are cut to; stages that train have their own `max_sequence_length`."""

    dimensions: (
        Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1), AfterValidator(each_once)] | None
    ) = None
    """Numbers of smaller vectors that are measured at every stage, such as `[256, 128]`: the first ones of the model's,
    normalised again. Their metrics are called `recall_at_1[128]`."""
    precisions: Annotated[tuple[Precision, ...], Field(min_length=1), AfterValidator(each_once)] | None = None
    """Precisions of smaller vectors that are measured at every stage: `int8`, a byte for each number, `binary`, a bit.
    Their metrics are called `recall_at_1[int8]` and, with `dimensions`, `recall_at_1[128,int8]` too. Files that ship
    give the vector in them as well, as the outputs `sentence_embedding_int8` and `sentence_embedding_binary`."""

    @property
    def settings(self) -> dict[str, Any]:
        """Those of the given keys that say how a model makes vectors."""
        return self.model_dump(mode="json", exclude_none=True, exclude={"dimensions", "precisions"})

    @property
    def smaller(self) -> tuple[SmallerForm, ...]:
        """The smaller forms of vectors that are measured."""
        return small_vectors.forms(self.dimensions or (), self.precisions or ())
