"""Smaller forms of vectors, by hand and by what they keep."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compressor.models import small_vectors
from compressor.models.small_vectors import SmallerForm, forms, int8_scale, named


def test_every_form_has_a_name_that_names_it():
    found = forms([256, 128], ["int8", "binary"])
    assert [form.name for form in found] == [
        *("int8", "binary"),
        *("256", "256,int8", "256,binary"),
        *("128", "128,int8", "128,binary"),
    ]
    assert [named(form.name) for form in found] == list(found)
    assert forms([], []) == ()


@pytest.mark.parametrize(
    "name", ["", ",", "0", "-1", "1.5", "int4", "int8,128", "128,", ",int8", "128,int8,", "²", "*"]
)
def test_other_names_name_none(name: str):
    assert named(name) is None


def test_the_first_numbers_are_normalised_again():
    vectors = np.array([[3, 4, 12]], dtype=np.float32)
    assert SmallerForm(2).of(vectors) == pytest.approx(np.array([[0.6, 0.8]]))
    assert SmallerForm(3).of(vectors) == pytest.approx(vectors / 13)


def test_integers_by_hand():
    # 100 numbers: the scale is 8 / 10 / 127. A vector with one number is clipped, one of equal numbers is not.
    vectors = np.zeros((2, 100), dtype=np.float32)
    vectors[0, 0], vectors[1] = -5, 1
    found = SmallerForm(None, "int8").of(vectors)
    assert found[0].tolist() == [-127.0] + [0.0] * 99
    assert found[1].tolist() == [16.0] * 100, "0.1 / 0.0063 = 15.9"
    assert int8_scale(4) == 1 / 127, "no number of a vector of length 1 is beyond 1"


def test_bits_by_hand():
    vectors = np.array([[0.2, -0.1, 0.0, 5]], dtype=np.float32)
    assert SmallerForm(None, "binary").of(vectors).tolist() == [[1, -1, -1, 1]]
    assert SmallerForm(2, "binary").of(vectors).tolist() == [[1, -1]]


def test_what_is_not_a_number_stays_so_and_zeros_stay_zeros():
    vectors = np.array([[np.nan, 1], [0, 0]], dtype=np.float32)
    for form in (SmallerForm(1), SmallerForm(None, "int8"), SmallerForm(None, "binary")):
        found = form.of(vectors)
        assert np.isnan(found[0]).any(), form
        assert np.isfinite(found[1]).all(), form


@given(st.integers(8, 1024), st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None)
def test_products_of_integers_are_cosines(dimensions: int, seed: int):
    vectors = small_vectors.normalised(np.random.default_rng(seed).normal(size=(6, dimensions)).astype(np.float32))
    found = SmallerForm(None, "int8").of(vectors)
    assert np.abs(found).max() <= 127 and (found == np.rint(found)).all()
    products = found @ found.T * np.float32(int8_scale(dimensions)) ** 2
    assert np.abs(products - vectors @ vectors.T).max() < 0.02
