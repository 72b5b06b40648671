"""Packing: nothing is lost, texts stay on their side, and what cannot be packed is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import make_tokenizer
from problems import kinds, refused

from compressor.data.corpus import packing
from compressor.data.corpus import stream as corpus
from compressor.data.spec import CorpusSpec
from compressor.errors import RecipeError

VOCABULARY = make_tokenizer()
CLS, SEP, PAD = VOCABULARY.cls_token_id, VOCABULARY.sep_token_id, VOCABULARY.pad_token_id


def spec(**values: Any) -> CorpusSpec:
    return CorpusSpec(source="x", **values)


def packed(folder: Path, texts: list[str], length: int, fraction: float, **values: Any) -> tuple[dict[str, int], Any]:
    seen: list[int] = []
    counts = packing.pack(texts, spec(**values), make_tokenizer(), length, fraction, folder, seen.append)
    assert seen == sorted(seen) and seen[-1] == counts["bytes"] == sum(len(text.encode()) for text in texts)
    return counts, {side: np.load(folder / f"{side}.npy") for side in ("train", "validation")}


def stream(texts: list[str]) -> list[int]:
    """What the tokenizer makes of texts, with a separator between two."""
    tokens: list[int] = []
    for text in texts:
        tokens += [SEP] * bool(tokens) + make_tokenizer()(text, add_special_tokens=False)["input_ids"]
    return tokens


def texts_by_side(fraction: float, count: int = 300) -> tuple[list[str], list[str]]:
    texts = [f"the film {chr(97 + i % 26)}{chr(97 + i // 26)} was long" for i in range(count)]
    held = [text for text in texts if corpus.held_out(text, fraction)]
    return [text for text in texts if text not in held], held


def test_sequences_worked_out_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    good, plot, the, film, was, bad = VOCABULARY.convert_tokens_to_ids("good plot the film was bad".split())
    monkeypatch.setattr(packing, "held_out", lambda text, fraction: text == "bad")
    counts, sides = packed(tmp_path, ["the film was good/plot", "bad", "the film was long"], 5, 0.5, separator="/")
    # The stream is: the film was good [SEP] plot [SEP] the film was long; three fit between [CLS] and [SEP].
    assert sides["train"].tolist() == [
        [CLS, the, film, was, SEP],
        [CLS, good, SEP, plot, SEP],
        [CLS, SEP, the, film, SEP],
    ]
    assert sides["validation"].tolist() == [[CLS, bad, SEP, PAD, PAD]], "all there is, so padded"
    assert counts == {"texts": 3, "bytes": 42, "tokens": 10, "train": 3, "validation": 1}


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_nothing_is_lost_but_the_tail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int):
    monkeypatch.setattr(packing, "BATCH_PIECES", batch)
    train, held = texts_by_side(0.2)
    texts = sorted([*train, *held])
    counts, sides = packed(tmp_path, texts, 24, 0.2)
    for name, side in (("train", train), ("validation", held)):
        rows = sides[name]
        assert rows.shape == (counts[name], 24) and rows.dtype == np.uint16
        assert (rows[:, 0] == CLS).all() and (rows[:, -1] == SEP).all()
        expected = stream(sorted(side))
        assert len(expected) - rows[:, 1:-1].size < 22, "less than a sequence is dropped"
        assert rows[:, 1:-1].ravel().tolist() == expected[: rows[:, 1:-1].size]
    assert counts["texts"] == len(texts)
    assert counts["tokens"] == sum(len(ids) for ids in make_tokenizer()(texts, add_special_tokens=False)["input_ids"])


def test_held_out_texts_are_not_in_train(tmp_path: Path):
    train, held = texts_by_side(0.2)
    assert 30 < len(held) < 90
    _, sides = packed(tmp_path, [*train, *held, *held, *train], 24, 0.2)
    found = {}
    for name, rows in sides.items():
        tokens = rows[:, 1:-1].ravel()
        pieces = np.split(tokens, np.flatnonzero(tokens == SEP))
        found[name] = {tuple(piece[piece != SEP].tolist()) for piece in pieces[1:-1]}
    assert found["train"] and found["validation"] and not found["train"] & found["validation"]


def test_a_paragraph_without_tokens_leaves_no_trace(tmp_path: Path):
    train, held = texts_by_side(0.5, 20)
    (tmp_path / "plain").mkdir()
    (tmp_path / "odd").mkdir()
    invisible = [f"\u0000{chr(0xAD)}\n{text}" for text in ("\u200b", "\u200d\u200d")]
    assert make_tokenizer()(invisible, add_special_tokens=False)["input_ids"] == [[], []]
    _, plain = packed(tmp_path / "plain", [*train, *held], 12, 0.5)
    _, odd = packed(tmp_path / "odd", [*invisible, *train, *invisible, *held], 12, 0.5)
    assert all((plain[side] == odd[side]).all() for side in plain)


def test_large_vocabularies_take_four_bytes(tmp_path: Path):
    tokenizer = make_tokenizer()
    tokenizer.add_tokens([f"token{i}" for i in range(1 << 16)])
    train, held = texts_by_side(0.5, 20)
    packing.pack([*train, "token65535 " * 20, *held], spec(), tokenizer, 12, 0.5, tmp_path, lambda _: None)
    sides = [np.load(tmp_path / name) for name in (packing.TRAIN, packing.VALIDATION)]
    assert {side.dtype for side in sides} == {np.dtype(np.int32)}
    assert max(side.max() for side in sides) == len(tokenizer) - 1 > 1 << 16


def test_no_text_or_an_empty_side_is_refused(tmp_path: Path):
    train, held = texts_by_side(0.5, 20)
    with refused("data.corpus", "missing"):
        packed(tmp_path, [], 12, 0.5)
    with pytest.raises(RecipeError, match="validation of 1 text;") as error:
        packed(tmp_path, train[:1], 12, 0.5)
    assert kinds(error.value) == {"data.corpus": "missing"}
    with pytest.raises(RecipeError, match="train of 2 texts") as error:
        packed(tmp_path, held[:2], 12, 0.5)
    assert kinds(error.value) == {"data.corpus": "missing"}


def test_a_tokenizer_without_bert_s_special_tokens_is_refused(tmp_path: Path):
    tokenizer = make_tokenizer()
    tokenizer.cls_token = None
    with refused("model", "unsupported"):
        packing.pack(["a"], spec(), tokenizer, 12, 0.5, tmp_path, lambda _: None)


def test_long_paragraphs_are_not_warned_of(tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: Any):
    train, held = texts_by_side(0.5, 20)
    packed(tmp_path, [*train, *held, "the film " * 500], 12, 0.5)
    assert "longer than" not in caplog.text + capfd.readouterr().err


def test_texts_that_are_neither_learned_nor_judged_choose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    plot, bad, good = VOCABULARY.convert_tokens_to_ids(["plot", "bad", "good"])
    apart = {"held out": "bad", packing.SELECTION: "plot"}
    monkeypatch.setattr(packing, "held_out", lambda text, fraction, salt="held out": text == apart[salt])
    given = (["good", "bad", "plot"], spec(), make_tokenizer(), 3, 0.5, tmp_path, lambda _: None)
    counts = packing.pack(*given, selects=True)
    rows = {name: np.load(tmp_path / f"{name}.npy").tolist() for name in ("train", "validation", "selection")}
    assert rows == {name: [[CLS, token, SEP]] for name, token in zip(rows, (good, bad, plot), strict=True)}
    assert {name: counts[name] for name in rows} == dict.fromkeys(rows, 1)
