"""Tags of entities: `O`, or a prefix of IOB, IOBES or BILOU, a dash and a type, such as `B-person`."""

from __future__ import annotations

import re

OUTSIDE = "O"

_TAG = re.compile(r"O|[BIESLU]-.+")


def is_tag(text: str) -> bool:
    """Whether it is `O`, or a prefix of IOB, IOBES or BILOU, a dash and a type."""
    return _TAG.fullmatch(text) is not None
