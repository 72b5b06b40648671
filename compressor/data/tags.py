"""Tags of entities: `O`, or a prefix of IOB, IOBES or BILOU, a dash and a type, such as `B-person`."""

from __future__ import annotations

import re

OUTSIDE = "O"

TAG_HINT = (
    "allowed: O, or a prefix and a type, as in B-person: B- and I- of IOB, also E- and S- of IOBES, or L- and U- of "
    "BILOU; write the M- of BMES as I-"
)
"""What a tag may be."""

_TAG = re.compile(r"O|[BIESLU]-.+")


def is_tag(text: str) -> bool:
    """Whether it is `O`, or a prefix of IOB, IOBES or BILOU, a dash and a type."""
    return _TAG.fullmatch(text) is not None
