"""What is said of measurements on a machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from compressor.files import SealedFolder
from compressor.host.machine import saturates
from compressor.pipeline import measuring
from compressor.pipeline.measuring import Measured
from compressor.stages.export import ExportSpec
from compressor.stages.quantize import QuantizeSpec


@pytest.mark.parametrize(
    ("machine", "features", "expected"),
    [
        ("x86_64", "avx2", True),
        ("x86_64", "avx2 avx512f", True),
        ("x86_64", "avx2 avx512f avx512_vnni", False),
        ("AMD64", "avx2 avx_vnni", False),
        ("aarch64", "asimddp", False),
    ],
)
def test_it_is_said_where_products_of_8_bits_saturate(machine: str, features: str, expected: bool):
    there = {"machine": machine, "cpu_features": features}
    assert saturates(there) is expected
    found = {"processors": "x86", "operators": {"MatMulInteger": 1}, "largest_weight": 127}
    said = [
        bool(measuring.notes(spec, Measured({}, {}, False, None, products, SealedFolder(Path(), {})), there))
        for spec in (QuantizeSpec(stage="quantize"), ExportSpec(stage="export", targets=("onnx",)))
        for products in (found, {}, None)
    ]
    assert said == [expected, False, False, False, False, False], "of the stage that quantizes, by what its file holds"
