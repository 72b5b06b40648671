"""Tags of entities: `O`, or a prefix of IOB, IOBES or BILOU, a dash and a type, such as `B-person`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

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


Place = tuple[int, int]
"""Index of a sentence, and of a tag in it."""

_ALONE, _OPEN = "an entity of one token without S- or U-", "an entity of several tokens that ends without E- or L-"
_EXCLUDED = (
    *(("E", "L"), ("E", "U"), ("S", "L"), ("S", "U")),  # IOBES beside BILOU
    *(("S", _ALONE), ("U", _ALONE)),
    *(("E", _OPEN), ("L", _OPEN)),
)


def disagreement(sentences: Iterable[Sequence[str]]) -> tuple[Place, Place] | None:
    """The first two tags that are of different schemes, in their order; None if all can be of one scheme.

    What marks an entity's end (E-, L-) or an entity of one token (S-, U-) marks each of them, or the same tag means two
    things: a model cannot learn that, and entities are counted wrong. IOB1 and IOB2 have no such marks; BIOS has no
    ends, BIEO no single tokens, and IOE1, which has no B-, marks an end only where the next entity follows.

    Args:
        sentences: The tags of each, as `is_tag` allows them.
    """
    first: dict[str, Place] = {}
    for row, tags in enumerate(sentences):
        for index, tag in enumerate(tags):
            first.setdefault(tag[0], (row, index))
            if (_ALONE not in first or _OPEN not in first) and (sign := _unmarked(tags, index)):
                first.setdefault(sign, (row, index))
    pairs = [
        (min(first[one], first[other]), max(first[one], first[other]))
        for one, other in _EXCLUDED
        if one in first and other in first and (other != _OPEN or "B" in first)
    ]
    return min(pairs, key=lambda pair: pair[1], default=None)


def _unmarked(tags: Sequence[str], index: int) -> str | None:
    """How a B- or I- ends an entity that other schemes end with a mark of their own; None if it does not end one."""
    prefix, kind = tags[index][0], tags[index][1:]
    if prefix not in "BI" or (index + 1 < len(tags) and tags[index + 1] in (f"I{kind}", f"E{kind}", f"L{kind}")):
        return None
    goes_on = prefix == "I" and index > 0 and tags[index - 1] in (f"B{kind}", f"I{kind}")
    return _OPEN if goes_on else _ALONE
