from __future__ import annotations

from pathlib import Path

import pytest
from tiny_models import make_model

from compressor.errors import StageError
from compressor.models.checkpoint import Checkpoint
from compressor.training.teacher_cache import check_heads, layer_map

KIND = "BertForSequenceClassification"


def test_layers_are_evenly_spaced_unless_they_are_given():
    assert layer_map(None, 3, 6) == [1, 3, 5]
    assert layer_map([0, 5, 5], 3, 6) == [0, 5, 5]


@pytest.mark.parametrize("given", [[0, 1], [0, 1, 2, 3], [0, 1, 6]])
def test_a_layer_map_that_does_not_fit_both_models_is_refused(given: list[int]):
    with pytest.raises(StageError, match=r"3 layers, from 0 to 5"):
        layer_map(given, 3, 6)


def test_attention_is_compared_between_equally_many_heads(classifier: Path):
    check_heads(make_model(KIND), Checkpoint(classifier))
    with pytest.raises(StageError, match=r"2 heads .* 4"):
        check_heads(make_model(KIND, num_attention_heads=2), Checkpoint(classifier))
