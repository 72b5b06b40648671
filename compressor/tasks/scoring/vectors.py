"""Scores of vectors of texts: of pairs by their similarity, of retrieval, and of vectors in smaller forms."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from compressor.gates.metrics import metric_of
from compressor.gates.rows import Rows
from compressor.models import small_vectors
from compressor.tasks.base import GROUPS, References
from compressor.tasks.scoring import retrieval
from compressor.tasks.scoring.spearman import spearman


def score(vectors: NDArray[np.float32], references: References) -> dict[str, Rows]:
    """Spearman's correlation of products with the scores of pairs, and how well queries find their documents.

    Args:
        vectors: `(rows, dimensions)`; their products are similarities.
        references: See `compressor.tasks.sentence_similarity.references`.
    """
    found: dict[str, Rows] = {}
    if len(pairs := references["scored"]):
        products = np.einsum("ij,ij->i", vectors[pairs[:, 0]], vectors[pairs[:, 1]])
        products = np.nan_to_num(products, nan=0.0)  # else one of them would leave no rank of any
        found["spearman"] = spearman(products, references["scores"], references[GROUPS][pairs[:, 0]])
    if len(references["relevant"]):
        found |= retrieval.score(
            vectors, references["documents"], references["relevant"], references["grades"], references[GROUPS]
        )
    return found


def score_smaller(vectors: NDArray[np.float32], references: References, metrics: Collection[str]) -> dict[str, Rows]:
    """Those of some metrics that are of vectors in a smaller form, such as `recall_at_1[128,int8]`.

    Args:
        vectors: As the model gives them. `(rows, dimensions)`
        references: See `score`.
        metrics: Others are left out, and so are those of more dimensions than there are.
    """
    found: dict[str, Rows] = {}
    for name in dict.fromkeys(given for metric in metrics if (given := metric_of(metric).vectors)):
        form = small_vectors.named(name)
        assert form is not None, "a recipe names forms"
        if form.dimensions is None or form.dimensions <= vectors.shape[1]:
            scores = score(form.of(vectors), references)
            found |= {own: rows for metric, rows in scores.items() if (own := f"{metric}[{name}]") in metrics}
    return found
