"""Scores and decoding of spans: worked out by hand, and held against trying every span."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compressor.tasks.scoring import spans
from compressor.tasks.scoring.spans import Answer, Spans, Window


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The Denver  Broncos!", "denver broncos"),
        ("an apple, a pear and the plum", "apple pear and plum"),
        ("theory of Anna", "theory of anna"),
        ("U.S.A.", "usa"),
        ("$3.50 – 4", "350 – 4"),
        ("a.b", "ab"),
        ("A-Team the", "ateam"),
        ("l'été", "lété"),
        ("the a an", ""),
        ("\u00a0x\t\ny ", "x y"),
    ],
)
def test_normalized(text: str, expected: str):
    assert spans.normalized(text) == expected


@pytest.mark.parametrize(
    ("prediction", "answers", "exact", "f1"),
    [
        ("the Broncos.", ["Denver Broncos", "Broncos"], 1, 1),
        # One of one and one of two words: precision 1, recall 1/2.
        ("Broncos", ["Denver Broncos"], 0, 2 / 3),
        # Two of three and two of four words: precision 2/3, recall 1/2.
        ("in Santa Clara", ["Levi's, Santa Clara, California"], 0, 4 / 7),
        # The best of the answers, not of the words of all.
        ("in Santa Clara", ["Clara", "Santa Clara"], 0, 4 / 5),
        # A word counts as often as both have it: 2 of 3 and 2 of 2.
        ("New New York", ["new New"], 0, 4 / 5),
        ("west", ["east"], 0, 0),
        # No right answer: to be left empty, and nothing else will do.
        ("", [], 1, 1),
        ("the", [], 1, 1),
        ("west", [], 0, 0),
        ("", ["west"], 0, 0),
        # What nothing is left of is no answer beside others, and the empty one alone.
        ("the", ["The", "west"], 0, 0),
        ("west", ["The", "west"], 1, 1),
        ("a", ["The"], 1, 1),
        ("west", ["The"], 0, 0),
    ],
)
def test_scores(prediction: str, answers: list[str], exact: float, f1: float):
    assert spans.exact(prediction, answers) == exact
    assert spans.f1(prediction, answers) == pytest.approx(f1)


def best(start: list[float], end: list[float], n: int, longest: int, allowed: list[bool] | None = None) -> Spans:
    mask = np.ones(len(start), dtype=bool) if allowed is None else np.array(allowed)
    return spans.best_spans(np.array(start, np.float32), np.array(end, np.float32), mask, n, longest)


def listed(found: Spans) -> list[tuple[int, int, float]]:
    return [(int(start), int(end), float(score)) for start, end, score in zip(*found, strict=True)]


def test_best_spans_by_hand():
    # Start at 1 and end at 3 is best, and too long for two tokens; start at 3 and end at 1 is no span.
    start, end = [0, 4, 0, 3], [0, 2, 1, 8]
    assert listed(best(start, end, 3, 4)) == [(1, 3, 12), (3, 3, 11), (0, 3, 8)]
    assert listed(best(start, end, 3, 2)) == [(3, 3, 11), (2, 3, 8), (1, 1, 6)]
    assert listed(best(start, end, 2, 4, [True, True, True, False])) == [(1, 1, 6), (1, 2, 5)]
    assert listed(best(start, end, 3, 4, [False, True, False, True])) == [(1, 3, 12), (3, 3, 11), (1, 1, 6)]


def test_fewer_spans_than_wanted():
    nothing = (-1, -1, -np.inf)
    assert listed(best([1, 2], [3, 4], 5, 9)) == [(1, 1, 6), (0, 1, 5), (0, 0, 4), nothing, nothing]
    assert listed(best([1, 2], [3, 4], 2, 9, [False, True])) == [(1, 1, 6), nothing]
    assert listed(best([1, 2], [3, 4], 2, 9, [False, False])) == [nothing, nothing]
    assert listed(best([1, np.nan], [3, np.nan], 2, 9)) == [(0, 0, 4), nothing]


def test_equal_spans_come_by_start_then_by_end():
    assert [pair[:2] for pair in listed(best([0] * 50, [0] * 50, 4, 3))] == [(0, 0), (0, 1), (0, 2), (1, 1)]


@settings(deadline=None)
@given(st.data())
def test_best_spans_are_the_best_of_all(data: st.DataObject):
    length = data.draw(st.integers(1, 14))
    logits = st.lists(st.integers(-3, 3), min_size=length, max_size=length)  # few values: many are equal
    start, end = data.draw(logits), data.draw(logits)
    allowed = data.draw(st.lists(st.booleans(), min_size=length, max_size=length))
    n, longest = data.draw(st.integers(1, 30)), data.draw(st.integers(1, 20))
    every = [
        (-(start[i] + end[j]), i, j)
        for i in range(length)
        for j in range(i, min(i + longest, length))
        if allowed[i] and allowed[j]
    ]
    expected = [(i, j, -score) for score, i, j in sorted(every)[:n]]
    expected += [(-1, -1, -np.inf)] * (n - len(expected))
    assert listed(best(start, end, n, longest, allowed)) == expected


CONTEXT = "Jo met Zoë in Rome"
OFFSETS = np.array([(0, 0), (0, 2), (3, 6), (7, 10), (11, 13), (14, 18), (0, 0)])
"""[CLS], five words, [SEP]."""


def window(*found: tuple[int, int, float], null: float = 0.0, offsets: np.ndarray = OFFSETS) -> Window:
    starts, ends, scores = zip(*found, strict=True) if found else ((), (), ())
    spans_found = Spans(np.array(starts, np.int64), np.array(ends, np.int64), np.array(scores, np.float64))
    return Window(spans_found, offsets, null)


NONE = (-1, -1, -np.inf)


def test_answers_of_several_windows_by_hand():
    first = window((1, 1, 2.0), (3, 3, 1.0), NONE)
    # The second window begins at the third word: token 1 of it is Zoë.
    second = window((1, 1, 3.0), (1, 3, 0.0), NONE, offsets=OFFSETS[[0, 3, 4, 5, 6]])
    found = spans.decode(CONTEXT, [first, second], 5)
    assert [(text, score) for text, score, _ in found] == [("Zoë", 3.0), ("Jo", 2.0), ("Zoë in Rome", 0.0)]
    weights = np.exp([3.0, 2.0, 0.0])
    np.testing.assert_allclose([probability for _, _, probability in found], weights / weights.sum())
    assert [answer.text for answer in spans.decode(CONTEXT, [first, second], 2)] == ["Zoë", "Jo"]


def test_a_text_is_listed_once_and_never_empty():
    twice = "go, go  go"
    offsets = np.array([(0, 0), (0, 2), (2, 3), (4, 6), (6, 8), (8, 10)])
    found = spans.decode(twice, [window((3, 3, 5.0), (4, 4, 4.5), (0, 0, 4.0), (1, 1, 3.0), offsets=offsets)], 5)
    assert [(text, score) for text, score, _ in found] == [("go", 5.0)]
    assert found[0].probability == 1.0


def test_no_answer_is_given_if_it_is_better_by_more_than_the_threshold():
    windows = [window((1, 1, 2.0), (3, 3, 1.0), null=9.0), window((5, 5, 0.5), null=2.5)]

    def texts(threshold: float) -> list[str]:
        return [answer.text for answer in spans.decode(CONTEXT, windows, 5, unanswerable=True, threshold=threshold)]

    # The least null score, 2.5, is 0.5, 1.5 and 2.0 above the answers'.
    assert texts(0.0) == ["", "Jo", "Zoë", "Rome"]
    assert texts(0.5) == ["Jo", "", "Zoë", "Rome"], "by more than the threshold"
    assert texts(1.75) == ["Jo", "Zoë", "", "Rome"]
    assert texts(9.0) == ["Jo", "Zoë", "Rome", ""]
    assert texts(-9.0) == ["", "Jo", "Zoë", "Rome"]
    found = spans.decode(CONTEXT, windows, 5, unanswerable=True, threshold=9.0)
    weights = np.exp([2.0, 1.0, 0.5, 2.5])
    np.testing.assert_allclose([answer.probability for answer in found], weights / weights.sum())
    assert found[-1].score == 2.5, "the threshold is not part of the score"


def test_there_is_always_an_answer():
    assert spans.decode(CONTEXT, [], 5) == [Answer("", -np.inf, 1.0)]
    assert spans.decode(CONTEXT, [window(NONE)], 5) == [Answer("", -np.inf, 1.0)]
    assert spans.decode(CONTEXT, [window(NONE, null=3.0)], 5, unanswerable=True) == [Answer("", 3.0, 1.0)]
    huge = spans.decode(CONTEXT, [window((1, 1, 2000.0), (3, 3, -2000.0))], 5)
    assert [answer.probability for answer in huge] == [1.0, 0.0]


def test_from_logits_to_an_answer():
    start, end = np.full(7, -5, np.float32), np.full(7, -5, np.float32)
    start[3], end[5], start[0], end[0] = 4, 4, 1, 1
    allowed = np.array([False, True, True, True, True, True, False])
    found = Window(spans.best_spans(start, end, allowed, 20, 30), OFFSETS, float(start[0] + end[0]))
    best = spans.decode(CONTEXT, [found], 20, unanswerable=True)
    assert best[0].text == "Zoë in Rome" and best[0].probability > 0.99
    assert best[1].text == "" and len(best) == 16, "fifteen spans of five words, and none"
