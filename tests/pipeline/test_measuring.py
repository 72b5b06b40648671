"""What is said of measurements on a machine."""

from __future__ import annotations

import pytest

from compressor import host
from compressor.pipeline import measuring
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
def test_it_is_said_where_products_of_8_bits_saturate(
    monkeypatch: pytest.MonkeyPatch, machine: str, features: str, expected: bool
):
    monkeypatch.setattr(host, "host", lambda: {"machine": machine, "cpu_features": features})
    assert host.saturates() is expected
    said = {
        keys: bool(measuring.notes(QuantizeSpec(stage="quantize", **dict(keys))))
        for keys in ((), (("scheme", "static_int8"),), (("scheme", "fp16"),), (("reduce_range", True),))
    }
    assert list(said.values()) == [expected, expected, False, False]
