"""What every stage of a recipe has, and the keys that training stages share.

Like `recipe.py`, the only definition: strict and frozen; attribute docstrings become help.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from compressor.recipe_parts import Gate, Spec


class StageSpec(Spec):
    """What every stage has."""

    name: str | None = None
    """Name in reports and in `--set`; by default the stage's kind, numbered when it occurs again."""
    gates: dict[str, Gate] = Field(default_factory=dict)
    """Limits this stage must meet: `metric: {rule: limit}`."""

    @property
    def kind(self) -> str:
        """The kind of stage, which names its module in `compressor.stages`."""
        return str(getattr(self, "stage"))  # noqa: B009 -- the discriminator lives on the subclasses

    @property
    def libraries(self) -> tuple[str, ...]:
        """Distributions that the stage needs and a plain installation does not bring; their versions count."""
        return ()

    @property
    def default_gates(self) -> dict[str, Gate]:
        """Gates that hold unless the recipe sets its own for the metric."""
        return {}

    @property
    def all_gates(self) -> dict[str, Gate]:
        """The recipe's gates and the defaults it does not override."""
        return {**self.default_gates, **self.gates}

    def work(self) -> dict[str, Any]:
        """What decides this stage's output: everything but its name and gates."""
        return self.model_dump(mode="json", exclude={"name", "gates"})


class TrainingSpec(StageSpec):
    """Keys that every training stage shares."""

    epochs: Annotated[float, Field(gt=0)] = 3.0
    """Passes over the training rows."""
    max_steps: Annotated[int, Field(ge=1)] | None = None
    """Optimizer steps; overrides `epochs`."""
    batch_size: Annotated[int, Field(ge=1)] = 32
    """Rows per forward pass and process."""
    gradient_accumulation_steps: Annotated[int, Field(ge=1)] = 1
    """Forward passes per optimizer step."""
    learning_rate: Annotated[float, Field(gt=0)] = 5e-5
    """Peak learning rate of AdamW; rises over the warm-up, then falls linearly to 0."""
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the steps spent warming up."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """AdamW weight decay, not applied to biases and LayerNorm."""
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Dropout of hidden states and attention while training; by default the checkpoint's own, usually 0.1. 0 trains
    faster on CPUs, which draw it slowly and have no fused attention with it."""
    max_sequence_length: Annotated[int, Field(ge=3)] | None = None
    """Longer texts are cut, here and in the shipped tokenizer; by default 128 or what the checkpoint allows."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Mixed precision. `auto` is bf16 where that is faster: on GPUs, and on CPUs with bf16 instructions for sequences
    of 128 tokens or more; else fp32. fp16 needs an accelerator."""

    @property
    def trains(self) -> bool:
        """Whether weights are learned at all."""
        return bool(self.epochs) or self.max_steps is not None


class ObjectiveSpec(TrainingSpec):
    """Keys of stages that train on the task's rows or, as a language model, on `data.corpus`."""

    objective: Literal["task", "pretraining"] = "task"
    """`pretraining` trains a masked language model on `data.corpus`. It starts from the recipe's model or what earlier
    pretraining left of it, since fine-tuning on a task throws the language model's head away. In a masked-lm recipe it
    is the only one."""
    mlm_probability: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """Pretraining: share of the tokens that are predicted."""
    masking: Literal["subword", "whole_word"] = "subword"
    """Pretraining: what is masked together."""
    maskings: Annotated[int, Field(ge=1)] | None = None
    """Pretraining: different maskings of the corpus that the epochs take turns with; by default one for each epoch, at
    most 4. A teacher reads the corpus once for each."""
    alpha_mlm: Annotated[float, Field(ge=0)] | None = None
    """Pretraining: weight of the masked-LM loss; by default 1 in finetune, where it has to be positive, and 2 where a
    teacher is learned from."""
    alpha_order: Annotated[float, Field(ge=0)] | None = None
    """Pretraining with `data.corpus.sentence_order`: weight of the sentence-order loss; by default 1."""


class DistillationSpec(ObjectiveSpec):
    """Keys of stages that train a student to match the teacher.

    `objective: task`: on the task's rows,
    `alpha_soft * T^2 * KL(teacher || student at temperature T) + alpha_hard * cross-entropy with the labels`, and from
    chosen layers of the teacher `+ alpha_cosine * (1 - cosine of hidden states) + alpha_attention * KL of attention`.

    `objective: pretraining`: DistilBERT's triple loss on `data.corpus`, at the masked tokens,
    `alpha_soft * T^2 * KL over the vocabulary + alpha_mlm * masked-LM + alpha_cosine * (1 - cosine of hidden states)`,
    and on a corpus of pairs `+ alpha_order * cross-entropy of the order of the segments`.
    """

    temperature: Annotated[float, Field(gt=0)] = 2.0
    """Softens both distributions of the soft loss."""
    alpha_soft: Annotated[float, Field(ge=0)] | None = None
    """Weight of the soft loss; by default 0.9, in pretraining 5."""
    alpha_hard: Annotated[float, Field(ge=0)] | None = None
    """Task: weight of the cross-entropy with the labels; by default 0.1."""
    alpha_cosine: Annotated[float, Field(ge=0)] | None = None
    """Weight of the cosine loss between hidden states; by default 1, in task distillation of a distill stage 0."""
    alpha_attention: Annotated[float, Field(ge=0)] | None = None
    """Task: weight of the divergence between attention distributions, head by head; by default 0."""
    layer_map: tuple[Annotated[int, Field(ge=0)], ...] | None = None
    """Task: for each layer of the student, the teacher's layer that it learns hidden states and attention from; by
    default evenly spaced up to the last: 1, 3, 5 for three of six. In pretraining, last learns from last."""
    top_k: Annotated[int, Field(ge=1)] = 32
    """Pretraining: how many of the teacher's probabilities are kept for each masked token; the rest keep their sum."""


class RecoverySpec(DistillationSpec):
    """Keys of stages that change a checkpoint and then train it back to match the teacher."""

    epochs: Annotated[float, Field(ge=0)] = 3.0
    """Passes over the training rows; 0 leaves the checkpoint untrained, for a later stage to train."""
