"""Pairs of segments: worked out by hand, of one text each, balanced, and the same every time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import NEUTRAL, make_tokenizer
from problems import refused

from compressor.data.corpus import packing, sentence_pairs
from compressor.data.corpus.seen import SEEN_FILE
from compressor.data.spec import CorpusSpec

TOKENIZER = make_tokenizer()
CLS, SEP, PAD = TOKENIZER.cls_token_id, TOKENIZER.sep_token_id, TOKENIZER.pad_token_id
A, B, C, D, E, F, STOP = (*TOKENIZER.convert_tokens_to_ids(list("abcdef")), TOKENIZER.unk_token_id)
"""The tokenizer has no full stop: [UNK] stands for it."""


def near_half(count: int, total: int) -> bool:
    """Whether a binomial count is within four standard deviations of a half."""
    return abs(count - total / 2) < 2 * total**0.5


def write(folder: Path, pieces: list[tuple[bool, list[int]]], length: int) -> tuple[Any, list[int], list[int]]:
    """Rows without padding, labels, and where the second segments begin."""
    path = folder / "x.npy"
    with sentence_pairs.Pairs(path, TOKENIZER, length) as packer:
        packer.add(pieces)
    rows = np.load(path)
    assert rows.shape[1:] == (length,) and packer.rows == len(rows)
    order, second = np.load(sentence_pairs.order_file(path)), np.load(sentence_pairs.second_file(path))
    assert order.dtype == np.uint8 and order.shape == second.shape == (len(rows),)
    return [[int(token) for token in row if token != PAD] for row in rows], order.tolist(), second.tolist()


def drawn(monkeypatch: pytest.MonkeyPatch, *numbers: int) -> None:
    """Has the hash of each pair come out as these numbers, one after the other."""
    given = iter(numbers)

    class Digest:
        def __init__(self, data: bytes) -> None:
            pass

        def digest(self) -> bytes:
            return next(given).to_bytes(8, "big") + bytes(24)

    monkeypatch.setattr(sentence_pairs.hashlib, "sha256", Digest)


def texts(count: int, seed: int, words: tuple[int, int] = (2, 9)) -> list[str]:
    """Texts of one to nine sentences, each of its own words, so that a token tells its text."""
    random = np.random.default_rng(seed)
    return [
        " ".join(
            f"{chr(97 + i % 26)} {' '.join(random.choice(NEUTRAL, int(random.integers(*words))))}."
            for _ in range(int(random.integers(1, 10)))
        )
        for i in range(count)
    ]


@pytest.mark.parametrize(
    ("paragraph", "expected"),
    [
        ("One. Two!  Three?\tFour… five", ["One.", "Two!", "Three?", "Four…", "five"]),
        ("3.5 stars, e.g.this one", ["3.5 stars, e.g.this one"]),
        ("What?! No... Yes.", ["What?!", "No...", "Yes."]),
        ("By Mr. Lee", ["By Mr.", "Lee"]),
        (" no end ", ["no end"]),
        ("  ", []),
    ],
)
def test_sentences(paragraph: str, expected: list[str]):
    assert sentence_pairs.sentences(paragraph) == expected


def test_pairs_worked_out_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Room for six tokens: a sentence of up to three stays whole."""
    text = [[A, STOP], [B, B, STOP], [C, STOP], [D], [E, E, STOP]]
    pieces = [(index == 0, ids) for index, ids in enumerate(text)]
    # 1. A B fit, and C does not. One boundary; an even number is: in order.
    # 2. C D E fit, and there the text ends. No room is left to fill from before. 2 boundaries; 3 is: swapped, and
    #    3 // 2 % 2 = 1, so the boundary is the second.
    drawn(monkeypatch, 0, 3)
    rows, order, second = write(tmp_path, pieces, 9)
    assert rows == [[CLS, A, STOP, SEP, B, B, STOP, SEP], [CLS, E, E, STOP, SEP, C, STOP, D, SEP]]
    assert (order, second) == ([0, 1], [4, 5])


def test_room_is_filled_from_before_within_the_text_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    first = [[A, STOP], [B, STOP], [C, STOP], [D, STOP]]
    other = [[E, E, STOP], [F, STOP]]
    pieces = [(index == 0, ids) for text in (first, other) for index, ids in enumerate(text)]
    # A B C are full. Of the text D alone is left: B and C come again. E and F leave room, but D is of another text.
    drawn(monkeypatch, 2, 0, 1)
    rows, order, second = write(tmp_path, pieces, 9)
    assert rows == [
        [CLS, A, STOP, B, STOP, SEP, C, STOP, SEP],
        [CLS, B, STOP, SEP, C, STOP, D, STOP, SEP],
        [CLS, F, STOP, SEP, E, E, STOP, SEP],
    ]
    assert (order, second) == ([0, 0, 1], [6, 4, 4])


def test_long_sentences_are_cut_and_short_texts_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    drawn(monkeypatch, 0, 0, 0)
    long = [A, B, C, D, E, F, A]
    rows, _, _ = write(tmp_path, [(True, [A, STOP]), (True, []), (False, long), (True, []), (True, [B])], 9)
    # In parts of at most three: A B, C D and E F A. One sentence of up to three is no pair.
    assert rows == [[CLS, A, B, SEP, C, D, SEP], [CLS, C, D, SEP, E, F, A, SEP]]


def test_the_shortest_sequences(tmp_path: Path):
    rows, order, second = write(tmp_path, [(True, [A, B]), (False, [C])], sentence_pairs.LEAST_LENGTH)
    assert second == [3, 3]
    assert rows == [
        [CLS, *((y, SEP, x) if swapped else (x, SEP, y)), SEP]
        for (x, y), swapped in zip([(A, B), (B, C)], order, strict=True)
    ]


def test_another_boundary_of_the_same_texts(tmp_path: Path):
    """[A STOP][B][C D][E] has ends behind 2, 3 and 5 tokens; [A][B STOP] behind 1 alone."""
    pieces = [(True, [A, STOP]), (False, [B]), (False, [C, D]), (False, [E]), (True, [A]), (False, [B, STOP])]
    _, order, second = write(tmp_path, pieces, 12)
    ends = np.load(sentence_pairs.ends_file(tmp_path / "x.npy"))
    assert [np.flatnonzero(np.unpackbits(bits)).tolist() for bits in ends] == [[2, 3, 5], [1]]
    tokens, padded = np.load(tmp_path / "x.npy").astype(np.int64), np.array(second)
    cuts = set()
    for draw in range(30):
        cut, begins = sentence_pairs.redrawn(tokens, padded, np.array(order), ends, PAD, draw)
        again, _ = sentence_pairs.redrawn(tokens, padded, np.array(order), ends, PAD, draw)
        assert np.array_equal(cut, again)
        for row, start, swapped in zip(cut, begins, order, strict=True):
            used = int((row != PAD).sum())
            parts = [row[1 : start - 1].tolist(), row[start : used - 1].tolist()]
            assert row[0] == CLS and row[start - 1] == row[used - 1] == SEP
            first, last = parts[::-1] if swapped else parts
            assert first + last in ([A, STOP, B, C, D, E], [A, B, STOP])
            cuts.add((len(first + last), len(first)))
    assert cuts == {(6, 2), (6, 3), (6, 5), (3, 1)}, "every end of a sentence is drawn at some time"


def test_token_types():
    tokens = np.array([[CLS, A, SEP, B, SEP, PAD], [CLS, A, B, C, SEP, SEP]])
    assert sentence_pairs.token_types(tokens, np.array([3, 5]), PAD).tolist() == [
        [0, 0, 0, 1, 1, 0],
        [0, 0, 0, 0, 0, 1],
    ]


def pack(
    folder: Path, given: list[str], length: int, tell: Callable[[int], None] = lambda done: None
) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    spec = CorpusSpec(source="x", sentence_order=True)
    counts = packing.pack(given, spec, make_tokenizer(), length, 0.2, folder, tell)
    sides = {file.stem: np.load(file) for file in folder.glob("*.npy") if file.name != SEEN_FILE}
    assert set(sides) == {
        f"{side}{kind}" for side in ("train", "validation") for kind in ("", "_order", "_second", "_ends")
    }
    assert [counts[side] for side in ("train", "validation")] == [len(sides[side]) for side in ("train", "validation")]
    return sides


def test_pairs_are_consecutive_parts_of_one_text(tmp_path: Path):
    given = texts(400, seed=1)
    found = pack(tmp_path, given, 32)
    whole = [" ".join(map(str, TOKENIZER(text, add_special_tokens=False)["input_ids"])) + " " for text in given]
    for side in ("train", "validation"):
        rows, order, second = (found[f"{side}{kind}"] for kind in ("", "_order", "_second"))
        assert (rows[:, 0] == CLS).all() and ((rows == SEP).sum(axis=1) == 2).all()
        assert (rows[np.arange(len(rows)), second - 1] == SEP).all(), "a second segment begins after a [SEP]"
        sources = []
        for row, swapped, begins in zip(rows, order, second, strict=True):
            end = int(np.flatnonzero(row == SEP)[1])
            assert (row[end + 1 :] == PAD).all() and not (row[: end + 1] == PAD).any()
            segments = row[1 : begins - 1], row[begins:end]
            assert all(len(segment) for segment in segments)
            text = " ".join(map(str, np.concatenate(segments[::-1] if swapped else segments))) + " "
            sources.append([index for index, ids in enumerate(whole) if text in ids])
            assert sources[-1], "put in order, the segments are a stretch of one text"
        held = {given[index] for entry in sources for index in entry if len(entry) == 1}
        assert held and all(packing.held_out(text, 0.2) == (side == "validation") for text in held)
    assert near_half(int(found["train_order"].sum()), len(found["train_order"]))


def test_every_sentence_of_a_text_of_two_is_there(tmp_path: Path):
    given = [text for text in texts(100, seed=2) if text.count(".") > 1]
    found = pack(tmp_path, given, 32)
    packed = " ".join(
        " ".join(map(str, row))
        for side in ("train", "validation")
        for row in np.where(found[side] == SEP, PAD, found[side])
    )
    for text in given:
        for sentence in sentence_pairs.sentences(text):
            assert " ".join(map(str, TOKENIZER(sentence, add_special_tokens=False)["input_ids"])) in packed


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_the_same_texts_give_the_same_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int):
    given = texts(150, seed=3)
    expected = pack(tmp_path / "a", given, 24)
    monkeypatch.setattr(packing, "BATCH_PIECES", batch)
    again = pack(tmp_path / "b", given, 24)
    assert all((again[name] == expected[name]).all() for name in expected)
    # What becomes of a text does not depend on the others.
    turned = pack(tmp_path / "c", given[::-1], 24)
    for kind in ("", "_order", "_second"):
        rows = [
            sorted(map(tuple, found[f"train{kind}"].reshape(len(found["train"]), -1))) for found in (expected, turned)
        ]
        assert rows[0] == rows[1]


def test_texts_of_one_sentence_are_refused(tmp_path: Path):
    with refused("data.corpus", "missing"):
        pack(tmp_path, ["the film was good."] * 50, 24)
