"""Heads: the last part of a model, on top of its encoder, and the outputs that it gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

LOGITS = "logits"
"""The main output: of a classifier `(batch, labels)`, of tokens `(batch, sequence, tags)`, of a language model
`(batch, sequence, vocabulary)`."""
START, END = "start_logits", "end_logits"
"""Where an answer starts and where it ends. `(batch, sequence)` each."""
SENTENCE_ORDER = "sentence_order_logits"
"""Whether two segments are in order (0) or swapped (1). `(batch, 2)`."""


@dataclass(frozen=True)
class Head:
    """A kind of head.

    Attributes:
        auto: End of the Auto class and of the model classes that have it.
        part: The part of `models.parts.AXES` whose weight marks it.
        outputs: From our names of its outputs, the main one first, to those that transformers may use.
        per_token: Whether it gives logits for each token.
        settings: Settings of the config for outputs that have no names of their own.
        numbers: Whether its single output is a number and not a label; None where the class decides.
        also: Ends of other classes that have it too.
    """

    auto: str
    part: str
    outputs: Mapping[str, tuple[str, ...]]
    per_token: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    numbers: bool | None = None
    also: tuple[str, ...] = ()

    @property
    def endings(self) -> tuple[str, ...]:
        """Ends of the classes that have it."""
        return (self.auto, *self.also)


SEQUENCE_CLASSIFICATION = Head("ForSequenceClassification", "classifier", {LOGITS: (LOGITS,)}, numbers=False)
REGRESSION = Head(
    "ForSequenceClassification",
    "classifier",
    {LOGITS: (LOGITS,)},
    settings={"num_labels": 1, "problem_type": "regression"},
    numbers=True,
)
TOKEN_CLASSIFICATION = Head("ForTokenClassification", "classifier", {LOGITS: (LOGITS,)}, per_token=True)
QUESTION_ANSWERING = Head(
    "ForQuestionAnswering", "span", {START: (START,), END: (END,)}, per_token=True, settings={"num_labels": 2}
)
MASKED_LM = Head("ForMaskedLM", "transform", {LOGITS: (LOGITS,)}, per_token=True, also=("ForPreTraining",))
PRETRAINING = Head(
    "ForPreTraining",
    "order",
    {LOGITS: ("prediction_logits",), SENTENCE_ORDER: ("seq_relationship_logits", "sop_logits")},
    per_token=True,
    settings={"num_labels": 2},  # ALBERT's head for the order has as many
)
"""A language model's head with another one beside it, for the order of two segments."""

HEADS = (SEQUENCE_CLASSIFICATION, REGRESSION, TOKEN_CLASSIFICATION, QUESTION_ANSWERING, MASKED_LM)
"""Heads that tasks have, one for each."""

CLASSES = tuple(dict.fromkeys(head.auto for head in (*HEADS, PRETRAINING)))
"""Ends of the classes that surgery knows."""
