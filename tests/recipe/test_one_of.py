"""`OneOf`: names from a table, in pydantic's terms."""

from __future__ import annotations

from typing import Annotated

import pytest
from pydantic import ValidationError

from compressor.spec import OneOf, Spec


class _Settings(Spec):
    color: Annotated[str, OneOf({"red": 1, "green": 2})]


def test_allowed_names_come_from_the_table() -> None:
    assert _Settings(color="green").color == "green"
    assert _Settings.model_json_schema()["properties"]["color"]["enum"] == ["red", "green"]


def test_other_name_is_a_literal_error_that_lists_the_names() -> None:
    with pytest.raises(ValidationError) as caught:
        _Settings(color="blue")
    [error] = caught.value.errors()
    assert (error["type"], error["loc"]) == ("literal_error", ("color",))
    assert "'red' or 'green'" in str(error["ctx"])
