"""`Spec`: the strict, frozen base of every part of a recipe. Attribute docstrings become the schema's help."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

Scalar = bool | int | float | str


class Spec(BaseModel):
    """Base of every part of a recipe: strict, frozen, no unknown keys."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )
