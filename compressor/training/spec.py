"""Keys that training stages share."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from compressor.data.spec import TextSpec
from compressor.errors import Add
from compressor.models.checkpoint import Checkpoint
from compressor.models.shape import Shape
from compressor.spec import Spec
from compressor.training import devices, processes


class TrainingSpec(Spec):
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
    head_learning_rate: Annotated[float, Field(gt=0)] | None = None
    """Peak learning rate of the head, the pooler in it; by default `learning_rate`. A head that is new learns faster
    than layers that are trained: ten times their rate is a start."""
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
    """Mixed precision. `auto` is bf16 where that is faster: on GPUs that compute in it, and on CPUs with bf16
    instructions for sequences of 128 tokens or more; else fp32. fp16 needs an accelerator."""

    @property
    def trains(self) -> bool:
        """Whether weights are learned at all."""
        return bool(self.epochs) or self.max_steps is not None

    def check_here(self, task: str, incoming: Checkpoint, pairs: bool, add: Add) -> None:
        """See `StageSpec.check_here`: whether this machine trains in the precision."""
        if self.trains and (why := devices.lacks(self.precision)):
            what, _, hint = why.partition("; ")
            add(("precision",), f"is {self.precision}, which {what}", hint, kind="unsupported")


class ObjectiveSpec(TrainingSpec):
    """Keys of stages that train on the task's rows or, as a language model, on `data.corpus`."""

    objective: Literal["task", "pretraining"] = "task"
    """`pretraining` trains a masked language model on `data.corpus`. It starts from the recipe's model or what earlier
    pretraining left of it, since fine-tuning on a task throws the language model's head away. In a masked-lm recipe it
    is the only one."""
    dimensions: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] | None = None
    """Task sentence-similarity: how many of a vector's first numbers are to be useful without the others, such as
    `[384, 256, 128, 64]`: the losses are means over them (Matryoshka). By default all numbers at once."""
    mlm_probability: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Pretraining: share of the tokens that are predicted; by default 0.15, and 0.02 in finetune with `alpha_mlm: 0`,
    where what is hidden only keeps the order of segments from being seen."""
    masking: Literal["subword", "whole_word"] = "subword"
    """Pretraining: what is masked together."""
    maskings: Annotated[int, Field(ge=1)] | None = None
    """Pretraining: different maskings of the corpus that the epochs take turns with; by default one for each epoch, at
    most 4. A teacher reads the corpus once for each. Of pairs of segments they come in twos, which have both orders of
    a pair, and are trained on together; each two cut a text elsewhere, and there are at most 16."""
    alpha_mlm: Annotated[float, Field(ge=0)] | None = None
    """Pretraining: weight of the masked-LM loss; by default 1 in finetune, and 2 where a teacher is learned from. 0 in
    finetune learns the order of segments alone (`data.corpus.sentence_order`), before a stage that learns both."""
    alpha_order: Annotated[float, Field(ge=0)] | None = None
    """Pretraining with `data.corpus.sentence_order`: weight of the sentence-order loss; by default 1."""

    @property
    def hidden_share(self) -> float:
        """Pretraining: share of the tokens that are predicted."""
        return 0.15 if self.mlm_probability is None else self.mlm_probability


def evenly_spaced(student: int, teacher: int) -> list[int]:
    """Which of the teacher's layers each layer of the student learns from by default: evenly spaced up to the last.

    Args:
        student: Layers of the student.
        teacher: Layers of the teacher.

    Source: Jiao et al. 2020, "TinyBERT", section 4.1, the uniform strategy g(m) = m * N / M, counted from 1.
    """
    return [max(0, (layer + 1) * teacher // student - 1) for layer in range(student)]


class DistillationSpec(ObjectiveSpec):
    """Keys of stages that train a student to match the teacher.

    `objective: task`: on the task's rows,
    `alpha_soft * T^2 * KL(teacher || student at temperature T) + alpha_hard * cross-entropy with the labels`, and from
    chosen layers of the teacher `+ alpha_cosine * (1 - cosine of hidden states) + alpha_attention * KL of attention`.
    Of numbers both losses are squared errors, and `+ alpha_margin * squared error of margins within a query`. Of
    vectors, `alpha_soft * (1 - cosine with the teacher's) + alpha_relation * KL of the similarities within a batch`.

    `objective: pretraining`: DistilBERT's triple loss on `data.corpus`, at the masked tokens,
    `alpha_soft * T^2 * KL over the vocabulary + alpha_mlm * masked-LM + alpha_cosine * (1 - cosine of hidden states)`,
    and on a corpus of pairs `+ alpha_order * cross-entropy of the order of the segments`.
    """

    default_alpha_cosine: ClassVar[float] = 1.0
    """Weight of the cosine loss on the task's rows where the recipe gives none."""
    temperature: Annotated[float, Field(gt=0)] = 2.0
    """Softens both distributions of the soft loss."""
    alpha_soft: Annotated[float, Field(ge=0)] | None = None
    """Weight of the soft loss; by default 0.9, in pretraining 5, of sentence-similarity 1. There, vectors of another
    number of dimensions than the teacher's learn through a linear map, which is dropped afterwards."""
    alpha_hard: Annotated[float, Field(ge=0)] | None = None
    """Task: weight of the cross-entropy with the labels; by default 0.1. Of sentence-similarity it is of what pairs
    say, by default 0."""
    alpha_margin: Annotated[float, Field(ge=0)] | None = None
    """Task text-regression with `data.query`: weight of the squared difference between the student's and the teacher's
    margins, which are the differences of the numbers of two rows of one query (Margin-MSE); by default 0. Rows of one
    query then come together in batches: `batch_size` is best a multiple of their number."""
    alpha_relation: Annotated[float, Field(ge=0)] | None = None
    """Task sentence-similarity: weight of the divergence between how alike the texts of a batch are for the student
    and for the teacher; by default 0. Beside `alpha_soft` it made students of MiniLM worse."""
    alpha_cosine: Annotated[float, Field(ge=0)] | None = None
    """Weight of the cosine loss between hidden states; by default 1, in task distillation of a distill stage 0."""
    alpha_attention: Annotated[float, Field(ge=0)] | None = None
    """Task: weight of the divergence between attention distributions, head by head; by default 0. Attention that is
    compared has no dropout, whatever `dropout` is."""
    layer_map: tuple[Annotated[int, Field(ge=0)], ...] | None = None
    """Task: for each layer of the student, the teacher's layer that it learns hidden states and attention from; by
    default evenly spaced up to the last: 1, 3, 5 for three of six. In pretraining, last learns from last."""
    top_k: Annotated[int, Field(ge=1)] = 32
    """Pretraining: how many of the teacher's probabilities are kept for each masked token; the rest keep their sum."""

    def learned_layers(self, student: int, teacher: int) -> tuple[int, ...]:
        """The teacher's layers whose hidden states the student learns on the task's rows.

        None where it learns attention as well: then the teacher is run with other kernels, for this stage alone.

        Args:
            student: Layers of the student.
            teacher: Layers of the teacher.
        """
        weight = self.default_alpha_cosine if self.alpha_cosine is None else self.alpha_cosine
        if not self.trains or not weight or self.alpha_attention:
            return ()
        return self.layer_map or tuple(evenly_spaced(student, teacher))

    def check_layers(self, student: Shape, teacher: Shape, add: Add) -> None:
        """Notes where the layers or heads of student and teacher do not correspond.

        Args:
            student: The student's shape.
            teacher: The teacher's.
            add: Notes a problem, at a place within the stage.
        """
        given = self.layer_map
        if given is not None and (len(given) != student.layers or max(given) >= teacher.layers):
            what = f"is {list(given)}; the student has {student.layers} layers, the teacher {teacher.layers}"
            add(("layer_map",), what, f"give {student.layers} layers from 0 to {teacher.layers - 1}")
        if self.alpha_attention and (student.heads is None or student.heads != teacher.heads):
            ours, theirs = (shape.heads or "no one number of" for shape in (student, teacher))
            what = f"compares head by head, but the student has {ours} heads and the teacher {theirs}"
            add(("alpha_attention",), what, "drop it, and transfer hidden states with alpha_cosine")
        usual = 1.0 if self.objective == "pretraining" else self.default_alpha_cosine
        weight = usual if self.alpha_cosine is None else self.alpha_cosine
        if weight and self.trains and student.hidden != teacher.hidden and processes.count() > 1:
            what = f"is {weight:g}: the student is {student.hidden} wide and the teacher {teacher.hidden}, and hidden "
            what += "states of another width are learned in one process only"
            add(("alpha_cosine",), what, "run without torchrun, or set it to 0", kind="conflict")


class RecoverySpec(DistillationSpec):
    """Keys of stages that change a checkpoint and then recover its accuracy by distillation."""

    epochs: Annotated[float, Field(ge=0)] = 3.0
    """Passes over the training rows; 0 leaves the checkpoint untrained, for a later stage to train."""


class VocabularySpec(Spec):
    """The tokens to keep, by how often they occur.

    WordPiece, BPE and Unigram tokenizers are trimmed. Special tokens always stay, and so does every single character or
    byte, so that every text can still be tokenized; of WordPiece both forms of it, of BPE also the tokens that a kept
    one is merged from.
    """

    keep: Annotated[int, Field(ge=1)] | None = None
    """Keep the N most frequent tokens."""
    min_count: Annotated[int, Field(ge=1)] | None = None
    """Keep tokens that occur at least this many times."""
    corpus: str | TextSpec | None = None
    """Raw text to count in, a mapping or just its `source`; by default the training rows."""

    @model_validator(mode="after")
    def _one_limit(self) -> VocabularySpec:
        if (self.keep is None) == (self.min_count is None):
            raise ValueError("give one of keep and min_count")
        return self

    @property
    def text(self) -> TextSpec | None:
        """The raw text, with its defaults where the recipe gives only its source."""
        return TextSpec(source=self.corpus) if isinstance(self.corpus, str) else self.corpus


class TargetSpec(Spec):
    """Upper limit on one cost, measured like the metric of the same name after this stage."""

    num_parameters: Annotated[int, Field(ge=1)] | None = None
    """Parameters, embeddings and head included."""
    size_bytes: Annotated[int, Field(ge=1)] | None = None
    """Bytes of the float32 file that ships; int8 takes about a quarter of it."""
    latency_p50_ms: Annotated[float, Field(gt=0)] | None = None
    """Median milliseconds of the float32 file under the conditions of `measure`, on this machine."""

    @property
    def limits(self) -> dict[str, float]:
        """The metric that is set, with its limit."""
        return {name: value for name in type(self).model_fields if (value := getattr(self, name)) is not None}

    @model_validator(mode="after")
    def _one_limit(self) -> TargetSpec:
        if len(self.limits) != 1:
            raise ValueError(f"give one of {', '.join(type(self).model_fields)}")
        return self
