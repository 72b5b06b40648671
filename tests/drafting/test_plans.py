"""Targets, plans that meet them, and the estimates that they are chosen by."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from kinds import export_anew
from problems import kinds
from tiny_models import make_albert, make_model

from compressor.drafting import plans, target
from compressor.drafting.plans import Limits
from compressor.drafting.sizes import Geometry
from compressor.drafting.target import Budget
from compressor.errors import RecipeError
from compressor.models.checkpoint import Checkpoint
from compressor.quantization import SCHEMES, Settings

# all-MiniLM-L6: 22.7 M parameters; what ships of it was measured.
MINILM = Geometry(words=30522, embedding=384, hidden=384, layers=6, blocks=6, neurons=1536, others=346_370, tied=False)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("size=10MB,latency=5ms", Budget(10_000_000, 5.0)),
        (" latency = 0.5s ", Budget(None, 500.0)),
        ("size=1.5KiB", Budget(1536, None)),
        ("size=900kb,latency=250us", Budget(900_000, 0.25)),
    ],
)
def test_targets_are_read(text: str, found: Budget):
    assert target.parse(text) == found


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("size=10", "type"), ("size=ten MB", "type"), ("size=-1MB", "type"), ("latency=1MB", "type"), ("", "unknown"),
        ("speed=2x", "unknown"), ("size=1MB,size=2MB", "conflict"), ("size=0MB", "value"), ("latency=0ms", "value"),
        ("size", "unknown"), ("size=9999GB", "value"), ("size=1MB,", "unknown"),
    ],
)  # fmt: skip
def test_other_targets_are_refused(text: str, kind: str):
    with pytest.raises(RecipeError) as caught:
        target.parse(text)
    assert kinds(caught.value) == {"--target": kind}


def test_estimates_are_those_of_measured_files():
    """Sizes of onnx/model_quantized.onnx, with tables of 8 and of 4 bits, of models with these widths."""
    assert MINILM.parameters == pytest.approx(22_713_986, rel=1e-3)
    assert MINILM.int8_bytes(False) == pytest.approx(22_921_355, rel=0.01)
    assert MINILM.int8_bytes(True) == pytest.approx(17_244_630, rel=0.01)


@pytest.mark.parametrize("kind", ["BertForSequenceClassification", "BertForMaskedLM", "Roberta", "Electra", "Albert"])
@pytest.mark.parametrize("int4", [False, True])
def test_estimates_are_close_to_files(kind: str, int4: bool, tmp_path: Path):
    masked = kind.endswith("MaskedLM")
    name = kind if "For" in kind else f"{kind}ForSequenceClassification"
    sizes = {"hidden_size": 128, "intermediate_size": 512, "vocab_size": 3000}
    model = make_albert(name) if kind == "Albert" else make_model(name, **sizes)
    model.save_pretrained(tmp_path / "model")
    export_anew(model.eval(), tmp_path)
    SCHEMES["dynamic_int8"].write(
        tmp_path / "model.onnx", tmp_path / "int8.onnx", Settings(embeddings="int4" if int4 else True), None
    )
    estimate = Geometry.of(Checkpoint(tmp_path / "model"), None, masked).int8_bytes(int4)
    assert (tmp_path / "int8.onnx").stat().st_size == pytest.approx(estimate, rel=0.05 if kind == "Albert" else 0.02)


SIZES = (40, 23, 18, 14, 12, 10, 8, 7, 6, 5, 4, 3, 2.8)


def test_smaller_targets_take_more():
    limits = Limits(MINILM, 2000, 64)
    chosen = [next(plans.ladder(limits, Budget(size_bytes=int(size * 1e6)))) for size in SIZES]
    for size, plan in zip(SIZES, chosen, strict=True):
        assert plan.size_bytes(MINILM) <= size * 1e6
    assert [plan.layers for plan in chosen[:5]] == [6, 6, 6, 3, 3]
    assert [plan.int4_table for plan in chosen[:5]] == [False, True, True, True, True]
    assert all(plan.retention(6) <= before.retention(6) for before, plan in pairwise(chosen))
    assert next(plans.ladder(limits, Budget(size_bytes=1_000_000)), None) is None
    assert plans.smallest(limits, fast=False)[0].size_bytes(MINILM) > 1_000_000


def test_without_a_target_half_of_the_layers_stay_unless_they_are_few():
    assert next(plans.ladder(Limits(MINILM, None, 64), Budget())).layers == 3
    few = Limits(Geometry(1000, 64, 64, 2, 2, 256, 0, False), None, 64)
    assert next(plans.ladder(few, Budget())).layers == 2


def test_a_latency_takes_layers_in_proportion():
    limits = Limits(MINILM, None, 128)
    whole = MINILM.latency_ms(128)
    for layers in (6, 4, 2):
        plan = next(plans.ladder(limits, Budget(latency_ms=whole * layers / 6 * 1.001)))
        assert plan.layers == layers
    assert next(plans.ladder(limits, Budget(latency_ms=whole / 12))).layers == 1, "cores differ"
    assert next(plans.ladder(limits, Budget(latency_ms=whole / 100)), None) is None


def test_tokens_stay_where_the_tokenizer_or_the_head_needs_them():
    for limits in (Limits(MINILM, None, 64), Limits(Geometry(**{**vars(MINILM), "tied": True}), 2000, 64)):
        for size in SIZES:
            for plan in plans.ladder(limits, Budget(size_bytes=int(size * 1e6))):
                assert plan.keep is None
                assert not (plan.int4_table and limits.geometry.tied), "that table has 8 bits, whatever is asked"
