"""Core ML: a saved package, read back and evaluated in half precision, gives torch's answers."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import MAX_POSITIONS
from kinds import KINDS, loaded, make_model

from compressor.errors import StageError
from compressor.measure.token_rows import edge_cases
from compressor.models import outputs
from compressor.runtimes import tracing

VOCABULARY = 60
needs_coremltools = pytest.mark.skipif(
    importlib.util.find_spec("coremltools") is None, reason="needs the extra: pip install 'bert-compressor[coreml]'"
)


def write(model, path: Path, weights: str) -> Path:
    from compressor.runtimes.coreml import conversion

    with loaded(model):
        conversion.write(path.parent, path, weights)
    return path


def size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


@needs_coremltools
@pytest.mark.parametrize(("family", "head"), KINDS)
def test_edges_of_all_lengths_give_torchs_logits(family: str, head: str, tmp_path: Path):
    from compressor.runtimes.coreml.session import Evaluator

    model = make_model(family, head)
    session = Evaluator(write(model, tmp_path / "model.mlpackage", "float16"), 1)
    edges = edge_cases(MAX_POSITIONS, VOCABULARY, 0)
    names = tracing.Traceable(model).input_names
    for index in range(len(edges)):
        inputs = edges.batch([index])
        with torch.no_grad():
            expected = outputs.outputs_by_name(model, model(**{name: torch.from_numpy(inputs[name]) for name in names}))
        given = session.predict(inputs)
        assert list(given) == list(expected)
        limit = 0.03 * max(1.0, float(expected["logits"].abs().max()))
        assert np.abs(given["logits"] - expected["logits"].numpy()).max() < limit  # NaN is not below


@needs_coremltools
def test_small_weights_are_read_back_from_the_package(tmp_path: Path):
    from compressor.runtimes.coreml.session import Evaluator

    model, inputs = make_model("bert"), edge_cases(MAX_POSITIONS, VOCABULARY, 0).batch([4])
    packages = {name: write(model, tmp_path / f"{name}.mlpackage", name) for name in ("float16", "int8", "palette")}
    logits = {name: Evaluator(path, 1).predict(inputs)["logits"] for name, path in packages.items()}
    weights = {name: size(path / "Data/com.apple.CoreML/weights") for name, path in packages.items()}
    assert max(weights["palette"], weights["int8"]) < weights["float16"]
    for name in ("int8", "palette"):
        difference = np.abs(logits[name] - logits["float16"]).max()
        assert 0 < difference < 0.5 * np.abs(logits["float16"]).max() + 0.5, name


@needs_coremltools
def test_a_mask_that_half_precision_cannot_hold_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from compressor.runtimes.coreml import conversion
    from compressor.runtimes.coreml.session import Evaluator

    monkeypatch.setattr(conversion, "_MASKED", float(torch.finfo(torch.float32).min))
    session = Evaluator(write(make_model("bert"), tmp_path / "model.mlpackage", "float16"), 1)
    given = session.predict(edge_cases(MAX_POSITIONS, VOCABULARY, 0).batch([4]))
    assert np.isnan(given["logits"]).any()


def test_an_operator_that_is_not_known_is_named():
    from compressor.runtimes.coreml import operators

    with pytest.raises(StageError, match=r"coreml.*operator einsum"):
        operators.evaluate("einsum", {})


def test_floats_are_rounded_to_half_precision_after_every_operator():
    from compressor.runtimes.coreml import operators

    tiny = torch.tensor([1.0], dtype=torch.float16)
    (total,) = operators.evaluate("add", {"x": tiny * 2048, "y": tiny})
    assert total.dtype == torch.float16 and total.item() == 2048
    (product,) = operators.evaluate("mul", {"x": tiny * 300, "y": tiny * 300})
    assert torch.isinf(product).all()
