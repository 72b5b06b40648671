"""Heads: the last part of a model, on top of its encoder, and the outputs that it gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from compressor.models.small_vectors import PRECISIONS, Precision

LOGITS = "logits"
"""The main output: of a classifier `(batch, labels)`, of tokens `(batch, sequence, tags)`, of a language model
`(batch, sequence, vocabulary)`."""
START, END = "start_logits", "end_logits"
"""Where an answer starts and where it ends. `(batch, sequence)` each."""
SENTENCE_ORDER = "sentence_order_logits"
"""Whether two segments are in order (0) or swapped (1). `(batch, 2)`."""
EMBEDDING, TOKENS = "sentence_embedding", "token_embeddings"
"""The vector of a text `(batch, dimensions)`, and the last hidden states `(batch, sequence, hidden)`."""

EMBEDDINGS: Mapping[Precision, str] = {kind: f"{EMBEDDING}_{kind}" for kind in PRECISIONS}
"""The vector in smaller precisions, where the checkpoint says so: int8 `(batch, dimensions)`, and uint8 of eight bits
each `(batch, dimensions / 8)`."""


@dataclass(frozen=True)
class Head:
    """A kind of head.

    Attributes:
        auto: End of the Auto class and of the model classes that have it.
        parts: The parts of `models.parts.AXES` that it needs, the one that marks it first; a family may lack others.
        outputs: From our names of its outputs, the main one first, to those that transformers may use.
        per_token: Whether it gives logits for each token.
        settings: Settings of the config for outputs that have no names of their own.
        numbers: Whether its single output is a number and not a label; None where the class decides.
        also: Ends of other classes that have it too.
        problem_types: Values of the config's `problem_type` that go with it, besides none, which never means `sets`.
        outputs_by_label: Whether it has an output for each label of the config.
        sets: Whether its answer is a set of labels: each is decided on its own, by its threshold, not the likeliest
            of all is chosen. See `models.thresholds`.
        vectors: Whether its answer is a vector, and answers are compared by their cosine.
        own: Whether its classes are ours, whatever the family; see `models.sentence_encoder`.
    """

    auto: str
    parts: tuple[str, ...]
    outputs: Mapping[str, tuple[str, ...]]
    per_token: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    numbers: bool | None = None
    also: tuple[str, ...] = ()
    problem_types: tuple[str, ...] = ()
    outputs_by_label: bool = False
    sets: bool = False
    vectors: bool = False
    own: bool = False

    @property
    def part(self) -> str:
        """The part whose weight marks it."""
        return self.parts[0]

    @property
    def answer(self) -> str:
        """What an answer is called: where formats are compared, it is the same or another."""
        return "vector" if self.vectors else "number" if self.numbers else "label"

    @property
    def endings(self) -> tuple[str, ...]:
        """Ends of the classes that have it."""
        return (self.auto, *self.also)


SEQUENCE_CLASSIFICATION = Head(
    "ForSequenceClassification",
    ("classifier", "pooler"),
    {LOGITS: (LOGITS,)},
    settings={"problem_type": "single_label_classification"},
    numbers=False,
    problem_types=("single_label_classification",),
    outputs_by_label=True,
)
MULTI_LABEL = Head(
    "ForSequenceClassification",
    ("classifier", "pooler"),
    {LOGITS: (LOGITS,)},
    settings={"problem_type": "multi_label_classification"},
    numbers=False,
    problem_types=("multi_label_classification",),
    outputs_by_label=True,
    sets=True,
)
REGRESSION = Head(
    "ForSequenceClassification",
    ("classifier", "pooler"),
    {LOGITS: (LOGITS,)},
    settings={"num_labels": 1, "problem_type": "regression"},
    numbers=True,
    problem_types=("regression",),
)
TOKEN_CLASSIFICATION = Head(
    "ForTokenClassification",
    ("classifier",),
    {LOGITS: (LOGITS,)},
    per_token=True,
    settings={"problem_type": None},
    outputs_by_label=True,
)
QUESTION_ANSWERING = Head(
    "ForQuestionAnswering",
    ("span",),
    {START: (START,), END: (END,)},
    per_token=True,
    settings={"num_labels": 2, "problem_type": None},
)
MASKED_LM = Head(
    "ForMaskedLM",
    ("transform", "transform_norm"),
    {LOGITS: (LOGITS,)},
    per_token=True,
    settings={"problem_type": None},
    also=("ForPreTraining",),
)
PRETRAINING = Head(
    "ForPreTraining",
    ("order", "transform", "transform_norm", "pooler"),
    {LOGITS: ("prediction_logits",), SENTENCE_ORDER: ("seq_relationship_logits", "sop_logits")},
    per_token=True,
    settings={"num_labels": 2, "problem_type": None},  # ALBERT's head for the order has as many
)
"""A language model's head with another one beside it, for the order of two segments."""

SENTENCE_EMBEDDING = Head(
    "ForSentenceEmbedding",
    ("sentence_dense",),
    {EMBEDDING: (EMBEDDING,), TOKENS: (TOKENS,)},
    settings={"problem_type": None},
    also=("Model",),
    vectors=True,
    own=True,
)
"""Pooling, maybe a dense layer, and normalisation. An encoder without any head is taken for one."""

HEADS = (
    SEQUENCE_CLASSIFICATION,
    MULTI_LABEL,
    REGRESSION,
    TOKEN_CLASSIFICATION,
    QUESTION_ANSWERING,
    MASKED_LM,
    SENTENCE_EMBEDDING,
)
"""Heads that tasks have, one for each."""

CLASSES = tuple(dict.fromkeys(head.auto for head in (*HEADS, PRETRAINING)))
"""Ends of the classes that surgery knows."""
