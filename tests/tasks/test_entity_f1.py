"""Entities of tags: by hand, and as seqeval has them for any tags."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval import metrics
from seqeval.metrics.sequence_labeling import get_entities

from compressor.data.tags import is_tag
from compressor.tasks.scoring import entity_f1 as scoring
from compressor.tasks.scoring.entity_f1 import entities

PREFIXES, TYPES = "BIES", ("per", "loc", "creative-work")
USUAL = ("O", *(f"{prefix}-{kind}" for prefix in PREFIXES for kind in TYPES))
ODD = ("B", "I", "E", "S", "B-", "I-", "PER", "Pie", "B_per", "Other", "-", "I--per")
"""Tags without a type, without a prefix, without either."""


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("", []),
        ("O O", []),
        ("B-x I-x O B-y", [("x", 0, 2), ("y", 3, 4)]),
        ("B-x B-x", [("x", 0, 1), ("x", 1, 2)]),
        ("I-x I-x O I-x", [("x", 0, 2), ("x", 3, 4)]),
        ("I-x B-x I-x", [("x", 0, 1), ("x", 1, 3)]),
        ("B-x I-y", [("x", 0, 1), ("y", 1, 2)]),
        ("S-x B-x E-x I-x", [("x", 0, 1), ("x", 1, 3), ("x", 3, 4)]),
        ("U-x B-x I-x L-x L-x", [("x", 0, 1), ("x", 1, 4), ("x", 4, 5)]),
        ("E-x E-x", [("x", 0, 1), ("x", 1, 2)]),
        ("B-a-b I-a-c", [("a-b", 0, 1), ("a-c", 1, 2)]),
        ("B I O I", [("_", 0, 2), ("_", 3, 4)]),
    ],
)
def test_entities_by_hand(tags: str, expected: list[tuple[str, int, int]]):
    assert entities(tags.split()) == expected


def test_counts_and_scores_by_hand():
    right = "B-x I-x O B-y O S-x".split()
    predicted = "B-x I-x O B-x O B-x".split()
    # x at 0 to 1 and at 5 are right, x at 3 is of the wrong type.
    assert scoring.counts(predicted, right) == (2, 3, 3)
    assert scoring.counts(["O"] * 6, right) == (0, 0, 3)
    assert scoring.counts([], []) == (0, 0, 0)
    sums = np.array([[2, 4, 3], [0, 0, 3], [0, 2, 0], [0, 0, 0]], dtype=np.float64)
    np.testing.assert_allclose(scoring.precision(sums), [0.5, 0, 0, 0])
    np.testing.assert_allclose(scoring.recall(sums), [2 / 3, 0, 0, 0])
    np.testing.assert_allclose(scoring.f1(sums), [4 / 7, 0, 0, 0])
    assert scoring.f1(sums[0]).shape == () and scoring.f1(sums[None]).shape == (1, 4)


@pytest.mark.parametrize("tag", ["O", "B-x", "I-x", "E-x", "S-x", "L-x", "U-x", "B-a-b", "B-a b"])
def test_tags(tag: str):
    assert is_tag(tag)


@pytest.mark.parametrize("tag", ["", "o", "B", "B-", "b-x", "PER", "x-B", "B_x", "O-x", "B-x\n"])
def test_what_is_no_tag(tag: str):
    assert not is_tag(tag)


def sentences(tags: tuple[str, ...]) -> st.SearchStrategy[list[list[tuple[str, str]]]]:
    """Sentences of pairs of a predicted and a right tag, half of which agree."""
    drawn = st.sampled_from(tags)
    pair = st.one_of(drawn.map(lambda tag: (tag, tag)), st.tuples(drawn, drawn))
    return st.lists(st.lists(pair, max_size=12), min_size=1, max_size=5)


@pytest.mark.filterwarnings("ignore:.*seems not to be NE tag")
@settings(deadline=None)
@given(st.lists(st.sampled_from(USUAL + ODD), max_size=12))
def test_entities_are_seqevals(tags: list[str]):
    assert [(kind, first, after - 1) for kind, first, after in entities(tags)] == get_entities(tags)


# Of what is no tag, seqeval reads some otherwise behind another sentence: it strings them together with an O between.
@settings(deadline=None)
@given(st.one_of(sentences(USUAL[:4]), sentences(USUAL)))
def test_scores_are_seqevals(drawn: list[list[tuple[str, str]]]):
    predicted, right = ([[pair[side] for pair in sentence] for sentence in drawn] for side in (0, 1))
    counted = [scoring.counts(*pair) for pair in zip(predicted, right, strict=True)]
    sums = np.array(counted, dtype=np.float64).sum(axis=0)
    for ours, theirs in (
        (scoring.f1, metrics.f1_score),
        (scoring.precision, metrics.precision_score),
        (scoring.recall, metrics.recall_score),
    ):
        assert float(ours(sums)) == pytest.approx(theirs(right, predicted, zero_division=0), abs=1e-12)


@settings(deadline=None)
@given(st.lists(st.sampled_from(["O", "B-x", "I-x", "L-x", "U-x", "B-y", "I-y", "L-y", "U-y"])))
def test_bilou_is_iobes_by_other_names(tags: list[str]):
    iobes = [tag.replace("L-", "E-").replace("U-", "S-") for tag in tags]
    assert entities(tags) == entities(iobes)
