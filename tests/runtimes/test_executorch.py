"""ExecuTorch: .pte files give torch's logits, a row at a time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import MAX_POSITIONS, WriteRecipe, save_classifier

from compressor.commands import main
from compressor.errors import StageError
from compressor.measure.token_rows import edge_cases
from compressor.models import checkpoint, loading
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
