"""Answers that are spans of a text: SQuAD's scores of an answer, and the best spans of start and end logits.

Source: Rajpurkar et al. 2016, "SQuAD: 100,000+ Questions for Machine Comprehension of Text", section 6.1; for
unanswerable questions Rajpurkar et al. 2018, "Know What You Don't Know", and the evaluation script that came with it.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Logits = NDArray[np.float32]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


class Spans(NamedTuple):
    """Spans of tokens, best first.

    Attributes:
        starts: First token; -1 where there is no span. `(n,)`
        ends: Last token; -1 where there is no span. `(n,)`
        scores: Start logit plus end logit; -inf where there is no span. `(n,)`
    """

    starts: Ints
    ends: Ints
    scores: Floats


class Window(NamedTuple):
    """A model's output on a part of a text.

    Attributes:
        spans: The best spans of the part's tokens.
        offsets: The characters of the whole text that each token is made of: first, and after the last.
            `(sequence, 2)`
        null: Score of there being no answer in this part: the start and the end logit of [CLS].
    """

    spans: Spans
    offsets: Ints
    null: float


class Answer(NamedTuple):
    """A possible answer.

    Attributes:
        text: A part of the text; empty for there being no answer.
        score: Start logit plus end logit.
        probability: Among the possible answers that it is listed with.
    """

    text: str
    score: float
    probability: float


def normalized(text: str) -> str:
    """The text as it is compared: lower case, without ASCII punctuation and the articles a, an, the, single spaces."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact(prediction: str, answers: Sequence[str]) -> float:
    """Exact match: 1 if the prediction is one of the right answers, once both are normalized, else 0.

    Args:
        prediction: The model's answer; empty for none.
        answers: Right answers, none for an unanswerable question, whose right answer is then the empty one.
    """
    return float(normalized(prediction) in _references(answers))


def f1(prediction: str, answers: Sequence[str]) -> float:
    """F1 of the normalized words, of the right answer with which it is highest; arguments as `exact`."""
    words = normalized(prediction).split()
    return max(_overlap(words, answer.split()) for answer in _references(answers))


def best_spans(start: Logits, end: Logits, allowed: NDArray[np.bool_], n: int, longest: int) -> Spans:
    """The n spans of one window with the highest start plus end logit. None is left out for a low start or end.

    Args:
        start: Start logits. `(sequence,)`
        end: End logits. `(sequence,)`
        allowed: Tokens that a span may start and end with: those of the text. `(sequence,)`
        n: Spans that are wanted.
        longest: Tokens of the longest span.

    Returns:
        Best first; of equal ones the one that starts first, then the shortest. NaN does not count as a score.
    """
    assert n > 0 and longest > 0, (n, longest)
    spans = Spans(np.full(n, -1), np.full(n, -1), np.full(n, -np.inf))
    places = np.flatnonzero(allowed)
    if not len(places):
        return spans
    first, after = int(places[0]), int(places[-1]) + 1  # the question and the padding are a good part of most windows
    width = min(longest, after - first)
    inside = allowed[first:after]
    starts = np.where(inside, start[first:after].astype(np.float64), -np.inf)
    ends = np.full(after - first + width - 1, -np.inf)
    ends[: after - first] = np.where(inside, end[first:after], -np.inf)
    # Row i, column j: the span from i to i + j. A flat index then grows with the start, then with the end.
    table = np.fmax(starts[:, None] + np.lib.stride_tricks.sliding_window_view(ends, width), -np.inf)
    # The best spans of n starts are n spans: one that is worse than all of them is not among the n best. Few are left
    # to sort. A partition of all would be slow, and free to choose among equals.
    highest = np.sort(table.max(axis=1))
    least = highest[-n] if len(highest) >= n else -np.inf
    scores = table.ravel()
    good = np.flatnonzero((scores >= least) & (scores > -np.inf))
    chosen = good[np.argsort(-scores[good], kind="stable")][:n]
    spans.starts[: len(chosen)] = first + chosen // width
    spans.ends[: len(chosen)] = first + chosen // width + chosen % width
    spans.scores[: len(chosen)] = scores[chosen]
    return spans


def decode(
    context: str, windows: Sequence[Window], n: int, unanswerable: bool = False, threshold: float = 0.0
) -> list[Answer]:
    """The n best answers to a question, out of every window of its text.

    Args:
        context: The whole text.
        windows: The model's output on each part of it; parts may overlap.
        n: Answers that are wanted; no answer at all is one more.
        unanswerable: Whether there may be no answer. Its score is the least of the windows' null scores: a window
            without the answer in it says little of the others.
        threshold: By how much the score of no answer has to be above the best answer's to be chosen.

    Returns:
        The first is the answer to give. The rest follow by score, where the score of no answer counts less the
        threshold. Each text is listed once, with its best score. At least one, which is empty if there is no span.
    """
    found = sorted(
        (-float(score), int(window.offsets[start, 0]), int(window.offsets[end, 1]))
        for window in windows
        for start, end, score in zip(*window.spans, strict=True)
        if start >= 0
    )
    best: dict[str, float] = {}
    for negative, begin, after in found:
        text = context[begin:after].strip()  # SentencePiece's tokens hold the space in front of them
        if text and text not in best:
            best[text] = -negative
        if len(best) == n:
            break
    ranked = list(best.items())
    if unanswerable and windows:
        null = min(window.null for window in windows)
        ranked.insert(sum(null - score <= threshold for _, score in ranked), ("", null))
    if not ranked:
        return [Answer("", -np.inf, 1.0)]
    weights = np.exp(np.array([score for _, score in ranked]) - max(score for _, score in ranked))
    shares = weights / weights.sum()
    return [Answer(text, score, float(share)) for (text, score), share in zip(ranked, shares, strict=True)]


def _references(answers: Sequence[str]) -> list[str]:
    """Right answers, normalized. Empty ones are left out, unless all are empty."""
    return [text for text in map(normalized, answers) if text] or [""]


def _overlap(prediction: Sequence[str], answer: Sequence[str]) -> float:
    """F1 of two bags of words; if one is empty, whether both are."""
    if not prediction or not answer:
        return float(prediction == answer)
    same = (Counter(prediction) & Counter(answer)).total()
    return 2 * same / (len(prediction) + len(answer))
