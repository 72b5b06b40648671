"""Trains a checkpoint on the task's labels, or as a masked language model."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from compressor.models import loading
from compressor.stages.base import Stage, StageSpec
from compressor.tasks import MASKED_LM, learned_from_rows
from compressor.training.context import Context, Facts
from compressor.training.spec import ObjectiveSpec


class FinetuneSpec(ObjectiveSpec, StageSpec):
    """Trains the checkpoint on the task's labels, or as a masked language model. The task's first makes the teacher."""

    stage: Literal["finetune"]
    """The kind of stage."""
    makes_teacher: ClassVar[bool] = True
    needs_head: ClassVar[bool] = False

    @property
    def warms_up(self) -> bool:
        """See `StageSpec.warms_up`: it learns the order of segments alone."""
        return self.alpha_mlm == 0

    @property
    def hidden_share(self) -> float:
        """Little where the order of segments is learned alone: hidden tokens only keep it from being seen."""
        return 0.02 if self.warms_up and self.mlm_probability is None else super().hidden_share


def run(source: Path, output: Path, spec: FinetuneSpec, context: Context) -> Facts:
    """Fine-tunes all weights; makes a new head where the checkpoint has none for this.

    A new language-model head shares its matrix with the token embeddings. On a corpus of pairs of segments there is a
    head for their order beside it.

    Args:
        source: Checkpoint folder.
        output: Empty folder for the fine-tuned checkpoint.
        spec: The stage's keys.
        context: Rows or corpus, seed, progress.
    """
    from transformers import set_seed

    from compressor.training import label_thresholds, masked_corpus
    from compressor.training.batches import MaskedBatches
    from compressor.training.objectives import Labels, MaskedLanguageModel
    from compressor.training.train_stage import row_batches, train_stage

    set_seed(context.seed)
    if context.task == MASKED_LM:
        data = masked_corpus.sequences(source, spec, context)
        model = loading.load_model(source, context.model_head, sentence_order=data.pairs)
        count = masked_corpus.num_maskings(spec, data)
        batches = MaskedBatches(
            data, [masked_corpus.masking(source, data, spec, context, index) for index in range(count)]
        )
        mlm, order = (1.0 if given is None else given for given in (spec.alpha_mlm, spec.alpha_order))
        objective = MaskedLanguageModel(model, mlm, order if data.pairs else 0.0)
        return train_stage(model, source, output, spec, context, batches, objective)
    model = loading.load_model(source, context.model_head, **context.head)
    label_thresholds.follow(model, None)
    return train_stage(
        model,
        source,
        output,
        spec,
        context,
        row_batches(source, spec, context, by_query=context.model_head.vectors),
        Labels(learned_from_rows(context.task), spec.dimensions),
    )


STAGE = Stage(FinetuneSpec, run)
