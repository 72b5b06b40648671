"""`Spec`: the strict, frozen base of every part of a recipe. Attribute docstrings become the schema's help."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, model_validator
from pydantic_core import CoreSchema, core_schema

Scalar = bool | int | float | str

Value = TypeVar("Value")

_LARGEST = 2**32


class Spec(BaseModel):
    """Base of every part of a recipe: strict, frozen, no unknown keys."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    @model_validator(mode="after")
    def _sizes(self) -> Self:
        """Refuses whole numbers that no library counts to; found here, not after the first stage."""
        for name, value in self.__dict__.items():
            if isinstance(value, int) and abs(value) > _LARGEST:
                raise ValueError(f"{name} is more than {_LARGEST}")
        return self


def each_once(values: tuple[Value, ...]) -> tuple[Value, ...]:
    """Validates that no value of a list occurs twice."""
    if twice := [value for value in values if values.count(value) > 1]:
        raise ValueError(f"has {twice[0]} twice; drop one of them")
    return values


class OneOf:
    """Annotates a text that has to be one of the names in a table: `Annotated[str, OneOf(TASKS)]`.

    Args:
        names: The allowed values, in the order of the schema's enum.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.names = list(names)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.literal_schema(self.names)
