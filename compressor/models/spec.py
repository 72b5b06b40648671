"""A recipe's `embedding`: how a sentence becomes a vector."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from compressor.models.sentence_embedding import Pooling
from compressor.spec import Spec


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

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that are given."""
        return self.model_dump(mode="json", exclude_none=True)
