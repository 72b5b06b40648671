"""What the rewrites of a graph find is counted, held against what the family has, and reported."""

from __future__ import annotations

from pathlib import Path

import pytest
import transformers
from conftest import make_config, save_classifier
from exports import run_export
from kinds import KINDS, LAYERS, loaded, make_model

from compressor.errors import StageError
from compressor.runtimes import onnxruntime, tracing
from compressor.runtimes.onnx import attention_biases, flatten, rewrite, sharing

HEADS = ("TokenClassification", "QuestionAnswering")


@pytest.mark.parametrize(("family", "head"), [*KINDS, *(("bert", head) for head in HEADS), ("albert", HEADS[0])])
def test_every_layer_of_every_family_is_found(family: str, head: str, tmp_path: Path):
    model = make_model(family, head)
    with loaded(model):
        found = onnxruntime.export(tmp_path, tmp_path / "model.onnx")
    assert found["leading_sizes"] == 4 * LAYERS
    assert found["key_biases"] == found["value_biases"] == LAYERS
    assert 4 * LAYERS <= found["joined_biases"] <= 4 * LAYERS + 2, "and those of a mapping and a transform"
    assert found["tied_tables"] == (head == "MaskedLM")
    assert found["first_token_products"] == (6 if head == "SequenceClassification" else 0)
    assert found["float_matrices"] == sum(parameter.ndim == 2 for parameter in model.parameters())


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu", "silu", "gelu_10", "quick_gelu", "mish", "relu2"])
def test_no_activation_is_refused(activation: str, tmp_path: Path):
    model = transformers.BertForSequenceClassification(make_config(hidden_act=activation)).eval()
    with loaded(model):
        found = onnxruntime.export(tmp_path, tmp_path / "model.onnx")
    assert found["key_biases"] == LAYERS and found["first_token_products"] > 0


def test_a_single_layer_is_enough(tmp_path: Path):
    for kind in ("BertForSequenceClassification", "BertForTokenClassification"):
        model = getattr(transformers, kind)(make_config(num_hidden_layers=1)).eval()
        with loaded(model):
            assert onnxruntime.export(tmp_path, tmp_path / "model.onnx")["value_biases"] == 1


@pytest.mark.parametrize(
    ("module", "name", "nothing", "missed"),
    [
        (rewrite, "keep_leading_sizes", 0, "leading_sizes: 0, 16 expected"),
        (rewrite, "compute_first_token_only", 0, "first_token_products: 0, 6 expected"),
        (attention_biases, "fold_biases", (LAYERS, LAYERS - 1), "value_biases: 3, 4 expected"),
        (flatten, "flatten", 0, "joined_biases: 0, 16 expected"),
    ],
)
def test_a_rewrite_that_finds_less_than_there_is_stops_the_export(
    module: object, name: str, nothing: object, missed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, name, lambda model: nothing)
    with loaded(make_model("bert")), pytest.raises(StageError) as caught:
        onnxruntime.export(tmp_path, tmp_path / "model.onnx")
    assert missed in str(caught.value)


def test_weights_that_are_stored_twice_stop_the_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sharing, "share", lambda model: 1)
    with loaded(make_model("bert", "MaskedLM")), pytest.raises(StageError, match="float_matrices"):
        onnxruntime.export(tmp_path, tmp_path / "model.onnx")


def test_a_trace_of_another_attention_stops_the_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As one of a transformers without eager attention would look."""

    def load(source: Path, attention: str) -> tracing.Traceable:
        model = make_model("bert")
        model.set_attn_implementation("sdpa")
        return tracing.Traceable(model).eval()

    monkeypatch.setattr(tracing, "load", load)
    with pytest.raises(StageError, match="key_biases: 0, 4 expected"):
        onnxruntime.export(tmp_path, tmp_path / "model.onnx")


def test_the_stage_reports_what_was_found(tmp_path: Path):
    (tmp_path / "out").mkdir()
    found = run_export(save_classifier(tmp_path / "model", "distilbert"), tmp_path / "out", targets=["onnx"])
    assert found["rewrites"]["value_biases"] == LAYERS
