"""Fewer numbers in vectors: directions by hand, and models whose dense layer holds them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import sentences
from sentence_recipes import write_encoder

from compressor.errors import StageError
from compressor.models import loading
from compressor.models.checkpoint import Checkpoint
from compressor.models.sentence_embedding import SentenceEmbedding
from compressor.models.surgery.reduce_vectors import first_directions, principal_directions, reduce_vectors

TEXTS = [text for text, _ in sentences(24, 3)]
PLAIN, DENSE = SentenceEmbedding(), SentenceEmbedding("max", dense=20)
LONG, TANH = SentenceEmbedding("cls", normalize=False), SentenceEmbedding(dense=20, activation="tanh")


def vectors_of(folder: Path) -> np.ndarray:
    model, tokenizer = loading.load_model(folder).eval(), loading.load_tokenizer(folder)
    with torch.no_grad():
        return model(**tokenizer(TEXTS, padding=True, return_tensors="pt")).sentence_embedding.numpy()


def reduced(folder: Path, directions: torch.Tensor) -> Path:
    model, there = reduce_vectors(loading.load_model(folder), directions), folder / "reduced"
    loading.save(there, model, loading.load_tokenizer(folder))
    return there


def cosines(vectors: np.ndarray) -> np.ndarray:
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return units @ units.T


def principal(vectors: np.ndarray) -> torch.Tensor:
    return principal_directions(torch.nn.functional.normalize(torch.from_numpy(vectors), dim=-1))[0]


def test_directions_by_hand():
    # Three of four vectors lie along (3, 4) / 5, one at a right angle to it; none has a third number.
    found, shares = principal_directions(torch.tensor([[0.6, 0.8, 0], [0.6, 0.8, 0], [-0.6, -0.8, 0], [0.8, -0.6, 0]]))
    assert torch.allclose(found, torch.tensor([[0.6, 0.8, 0], [0.8, -0.6, 0], [0, 0, 1]]), atol=1e-6)
    assert torch.allclose(shares, torch.tensor([0.75, 0.25, 0]), atol=1e-6)


def test_the_mean_stays():
    # All that is equal in these vectors is the first direction: another origin would leave it out.
    found, _ = principal_directions(torch.tensor([[0.8, 0.6, 0], [0.8, -0.6, 0], [0.8, 0, 0.6], [0.8, 0, -0.6]]))
    assert torch.allclose(found[0], torch.tensor([1.0, 0, 0]), atol=1e-6)


@pytest.mark.parametrize("how", [PLAIN, DENSE, LONG], ids=["plain", "dense", "long"])
def test_all_directions_keep_all_cosines(how: SentenceEmbedding, tmp_path: Path):
    before = vectors_of(write_encoder(tmp_path, how))
    after = vectors_of(reduced(tmp_path, principal(before)))
    assert np.abs(cosines(after) - cosines(before)).max() < 1e-5
    assert np.abs(after - before).max() > 1e-2, "they were rotated"


@pytest.mark.parametrize("how", [PLAIN, DENSE, LONG], ids=["plain", "dense", "long"])
def test_the_layer_gives_what_projection_gives(how: SentenceEmbedding, tmp_path: Path):
    before = vectors_of(write_encoder(tmp_path, how))
    directions = principal(before)[:8]
    projected = before @ directions.numpy().T
    after = vectors_of(folder := reduced(tmp_path, directions))
    assert after.shape == (len(TEXTS), 8) and np.abs(cosines(after) - cosines(projected)).max() < 1e-5
    if not how.normalize:
        assert np.abs(after - projected).max() < 1e-4, "lengths stay, too"
    assert Checkpoint(folder).embedding.dense == 8 and Checkpoint(folder).embedding.pooling == how.pooling
    again = vectors_of(reduced(folder, first_directions(8, 3)))
    assert np.abs(cosines(again) - cosines(projected[:, :3])).max() < 1e-5


def test_first_numbers_behind_a_tanh_but_no_rotation(tmp_path: Path):
    before = vectors_of(write_encoder(tmp_path, TANH))
    after = vectors_of(reduced(tmp_path, first_directions(20, 6)))
    assert np.abs(cosines(after) - cosines(before[:, :6])).max() < 1e-5
    with pytest.raises(StageError, match="ends in tanh, and a rotation behind it"):
        reduce_vectors(loading.load_model(tmp_path), principal(before)[:6])


def test_first_directions_are_better_than_any_others_of_as_many():
    random = torch.Generator().manual_seed(0)
    vectors = torch.nn.functional.normalize(torch.randn(200, 12, generator=random) * torch.arange(1, 13), dim=-1)
    found, shares = principal_directions(vectors)
    assert torch.allclose(found @ found.T, torch.eye(12), atol=1e-5)
    kept = ((vectors @ found[:4].T) ** 2).sum(dim=1).mean()
    assert kept.item() == pytest.approx(shares[:4].sum().item(), abs=1e-5)
    for _ in range(50):
        other = torch.linalg.qr(torch.randn(12, 4, generator=random))[0]
        assert ((vectors @ other) ** 2).sum(dim=1).mean() < kept


@pytest.mark.skipif(importlib.util.find_spec("sentence_transformers") is None, reason="needs sentence-transformers")
def test_sentence_transformers_gives_the_same_vectors(tmp_path: Path):
    from sentence_transformers import SentenceTransformer

    write_encoder(tmp_path, PLAIN)
    folder = reduced(tmp_path, principal(vectors_of(tmp_path))[:8])
    assert np.abs(SentenceTransformer(str(folder), device="cpu").encode(TEXTS) - vectors_of(folder)).max() < 1e-5
