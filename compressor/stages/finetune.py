"""Trains a checkpoint on the task's labels, or as a masked language model."""

from __future__ import annotations

from pathlib import Path

from compressor import checkpoint
from compressor.context import Context, Facts
from compressor.recipe import MASKED_LM
from compressor.recipe_stages import FinetuneSpec


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

    from compressor.training import corpus
    from compressor.training.batches import MaskedBatches
    from compressor.training.objectives import Labels, MaskedLanguageModel
    from compressor.training.stage import row_batches, train_stage

    set_seed(context.seed)
    if context.task == MASKED_LM:
        data = corpus.sequences(source, spec, context)
        model = checkpoint.load_model(source, context.task, sentence_order=data.pairs)
        count = corpus.num_maskings(spec, len(data))
        batches = MaskedBatches(data, [corpus.masking(source, data, spec, context, index) for index in range(count)])
        mlm, order = (1.0 if given is None else given for given in (spec.alpha_mlm, spec.alpha_order))
        objective = MaskedLanguageModel(model, mlm, order if data.pairs else 0.0)
        return train_stage(model, source, output, spec, context, batches, objective)
    model = checkpoint.load_model(source, context.task, **context.head)
    return train_stage(model, source, output, spec, context, row_batches(source, spec, context), Labels(context.task))
