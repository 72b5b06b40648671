"""A checkpoint is taken for a sentence encoder if its files say so: any encoder could give vectors."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from compressor.drafting import stand_in
from compressor.drafting.guess import Heads
from compressor.errors import RecipeError
from compressor.models import sentence_embedding
from compressor.models.checkpoint import Checkpoint
from compressor.models.sentence_embedding import SentenceEmbedding
from compressor.tasks import sentence_similarity, text_classification


def test_only_with_the_files_of_sentence_transformers(encoder: Path, tmp_path: Path):
    plain = Heads.of(Checkpoint(encoder))
    assert plain.tasks == () and stand_in.found(plain).guess.task == text_classification.NAME
    folder = shutil.copytree(encoder, tmp_path / "folder")
    sentence_embedding.write(folder, SentenceEmbedding(), 32, 48)
    vectors = Heads.of(Checkpoint(folder))
    assert vectors.tasks == (sentence_similarity.NAME,)
    with pytest.raises(RecipeError, match=r"does sentence-similarity; no recipe is drafted"):
        stand_in.found(vectors)
