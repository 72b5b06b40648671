"""Pruning bit by bit: the same widths in the end, each step from the one before, and not again after a kill."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from conftest import make_tokenizer, sentences
from datasets import Dataset
from rich.console import Console

from compressor.data.spec import DataSpec
from compressor.errors import StageError
from compressor.models.checkpoint import Checkpoint
from compressor.pipeline.entry import key_of
from compressor.progress import Progress
from compressor.stages import prune
from compressor.stages.prune import PruneSpec
from compressor.tasks import text_classification
from compressor.training import distillation
from compressor.training.context import Context
from compressor.training.train_stage import build_once

SHORT = {"stage": "prune", "batch_size": 16, "learning_rate": 1e-3, "max_sequence_length": 24}


def context_of(teacher: Path, work: Path, progress: Progress) -> Context:
    """What a stage is given by a run, without the run."""
    texts, labels = zip(*sentences(96, seed=7), strict=True)
    rows = Dataset.from_dict({"text": list(texts), "label": list(labels)})

    def memo(maker: str, inputs: Mapping[str, Any], build: Callable[[Path], Mapping[str, Any]]) -> Path:
        folder = work.parent / key_of({**inputs, "maker": maker})
        if not folder.is_dir():
            folder.mkdir()
            build(folder)
        return folder

    return Context(
        recipe="tiny",
        stage="prune",
        key="0" * 24,
        task="text-classification",
        pairs=False,
        teacher=teacher,
        student=None,
        teacher_layers=(),
        labels=("negative", "positive"),
        seed=0,
        tokenized=lambda _, __, length: text_classification.encode(
            rows, make_tokenizer(), length, {"negative": 0, "positive": 1}, DataSpec()
        ),
        packed=pytest.fail,
        texts=None,
        trial=None,
        memo=memo,
        work=work,
        progress=progress,
    )


def run(teacher: Path, folder: Path, **keys: Any) -> dict[str, Any]:
    with Progress(Console(file=io.StringIO())) as progress:
        context = context_of(teacher, folder / "work", progress)
        return prune.run(teacher, folder / "student", PruneSpec(**SHORT, **keys), context)


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_what_is_left_is_as_many_as_in_one_step(classifier: Path, tmp_path: Path, scope):
    facts = run(classifier, tmp_path, heads=0.5, ffn=0.5, layers=(3,), scope=scope, steps=3, max_steps=8)
    assert [cut["steps"] for cut in facts["cuts"]] == [2, 2, 4]
    totals = [(sum(cut["heads"]), sum(cut["neurons"])) for cut in facts["cuts"]]
    assert totals[-1] == (6, 96) and totals == sorted(totals, reverse=True) and len(set(totals)) == 3
    assert (facts["layers"], facts["heads"]) == ([0, 1, 2], facts["cuts"][-1]["heads"])
    assert "goal" not in facts
    student = Checkpoint(tmp_path / "student")
    assert (list(student.heads), list(student.neurons)) == (facts["heads"], facts["neurons"])
    if scope == "layer":
        assert totals == [(9, 144), (6, 120), (6, 96)]


def test_a_step_that_is_done_is_not_done_again(classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    keys = {"heads": 0.5, "ffn": 0.5, "steps": 3, "max_steps": 8}
    calls: list[Path] = []
    real = distillation.prepare

    def killed(start: Path, *arguments: Any, **keywords: Any) -> Any:
        calls.append(start)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(start, *arguments, **keywords)

    monkeypatch.setattr(distillation, "prepare", killed)
    with pytest.raises(KeyboardInterrupt):
        run(classifier, tmp_path, **keys)
    first = tmp_path / "work/step_1"
    record = tmp_path / "work/step_1.json"
    before = record.stat().st_mtime_ns
    facts = run(classifier, tmp_path, **keys)
    assert calls[1:] == [first, first, tmp_path / "work/step_2"], "it goes on from the first"
    assert record.stat().st_mtime_ns == before
    assert json.loads(record.read_text())["facts"]["heads"] == facts["cuts"][0]["heads"]
    assert facts["heads"] == [2] * 4


@pytest.mark.parametrize("place", ["part/weights", "part.json"])
def test_a_part_that_was_damaged_after_a_kill_is_built_again(tmp_path: Path, place: str):
    def build(folder: Path) -> dict[str, Any]:
        folder.mkdir()
        (folder / "weights").write_bytes(b"12345678")
        return {"made": True}

    def found_again(folder: Path) -> dict[str, Any]:
        raise AssertionError("it is there")

    part = tmp_path / "part"
    assert build_once(part, build) == build_once(part, found_again) == {"made": True}
    damaged = bytearray((tmp_path / place).read_bytes())
    damaged[3:] = bytes(len(damaged) - 3)
    (tmp_path / place).write_bytes(damaged)
    assert build_once(part, build) == {"made": True}
    assert (part / "weights").read_bytes() == b"12345678"


def test_slopes_need_a_head(encoder: Path, tmp_path: Path):
    with pytest.raises(StageError, match="taylor needs a head that is trained, and the checkpoint has none"):
        run(encoder, tmp_path, ffn=0.5, epochs=0.0)
    assert run(encoder, tmp_path, ffn=0.5, epochs=0.0, scoring="magnitude")["neurons"] == [32] * 4


def test_one_step_leaves_the_facts_flat(classifier: Path, tmp_path: Path):
    facts = run(classifier, tmp_path, ffn=0.5, max_steps=2, scoring="random")
    assert "cuts" not in facts and "goal" not in facts and facts["steps"] == 2
