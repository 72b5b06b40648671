"""Families of models: names and layout of their parts, and the parts that their classes can hold. One file each.

To add one: a file with a `Family`, and a line in `_FAMILIES` below, plainer families first: of those that can hold a
student's parts, the first becomes its class.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from compressor.models.families import (
    albert,
    bert,
    compact_bert,
    deberta,
    distilbert,
    electra,
    modernbert,
    mpnet,
    roberta,
)
from compressor.models.families.base import Family

_FAMILIES = (
    bert.FAMILY,
    distilbert.FAMILY,
    albert.FAMILY,
    compact_bert.FAMILY,  # holds whatever there is: what follows holds only what came as it
    electra.FAMILY,
    roberta.ROBERTA,
    roberta.XLM_ROBERTA,
    roberta.CAMEMBERT,
    mpnet.FAMILY,
    deberta.FAMILY,
    modernbert.FAMILY,
)

FAMILIES: dict[str, Family] = {family.model_type: family for family in _FAMILIES}
"""Families by the config's `model_type`."""


def is_token_table(module: str) -> bool:
    """Whether a module of this name is the table of token embeddings, with or without what classes put in front."""
    tables = {family.outside["word"].partition(".")[2] for family in FAMILIES.values()}
    return any(f".{module}".endswith(f".{table}") for table in tables)


def longest(config: Any) -> int:
    """Tokens of the longest sequence that a model with a config of transformers takes."""
    family = FAMILIES[config.model_type]
    return int(config.max_position_embeddings) - family.first_position(config.to_dict())


@cache
def register() -> None:
    """Makes transformers' Auto classes know the families' own classes; once is enough."""
    for family in FAMILIES.values():
        family.register()
