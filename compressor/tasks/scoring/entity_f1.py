"""Entities in sequences of tags, and their F1: a model's entity counts when its type and both of its ends are right.

Source: Tjong Kim Sang and De Meulder 2003, "Introduction to the CoNLL-2003 Shared Task", section 2.2. Tags that do not
fit together are read as conlleval and seqeval (in its default mode) read them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from compressor.data.tags import OUTSIDE
from compressor.gates.estimate import Floats

_AS_IOBES = {"L": "E", "U": "S"}

Entity = tuple[str, int, int]
"""Type, index of the first token, and index after the last token."""


def entities(tags: Sequence[str]) -> list[Entity]:
    """The entities of a sentence, in order.

    `B` and `S` begin one, and so does `I` or `E` after `O`, after an end, and after another type; `E` and `S` end one,
    and so does what begins one and `O`. `L` and `U` count as `E` and `S`. A prefix without a type has the type `_`.

    Args:
        tags: One for each token.

    Returns:
        Type, first token, and the token after the last. seqeval's `get_entities` has the last token there.
    """
    found = []
    before, kind_before, first = OUTSIDE, "", 0
    for index, tag in enumerate([*tags, OUTSIDE]):
        prefix, kind = _parts(tag)
        changed = kind != kind_before
        if _ends(before, prefix) or (changed and before != OUTSIDE):
            found.append((kind_before, first, index))
        if _begins(before, prefix) or (changed and prefix != OUTSIDE):
            first = index
        before, kind_before = prefix, kind
    return found


def counts(predicted: Sequence[str], right: Sequence[str]) -> tuple[int, int, int]:
    """The counts that a sentence adds to the sums of `f1`.

    Args:
        predicted: The model's tags, one for each token.
        right: The right tags.

    Returns:
        Entities that the model has right, entities that it has, and right entities.
    """
    assert len(predicted) == len(right), f"{len(predicted)} tags for {len(right)} tokens"
    answers, references = set(entities(predicted)), set(entities(right))
    return len(answers & references), len(answers), len(references)


def counts_by_type(predicted: Sequence[str], right: Sequence[str]) -> dict[str, tuple[int, int, int]]:
    """The same for each type of entities: those that the model has right, right ones, and those that it has."""
    answers, references = set(entities(predicted)), set(entities(right))
    sets = [Counter(kind for kind, _, _ in some) for some in (answers & references, references, answers)]
    return {kind: (sets[0][kind], sets[1][kind], sets[2][kind]) for kind in {*sets[1], *sets[2]}}


def types(tags: Sequence[str]) -> tuple[str, ...]:
    """The types of entities that tags can name, by alphabet."""
    return tuple(sorted({_parts(tag)[1] for tag in tags if tag != OUTSIDE}))


def precision(sums: Floats) -> Floats:
    """Share of the model's entities that are right, 0 if it has none.

    Args:
        sums: Of `counts`, over sentences. `(…, 3)`.

    Returns:
        `(…)`.
    """
    return _share(sums[..., 0], sums[..., 1])


def recall(sums: Floats) -> Floats:
    """Share of the right entities that the model has, 0 if there are none; as `precision`."""
    return _share(sums[..., 0], sums[..., 2])


def f1(sums: Floats) -> Floats:
    """Harmonic mean of precision and recall over all types (micro average), 0 if both are 0; as `precision`."""
    return _share(2 * sums[..., 0], sums[..., 1] + sums[..., 2])


def _parts(tag: str) -> tuple[str, str]:
    """Prefix and type. A tag without a prefix is read as seqeval reads it: `PER` is a `P` of the type `ER`."""
    prefix, rest = tag[0], tag[1:]
    if not rest or rest[0] == "-":
        prefix = _AS_IOBES.get(prefix, prefix)
    return prefix, rest.split("-", 1)[-1] or "_"


def _ends(before: str, prefix: str) -> bool:
    """Whether an entity ends between two tokens of one type."""
    return before in ("E", "S") or (before in ("B", "I") and prefix in ("B", "S", OUTSIDE))


def _begins(before: str, prefix: str) -> bool:
    """Whether an entity begins at the second of two tokens of one type."""
    return prefix in ("B", "S") or (prefix in ("I", "E") and before in ("E", "S", OUTSIDE))


def _share(part: Floats, whole: Floats) -> Floats:
    return np.asarray(np.divide(part, whole, out=np.zeros_like(part), where=whole > 0))
