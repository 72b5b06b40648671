"""Objectives: the loss that a training stage minimises, as named terms with weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from compressor.data.queries import QUERY
from compressor.models.convert import language_head, modules
from compressor.models.outputs import LOGITS, SENTENCE_ORDER, outputs_by_name
from compressor.tasks.base import Task
from compressor.training import losses, task_losses, vector_losses
from compressor.training.projection import STATES, VECTORS, project, there
from compressor.training.trainer import Batch, Terms
from compressor.training.vector_losses import at_dimensions

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Labels:
    """How far the answers are from the labels.

    Args:
        task: What the model does.
        dimensions: Of vectors, how many of their first numbers are held to the labels; None for all.
    """

    weights: Mapping[str, float] = {"hard": 1.0}

    def __init__(self, task: Task, dimensions: Sequence[int] | None = None) -> None:
        self._task, self._dimensions = task, dimensions

    def terms(self, model: torch.nn.Module, inputs: Batch, batch: Batch) -> Terms:
        """`hard`."""
        head = self._task.head_logits(model(**inputs))
        return {"hard": at_dimensions(partial(_hard, self._task, batch), [head], self._dimensions)}

    def items(self, batch: Batch) -> Terms:
        """Rows, words, or starts and ends of answers."""
        return {"hard": task_losses.items(self._task, batch)}


class Directions:
    """The part of each text's vector along a direction that is drawn: its gradient says what moves vectors.

    Over many texts, the size of the derivative along random directions is as large as the vector's own change.

    Args:
        task: What the model does: its head gives vectors.
    """

    weights: Mapping[str, float] = {"direction": 1.0}

    def __init__(self, task: Task) -> None:
        self._task, self._random = task, torch.Generator().manual_seed(0)

    def terms(self, model: torch.nn.Module, inputs: Batch, batch: Batch) -> Terms:
        """`direction`."""
        vectors = self._task.head_logits(model(**inputs))
        directions = torch.randn(vectors.shape, generator=self._random).to(vectors)
        return {"direction": (vectors * directions).sum(dim=-1).mean()}

    def items(self, batch: Batch) -> Terms:
        """Texts."""
        return {"direction": _count(batch["input_ids"])}


def _hard(task: Task, batch: Batch, head: torch.Tensor) -> torch.Tensor:
    return task_losses.hard_loss(task, head, batch)


class TaskDistillation:
    """A teacher's logits, their margins between rows of one query, labels, and its layers' hidden states and attention.

    Args:
        task: What both do.
        weights: Of `soft`, `hard`, `margin`, `relation`, `cosine` and `attention`; terms that weigh 0 are not computed.
        temperature: Of the soft loss.
        layer_map: For each layer of the student, the teacher's layer.
        dimensions: Of vectors, how many of their first numbers learn from the teacher's; None for all.
    """

    def __init__(
        self,
        task: Task,
        weights: Mapping[str, float],
        temperature: float,
        layer_map: Sequence[int],
        dimensions: Sequence[int] | None = None,
    ) -> None:
        self._dimensions = dimensions
        self.weights = {name: weight for name, weight in weights.items() if weight}
        self._task, self._temperature = task, temperature
        # The batch holds each of the teacher's layers once, in order.
        self._places = [sorted(set(layer_map)).index(layer) for layer in layer_map]

    def terms(self, model: torch.nn.Module, inputs: Batch, batch: Batch) -> Terms:
        """The terms that weigh something."""
        wanted = {"output_hidden_states": "cosine" in self.weights, "output_attentions": "attention" in self.weights}
        outputs = model(**inputs, **{name: True for name, asked in wanted.items() if asked})
        terms: Terms = {}
        head, cut = self._task.head_logits(outputs), partial(at_dimensions, dimensions=self._dimensions)
        if "soft" in self.weights and self._task.HEAD.vectors:
            terms["soft"] = self._distance(model, head, batch["teacher_logits"].to(head.dtype))
        elif "soft" in self.weights:
            terms["soft"] = task_losses.soft_loss(self._task, head, batch, self._temperature)
        if "hard" in self.weights:
            terms["hard"] = cut(partial(_hard, self._task, batch), vectors=(head,))
        if "relation" in self.weights:
            teacher = batch["teacher_logits"].to(head.dtype)
            terms["relation"] = cut(lambda student: vector_losses.relations(student, teacher), vectors=(head,))
        if "margin" in self.weights:
            teacher = batch["teacher_logits"]
            terms["margin"] = losses.margin_loss(head[:, 0], teacher.to(head.dtype)[:, 0], batch[QUERY])
        if "cosine" in self.weights:
            terms["cosine"] = self._cosine(model, outputs.hidden_states[1:], batch)
        if "attention" in self.weights:
            pairs = zip(outputs.attentions, self._places, strict=True)
            teacher, mask = batch["teacher_attention"], inputs["attention_mask"]
            terms["attention"] = torch.stack(
                [losses.attention_loss(given, teacher[place], mask) for given, place in pairs]
            ).mean()
        return terms

    def items(self, batch: Batch) -> Terms:
        """Of choices those of the task; of margins, pairs of rows; of states and attention, tokens."""
        texts, tokens = task_losses.soft_items(self._task, batch), batch["attention_mask"].sum()
        found = {"soft": texts, "relation": texts, "cosine": tokens, "attention": tokens}
        if "hard" in self.weights:
            found["hard"] = task_losses.items(self._task, batch)
        return found | ({"margin": losses.margins(batch[QUERY])} if "margin" in self.weights else {})

    def _distance(self, model: torch.nn.Module, vectors: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        """From the teacher's vectors; through a projection of the first numbers, all of the teacher's are learned."""
        if not there(model, VECTORS):
            return at_dimensions(vector_losses.distance, (vectors, teacher), self._dimensions)
        return at_dimensions(
            lambda first: vector_losses.distance(project(model, VECTORS, first), teacher), [vectors], self._dimensions
        )

    def _cosine(self, model: torch.nn.Module, states: Sequence[torch.Tensor], batch: Batch) -> torch.Tensor:
        tokens = batch["attention_mask"].bool()
        teacher = batch["teacher_hidden"]
        found = [
            losses.cosine_loss(project(model, STATES, state[tokens]), teacher[place][tokens])
            for state, place in zip(states, self._places, strict=True)
        ]
        return torch.stack(found).mean()


class MaskedLanguageModel:
    """Cross-entropy with the hidden tokens and, of pairs of segments, with their order.

    Args:
        student: The model, not wrapped for several processes.
        mlm: Weight of the first; if 0, the vocabulary's logits are not computed.
        order: Weight of the second; if positive, the batches have an `order`, and the model a head for it.

    Source: Devlin et al. 2019, appendix A.2, and for the order Lan et al. 2019, "ALBERT", section 3.1: the sum of both.
    """

    def __init__(self, student: PreTrainedModel, mlm: float = 1.0, order: float = 0.0) -> None:
        self.weights = {name: weight for name, weight in (("mlm", mlm), ("order", order)) if weight}
        self._student = student

    def terms(self, model: torch.nn.Module, inputs: Batch, batch: Batch) -> Terms:
        """`mlm` and, of pairs, `order`, if they weigh something."""
        wanted = slice(None) if "mlm" in self.weights else slice(0)
        with head_at(self._student, batch["row"][wanted], batch["column"][wanted]):
            given = outputs_by_name(self._student, model(**inputs))
        terms: Terms = {}
        if "mlm" in self.weights:
            terms["mlm"] = losses.hard_label_loss(given[LOGITS][0], batch["labels"])
        if "order" in self.weights:
            terms["order"] = losses.hard_label_loss(given[SENTENCE_ORDER], batch["order"])
        return terms

    def items(self, batch: Batch) -> Terms:
        """Hidden tokens, and pairs."""
        return {"mlm": _count(batch["row"]), "order": _count(batch["input_ids"])}


class PretrainingDistillation:
    """DistilBERT's triple loss, at the hidden tokens and, for the cosine, at the first token too.

    The vocabulary's logits are computed where a token is hidden, not at every token: that is where the teacher guesses,
    and saves two thirds of a small student's work. The first token is the one that classifiers read.

    Args:
        student: The model, not wrapped for several processes.
        weights: Of `soft`, `mlm`, `cosine` and, of pairs of segments, `order`; terms that weigh 0 are not computed.
        temperature: Of the soft loss.

    Source: Sanh et al. 2019, section 2, "Training loss".
    """

    def __init__(self, student: PreTrainedModel, weights: Mapping[str, float], temperature: float) -> None:
        self.weights = {name: weight for name, weight in weights.items() if weight}
        self._student, self._temperature = student, temperature

    def terms(self, model: torch.nn.Module, inputs: Batch, batch: Batch) -> Terms:
        """The terms that weigh something."""
        wanted = {"output_hidden_states": True} if "cosine" in self.weights else {}
        with head_at(self._student, batch["row"], batch["column"]):
            outputs = model(**inputs, **wanted)
        given = outputs_by_name(self._student, outputs)
        logits = given[LOGITS][0]
        terms: Terms = {}
        if "soft" in self.weights:
            terms["soft"] = losses.top_k_soft_target_loss(
                logits, batch["top_ids"], batch["top_log_probabilities"], batch["log_rest"], self._temperature
            )
        if "mlm" in self.weights:
            terms["mlm"] = losses.hard_label_loss(logits, batch["labels"])
        if "cosine" in self.weights:
            last = outputs.hidden_states[-1]
            student = torch.cat([last[:, 0], last[batch["row"], batch["column"]]])
            teacher = torch.cat([batch["first_hidden"], batch["hidden"]])
            terms["cosine"] = losses.cosine_loss(project(model, STATES, student), teacher)
        if "order" in self.weights:
            terms["order"] = losses.hard_label_loss(given[SENTENCE_ORDER], batch["order"])
        return terms

    def items(self, batch: Batch) -> Terms:
        """Hidden tokens, of states the first token of each sequence too, and pairs."""
        hidden, rows = _count(batch["row"]), _count(batch["input_ids"])
        return {"soft": hidden, "mlm": hidden, "cosine": hidden + rows, "order": rows}


def _count(values: torch.Tensor) -> torch.Tensor:
    return torch.tensor(len(values))


@contextmanager
def head_at(model: PreTrainedModel, row: torch.Tensor, column: torch.Tensor) -> Iterator[None]:
    """Within it, a masked language model computes its logits at some tokens only, as `(1, tokens, vocabulary)`."""
    head = language_head(model)

    def pick(module: torch.nn.Module, arguments: tuple[Any, ...]) -> tuple[torch.Tensor]:
        return (arguments[0][row, column][None],)

    handle = head.register_forward_pre_hook(pick)
    try:
        yield
    finally:
        handle.remove()


class _NoDropout(torch.nn.Identity):
    """Stands where attention has its dropout, and is none whatever the rate of the others is set to."""

    p = 0.0


def remove_attention_dropout(student: PreTrainedModel) -> None:
    """Takes dropout off the attention of a student whose attention is compared with its teacher's, in place.

    transformers returns attention after dropout: rows that do not sum up to 1, and a loss above 0 of equal models.
    """
    queries = set(modules(student, "query"))
    for module in student.modules():
        if queries.isdisjoint(module.children()):
            continue
        name = "attention_dropout" if hasattr(module, "attention_dropout") else "dropout"
        assert isinstance(getattr(module, name), torch.nn.Dropout | _NoDropout), "every family has it beside the query"
        setattr(module, name, _NoDropout())
