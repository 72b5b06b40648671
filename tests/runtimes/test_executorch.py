"""ExecuTorch: .pte files give torch's logits, a row at a time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import MAX_POSITIONS, WriteRecipe, make_config, make_tokenizer, save_classifier
from problems import refused

from compressor.commands import main
from compressor.errors import StageError
from compressor.measure import parity
from compressor.measure.token_rows import edge_cases
from compressor.models import checkpoint, loading, quantized
from compressor.models.block_rounding import round_rows
from compressor.recipe.resolve import resolve
from compressor.runtimes import RUNTIMES, base, executorch

FAMILIES = ["bert", "distilbert", "albert", "compact_bert"]
VOCABULARY = 60
needs_executorch = pytest.mark.skipif(
    bool(executorch.RUNTIME.missing()), reason="needs the extra: pip install 'bert-compressor[executorch]'"
)


def save(family: str, folder: Path) -> Path:
    from compressor.models.surgery.share_layers import Sharing, share

    shares = family in ("albert", "compact_bert")
    layers = 2 if shares else 1  # an export takes a while
    plain = save_classifier(folder, "distilbert" if family == "distilbert" else "bert", num_hidden_layers=layers)
    if shares:
        what: Any = "all" if family == "albert" else "attention"
        model = share(loading.load_model(plain), Sharing(what, 1, 2), [0])
        loading.save(folder, model, loading.load_tokenizer(plain))
    assert checkpoint.Checkpoint(folder).family == family
    return folder


@pytest.fixture(scope="module", params=FAMILIES)
def exported(request, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = save(request.param, tmp_path_factory.mktemp(request.param))
    RUNTIMES["executorch"].export(folder, folder / RUNTIMES["executorch"].file)
    return folder


@needs_executorch
def test_edges_give_torchs_logits_in_batches_too(exported: Path):
    edges = edge_cases(MAX_POSITIONS, VOCABULARY, 0)
    assert set(edges.lengths) >= {1, MAX_POSITIONS}
    reference = RUNTIMES["torch"].session(exported, 1)
    session = RUNTIMES["executorch"].session(exported / "executorch/model.pte", 1)
    for batch in [*([index] for index in range(len(edges))), [0, 6, 3]]:
        inputs = edges.batch(batch)
        given, expected = session.predict(inputs), reference.predict(inputs)
        assert list(given) == ["logits"]
        assert given["logits"].shape == expected["logits"].shape
        assert np.abs(given["logits"] - expected["logits"]).max() < 1e-5


@needs_executorch
@pytest.mark.parametrize(
    ("head", "names"),
    [("ForQuestionAnswering", ["start_logits", "end_logits"]), ("ForPreTraining", ["logits", "sentence_order_logits"])],
)
def test_outputs_have_their_names(tmp_path: Path, head: str, names: list[str]):
    import transformers

    model = getattr(transformers, f"Bert{head}")(make_config(num_hidden_layers=1)).eval()
    loading.save(tmp_path, model, make_tokenizer())
    RUNTIMES["executorch"].export(tmp_path, tmp_path / "model.pte")
    inputs = edge_cases(MAX_POSITIONS, VOCABULARY, 0).batch([3, 4])
    given = RUNTIMES["executorch"].session(tmp_path / "model.pte", 1).predict(inputs)
    expected = RUNTIMES["torch"].session(tmp_path, 1).predict(inputs)
    assert list(given) == list(expected) == names
    assert all(np.abs(given[name] - expected[name]).max() < 1e-4 for name in names)


@needs_executorch
def test_masks_and_token_types_matter(exported: Path):
    inputs = edge_cases(MAX_POSITIONS, VOCABULARY, 0).batch([4])  # interior padding
    session = RUNTIMES["executorch"].session(exported / "executorch/model.pte", 1)
    given = session.predict(inputs)["logits"]
    takes_types = checkpoint.Checkpoint(exported).family != "distilbert"
    for name, matters in (("attention_mask", True), ("token_type_ids", takes_types)):
        other = session.predict({**inputs, name: np.ones_like(inputs[name])})["logits"]
        assert (np.abs(other - given).max() > 1e-3) == matters, name


@needs_executorch
def test_weights_are_stored_once(exported: Path):
    parameters = checkpoint.Checkpoint(exported).num_parameters
    assert (exported / "executorch/model.pte").stat().st_size < 4 * parameters + 150_000


@needs_executorch
@pytest.mark.parametrize("exported", FAMILIES[:1], indirect=True)
def test_bench_times_it(exported: Path):
    arguments = ["bench", str(exported / "executorch/model.pte"), "--sequence-length", "16", "--runs", "20", "--json"]
    result = CliRunner().invoke(main.main, arguments)
    assert result.exit_code == 0, result.output
    (timed,) = json.loads(result.stdout)
    assert timed["runtime"] == "executorch"


KEPT = "bert.encoder.layer.0.output.dense"
PRECISIONS = {"fp16": (False, 16, 0.01), "dynamic_int8": (True, 4, 0.1)}


@pytest.fixture(scope="module", params=PRECISIONS)
def small(request, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    integer, tables, limit = PRECISIONS[request.param]
    folder = save("bert", tmp_path_factory.mktemp(request.param))
    precision: Any = "int8" if integer else "fp16"
    entry = quantized.QuantizedFile(request.param, precision, "m.onnx", integer, tables, True, None, (KEPT,))
    quantized.write(folder, [entry])
    RUNTIMES["executorch"].export(folder, folder / RUNTIMES["executorch"].file)
    return folder, limit


@needs_executorch
def test_small_weights_answer_as_torch_and_what_stays_in_float_does(small: tuple[Path, float]):
    folder, limit = small
    edges = edge_cases(MAX_POSITIONS, VOCABULARY, 0)
    reference = RUNTIMES["torch"].session(folder, 1)
    session = RUNTIMES["executorch"].session(folder / "executorch/model.pte", 1)
    for index in range(len(edges)):
        inputs = edges.batch([index])
        given, expected = session.predict(inputs)["logits"], reference.predict(inputs)["logits"]
        assert given.dtype == np.float32
        assert 0 < np.abs(given - expected).max() < limit * max(1, np.abs(expected).max())
    weights = loading.load_model(folder).get_submodule(KEPT).weight.detach().numpy()
    stored = (folder / "executorch/model.pte").read_bytes()
    words = loading.load_model(folder).get_input_embeddings().weight.detach().numpy()
    scales = round_rows(words, 4, 64).scales.tobytes()
    assert (scales in stored) == (quantized.read(folder)[0].embeddings == 4)
    assert weights.tobytes() in stored or weights.T.copy().tobytes() in stored


@needs_executorch
@pytest.mark.parametrize("family", ["albert", "compact_bert"])
def test_integers_that_layers_share_are_products_of_each_and_stored_once(tmp_path: Path, family: str):
    folder = save(family, tmp_path)
    entry = quantized.QuantizedFile("dynamic_int8", "int8", "m.onnx", True, 8, True, None, ())
    quantized.write(folder, [entry])
    path = folder / RUNTIMES["executorch"].file
    RUNTIMES["executorch"].export(folder, path)
    reference, session = RUNTIMES["torch"].session(folder, 1), RUNTIMES["executorch"].session(path, 1)
    inputs = edge_cases(MAX_POSITIONS, VOCABULARY, 0).batch([6])
    given, expected = session.predict(inputs)["logits"], reference.predict(inputs)["logits"]
    assert 0 < np.abs(given - expected).max() < 0.1 * max(1, np.abs(expected).max())
    assert path.stat().st_size < checkpoint.Checkpoint(folder).num_parameters + 150_000


@needs_executorch
@pytest.mark.parametrize("width", [64, 34, 7])
def test_rows_of_4_bits_are_those_of_the_other_formats(width: int):
    import executorch.exir  # noqa: F401 -- the operator
    import torch

    from compressor.runtimes.executorch.modules import SmallTable

    table, ids = torch.nn.Embedding(20, width), torch.tensor([[3, 19, 3]])
    expected = round_rows(table.weight.detach().numpy(), 4, 64).floats()[ids]
    np.testing.assert_allclose(SmallTable(table)(ids).numpy(), expected, rtol=1e-3)


def test_tokens_of_zeros_stay_numbers_in_half_precision():
    """RoBERTa's and MPNet's padding has such vectors, and 1e-12 is 0 in half precision."""
    import torch

    from compressor.runtimes.executorch.modules import RowNorm

    norm = RowNorm(torch.nn.LayerNorm(8, eps=1e-12)).half()
    assert norm(torch.zeros(1, 2, 8, dtype=torch.float16)).abs().max() == 0


@needs_executorch
def test_a_row_that_is_too_long_is_refused(small: tuple[Path, float]):
    session = RUNTIMES["executorch"].session(small[0] / "executorch/model.pte", 1)
    ids = np.ones((1, MAX_POSITIONS + 1), np.int64)
    with pytest.raises(ValueError, match=f"{MAX_POSITIONS + 1} tokens"):
        session.predict({"input_ids": ids, "attention_mask": ids, "token_type_ids": 0 * ids})


def test_each_choice_of_a_stage_has_its_form_and_labels_are_compared(tmp_path: Path):
    def entry(integer: bool, precision: Any, tables: int) -> quantized.QuantizedFile:
        return quantized.QuantizedFile(
            "scheme", precision, "onnx/model_quantized.onnx", integer, tables, True, None, ()
        )

    assert executorch.precision(None) == ("float32", "float32")
    assert executorch.precision(entry(True, "int8", 8)) == ("int8", "int8")
    assert executorch.precision(entry(True, "int8", 32)) == ("int8", "float32")
    assert executorch.precision(entry(False, "fp16", 16)) == ("float16", "float16")
    for name in ("executorch/model.pte", "config.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}", encoding="utf-8")
    assert [(found.kind, str(found.reference)) for found in parity.present(tmp_path)] == [("float", "torch")]
    quantized.write(tmp_path, [entry(True, "int8", 8)])
    compared = [(found.kind, str(found.reference)) for found in parity.present(tmp_path)]
    assert compared == [("quantized", "torch"), ("padded", "executorch/model.pte")]


def test_weights_in_blocks_have_no_form_and_are_refused(write_recipe: WriteRecipe):
    def stages(*schemes: str) -> list[dict[str, Any]]:
        quantize = {"stage": "quantize", "scheme": list(schemes)}
        return [{"stage": "finetune"}, quantize, {"stage": "export", "targets": ["onnx", "executorch"]}]

    for schemes in (("weight_only_int4",), ("weight_only_int8", "fp16")):
        with refused("stages[2] (export).targets", "conflict"):
            resolve(write_recipe(stages=stages(*schemes)))
    if executorch.RUNTIME.missing():
        return
    for schemes in (("dynamic_int8", "weight_only_int4"), ("fp16",)):
        resolve(write_recipe(stages=stages(*schemes)))


def test_without_the_extra_validate_and_the_stage_say_so(
    write_recipe: WriteRecipe, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setattr(base, "installed", lambda name: False)
    recipe = write_recipe(stages=[{"stage": "finetune"}, {"stage": "export", "targets": ["onnx", "executorch"]}])
    result = CliRunner().invoke(main.main, ["validate", str(recipe)])
    assert result.exit_code == 2
    assert "stages[1] (export).targets" in result.output and "not installed" in result.output
    assert "pip install 'bert-compressor[executorch]'" in result.output
    for call in (lambda: executorch.export(tmp_path, tmp_path / "m.pte"), lambda: executorch.Session(tmp_path, 1)):
        with pytest.raises(StageError, match=r"bert-compressor\[executorch\]"):
            call()
