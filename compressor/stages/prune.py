"""Removes heads, neurons and layers, and trains the student back to match the teacher."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
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

    from compressor.progress import Step
    from compressor.surgery.anatomy import Anatomy
    from compressor.surgery.pruning import Scores
    from compressor.surgery.widths import Widths
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
    from compressor.surgery import pruning
    from compressor.surgery.families import put_together

    def make(incoming: PreTrainedModel, batches: RowBatches | MaskedBatches) -> tuple[PreTrainedModel, Facts]:
        sample = _Sample(start, incoming, batches, spec, context)
        whole = _without_layers(sample, facts)
        if spec.heads or spec.ffn or spec.target is not None:
            scores = sample.scores(whole)
            kept = pruning.choose(scores, _widths(sample, whole, scores, facts), spec.scope)
            whole = pruning.pruned(whole, kept)
            facts["removed_score"] = pruning.removed_share(scores, kept)
        student = put_together(whole)
        facts.update(heads=whole.heads, neurons=whole.neurons, parameters=student.num_parameters())
        return student, facts

    return make


@dataclass(frozen=True)
class _Sample:
    """Training rows to try things on.

    Attributes:
        start: The incoming checkpoint's folder.
        incoming: The incoming model.
        batches: The rows.
        spec: The stage's keys.
        context: Seed, progress.
    """

    start: Path
    incoming: PreTrainedModel
    batches: RowBatches | MaskedBatches
    spec: PruneSpec
    context: Context

    @contextmanager
    def harm(self, what: str) -> Iterator[Callable[[PreTrainedModel], float]]:
        """How far a model is from the incoming one."""
        from compressor.training import initial

        has_head = Checkpoint(self.start).has_head(self.context.task)
        with self._step(what) as step:
            yield initial.harm(self.incoming, initial.samples(self.batches), has_head, step)

    def scores(self, whole: Anatomy) -> Scores:
        """What each head and neuron of a model is worth."""
        from compressor.recipe import MASKED_LM
        from compressor.surgery import pruning
        from compressor.surgery.families import put_together
        from compressor.training import initial
        from compressor.training.importance import taylor
        from compressor.training.objectives import Labels, MaskedLanguageModel

        if self.spec.scoring == "random":
            return pruning.chances(whole, self.context.seed)
        if self.spec.scoring == "magnitude":
            return pruning.magnitudes(whole)
        model, batches = put_together(whole), initial.samples(self.batches)
        pairs = "order" in batches[0]
        objective = MaskedLanguageModel(model, pairs) if self.context.task == MASKED_LM else Labels()
        with self._step("which heads and neurons matter") as step:
            return taylor(model, batches, objective, step)

    def _step(self, what: str) -> AbstractContextManager[Step]:
        return self.context.progress.step(f"{self.spec.name or self.spec.kind}: {what}")


def _without_layers(sample: _Sample, facts: Facts) -> Anatomy:
    """The incoming model without the layers that are to go."""
    from compressor.surgery.families import take_apart
    from compressor.surgery.student import chosen_layers, least_harmful

    whole, gone = take_apart(sample.incoming), sample.spec.layers
    total = whole.num_hidden_layers
    if not gone:
        return whole
    if isinstance(gone, int):
        with sample.harm("which layers matter") as harm:
            layers, facts["importance"] = least_harmful(sample.incoming, total - gone, harm)
    else:
        chosen_layers(total, None, gone)  # refuses those that are not there
        layers = [layer for layer in range(total) if layer not in gone]
    facts["layers"] = layers
    return whole.with_layers(layers)


def _widths(sample: _Sample, whole: Anatomy, scores: Scores, facts: Facts) -> Widths:
    """How many heads and neurons stay."""
    from compressor.surgery import widths
    from compressor.training.fitting import Target, fit, number

    spec = sample.spec
    if spec.target is None:
        return widths.after(whole.heads, whole.neurons, (spec.heads, spec.ffn), spec.scope)
    ((metric, limit),) = spec.target.limits.items()
    with sample.harm(f"widths for {metric} of {number(limit)}") as harm:
        found, facts["target"] = fit(whole, scores, spec.scope, Target(metric, limit), sample.context.trial, harm)
    return found


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
