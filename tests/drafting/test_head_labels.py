"""How labels of rows are found in a trained head, and what is assumed for it."""

from __future__ import annotations

import pytest

from compressor.drafting.labels import fit

MOODS = ("NEGATIVE", "POSITIVE")
TYPES = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")


@pytest.mark.parametrize(
    ("labels", "head", "renamed"),
    [
        (["NEGATIVE", "POSITIVE"], MOODS, {}),
        (["negative", "Positive "], MOODS, {}),
        (["0", "1"], ("LABEL_0", "LABEL_1"), {}),
        (["1", "0"], MOODS, {"0": "NEGATIVE", "1": "POSITIVE"}),
        (["0.0", "1.0"], MOODS, {"0.0": "NEGATIVE", "1.0": "POSITIVE"}),
        (["neg", "pos"], MOODS, {"neg": "NEGATIVE", "pos": "POSITIVE"}),
        (["not_spam", "spam"], ("Not Spam", "Spam"), {"not_spam": "Not Spam", "spam": "Spam"}),
        (["O", "B-person", "I-person"], TYPES, {"B-person": "B-PER", "I-person": "I-PER"}),
        (["joy"], ("joy", "anger"), {}),
    ],
)
def test_labels_that_a_head_has(labels: list[str], head: tuple[str, ...], renamed: dict[str, str]):
    found = fit(labels, head)
    assert found.fits and found.renamed == renamed
    assert bool(found.assumed) == bool(renamed)


@pytest.mark.parametrize(
    ("labels", "head"),
    [
        (["negative", "positive"], ("LABEL_0", "LABEL_1")),  # whose order is not known
        (["0", "1", "2"], MOODS),
        (["joy", "anger"], MOODS),
        (["po", "ne"], MOODS),
        (["positive", "positively", "negative"], MOODS),
        (["pos"], ("positive", "possible")),
        (["B-PER", "S-PER"], TYPES),
        (["1.5", "0"], MOODS),
    ],
)
def test_labels_that_it_has_not(labels: list[str], head: tuple[str, ...]):
    found = fit(labels, head)
    assert not found.fits and not found.renamed and found.assumed
