"""Removes heads, neurons and layers, and trains the student back to match the teacher."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from compressor import checkpoint
from compressor.checkpoint import Checkpoint
from compressor.context import Context, Facts
from compressor.errors import StageError
from compressor.recipe_stages import PruneSpec, VocabularySpec

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from compressor.surgery.anatomy import Anatomy
    from compressor.surgery.pruning import Scores
    from compressor.training.batches import MaskedBatches, RowBatches
    from compressor.training.distillation import Make


def run(source: Path, output: Path, spec: PruneSpec, context: Context) -> Facts:
    """Prunes, and recovers.

    Args:
        source: Checkpoint folder.
        output: Empty folder for the student.
        spec: The stage's keys.
        context: Teacher, rows or corpus, seed, progress.
    """
    from compressor.training.distillation import distil

    context.work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=context.work, ignore_cleanup_errors=True) as folder:
        start, facts = source, Facts()
        if spec.vocabulary is not None:
            start = Path(folder) / "trimmed"
            facts = _trimmed(source, start, spec, spec.vocabulary, context)
        return distil(start, output, spec, context, _make(start, spec, context, facts))


def _make(start: Path, spec: PruneSpec, context: Context, facts: Facts) -> Make:
    """What cuts a checkpoint, and adds to the facts what it did."""
    from compressor.surgery import pruning, widths
    from compressor.surgery.families import put_together

    def make(incoming: PreTrainedModel, batches: RowBatches | MaskedBatches) -> tuple[PreTrainedModel, Facts]:
        whole, layers = _without_layers(incoming, start, batches, spec, context)
        facts.update(layers)
        after = widths.after(whole.heads, whole.neurons, (spec.heads, spec.ffn), spec.scope)
        if spec.heads or spec.ffn:
            scores = _scores(whole, batches, spec, context)
            kept = pruning.choose(scores, after, spec.scope)
            whole = pruning.pruned(whole, kept)
            facts["removed_score"] = pruning.removed_share(scores, kept)
        student = put_together(whole)
        facts.update(heads=whole.heads, neurons=whole.neurons, parameters=student.num_parameters())
        return student, facts

    return make


def _trimmed(source: Path, folder: Path, spec: PruneSpec, limits: VocabularySpec, context: Context) -> Facts:
    """Writes the checkpoint with fewer tokens into a folder."""
    import torch

    from compressor.data import trimming
    from compressor.surgery.families import put_together, take_apart
    from compressor.surgery.vocabulary import with_tokens
    from compressor.training import token_usage
    from compressor.training.stage import row_batches

    tokenizer = checkpoint.load_tokenizer(source)
    texts = row_batches(source, spec, context).token_ids
    if context.texts is not None:
        texts = token_usage.of_texts(context.texts, tokenizer)
    whole = take_apart(checkpoint.load_model(source, context.task, **context.head))
    size = len(whole.outside["word.weight"])
    with context.progress.step(f"{spec.name or spec.kind}: counting tokens") as step:
        counts, read = token_usage.count(texts, size, step)
        if not counts.any():
            raise StageError("vocabulary.corpus has no text to count tokens in; name another, or leave it out")
        parts = json.loads(tokenizer.backend_tokenizer.to_str())
        trimmed = trimming.trim(parts, counts, keep=limits.keep, min_count=limits.min_count)
        gone = np.ones(size, dtype=np.bool_)
        gone[trimmed.sources] = False
        changed = token_usage.share_with(texts, gone)
    model = put_together(with_tokens(whole, torch.from_numpy(trimmed.sources)))
    checkpoint.save(folder, model, tokenizer)
    (folder / "tokenizer.json").write_text(json.dumps(trimmed.tokenizer, ensure_ascii=False), encoding="utf-8")
    before, after = len(tokenizer), len(trimmed.sources)
    of = "training rows" if context.texts is None else "texts"
    rare = float(counts[gone].sum() / counts.sum())
    note = (
        f"The vocabulary went from {before:,} to {after:,} tokens. Of {read:,} {of}, {changed:.2%} are now split "
        f"otherwise, where {rare:.2%} of all tokens stood. What could be split before still can."
    )
    shares = {"texts_changed": round(changed, 6), "tokens_changed": round(rare, 6)}
    return {"vocabulary": {"before": before, "after": after, "texts": read, **shares}, "notes": [note]}


def _without_layers(
    incoming: PreTrainedModel, source: Path, batches: RowBatches | MaskedBatches, spec: PruneSpec, context: Context
) -> tuple[Anatomy, Facts]:
    """What comes in without the layers that are to go, and which stayed."""
    from compressor.surgery.families import take_apart
    from compressor.surgery.student import chosen_layers, least_harmful
    from compressor.training import initial

    total = int(incoming.config.num_hidden_layers)
    if not spec.layers:
        return take_apart(incoming), {}
    facts: Facts = {}
    if isinstance(spec.layers, int):
        with context.progress.step(f"{spec.name or spec.kind}: which layers matter") as step:
            harm = initial.harm(incoming, initial.samples(batches), Checkpoint(source).has_head(context.task), step)
            layers, facts["importance"] = least_harmful(incoming, total - spec.layers, harm)
    else:
        chosen_layers(total, None, spec.layers)  # refuses those that are not there
        layers = [layer for layer in range(total) if layer not in spec.layers]
    return take_apart(incoming).with_layers(layers), {"layers": layers, **facts}


def _scores(whole: Anatomy, batches: RowBatches | MaskedBatches, spec: PruneSpec, context: Context) -> Scores:
    """What each head and neuron is worth."""
    from compressor.recipe import MASKED_LM
    from compressor.surgery import pruning
    from compressor.surgery.families import put_together
    from compressor.training import initial
    from compressor.training.importance import taylor
    from compressor.training.objectives import Labels, MaskedLanguageModel

    if spec.scoring == "random":
        return pruning.chances(whole, context.seed)
    if spec.scoring == "magnitude":
        return pruning.magnitudes(whole)
    model = put_together(whole)
    sample = initial.samples(batches)
    objective = MaskedLanguageModel(model, "order" in sample[0]) if context.task == MASKED_LM else Labels()
    with context.progress.step(f"{spec.name or spec.kind}: which heads and neurons matter") as step:
        return taylor(model, sample, objective, step)
