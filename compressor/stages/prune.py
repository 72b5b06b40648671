"""Removes heads, neurons and layers, and recovers accuracy by distillation."""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from compressor.data.spec import TextSpec
from compressor.errors import Add, StageError
from compressor.models import tokenizers
from compressor.models.checkpoint import Checkpoint
from compressor.models.families.compact_bert import NAME as COMPACT_BERT
from compressor.models.sentence_embedding import Unsupported
from compressor.models.shape import Shape
from compressor.models.surgery import pruning_widths
from compressor.stages.base import Stage, StageSpec, refuse_inside, refuse_moved_first
from compressor.training import processes
from compressor.training.context import Context, Facts
from compressor.training.pruning_spec import PruningSpec
from compressor.training.spec import TargetSpec

if TYPE_CHECKING:
    from compressor.models.surgery.pruning_widths import Widths


class PruneSpec(PruningSpec, StageSpec):
    """Removes heads, feed-forward neurons, layers and tokens, and recovers accuracy by distillation.

    Rows and columns leave the weights, so that files are smaller and kernels faster. Fewer layers and feed-forward
    networks of one width are still a plain BERT, DistilBERT or ALBERT; fewer heads, and widths that differ from layer
    to layer, are a `compact_bert` (`compressor.models.register()`). What layers share is pruned once.
    """

    stage: Literal["prune"]
    """The kind of stage."""

    @property
    def trims_vocabulary(self) -> bool:
        """With `vocabulary`."""
        return self.vocabulary is not None

    @property
    def counted_text(self) -> TextSpec | None:
        """The text of `vocabulary.corpus`."""
        return None if self.vocabulary is None else self.vocabulary.text

    @property
    def trial(self) -> Literal["size", "latency", "quality"] | None:
        """The metric of `target`, if it has to be measured."""
        if self.target is None or self.target.num_parameters is not None:
            return None
        return "latency" if self.target.latency_p50_ms else "size"

    def leaves(self, shape: Shape, teacher: Shape, ready: Shape | None, add: Add) -> Shape:
        """See `StageSpec.leaves`."""
        layers = shape.layers
        removed = self.layers if isinstance(self.layers, int) else len(set(self.layers))
        if isinstance(self.layers, tuple) and (wrong := [layer for layer in self.layers if layer >= layers]):
            what = f"there is no layer {wrong[0]}; {layers} layers come in"
            add(("layers",), what, f"allowed: 0 to {layers - 1}")
        elif removed >= layers:
            what = f"removes {removed} of {layers} layers"
            add(("layers",), what, f"at most {layers - 1}")
        elif isinstance(self.layers, tuple):
            refuse_moved_first(shape, [layer for layer in range(layers) if layer not in self.layers], add)
        for key in ("heads", "ffn", "target"):
            if getattr(self, key):
                refuse_inside(shape, (key,), add)
        heads = self._stays("heads", shape.heads, 1, add)
        neurons = self._stays("ffn", shape.neurons, pruning_widths.NEURON_GROUP, add)
        words = shape.words if self.vocabulary is None else self.vocabulary.keep
        if self.target is not None:
            heads = neurons = None
            self._check_target(self.target, (words or 0) * shape.embedding, add)
        dense = shape.dense
        if self.vectors is not None:
            dense = self.vectors.dimensions
            most = shape.vector - (self.vectors.reduction == "first")
            if dense > most:
                what = f"is {dense}, and {shape.vector} numbers come in"
                add(("vectors", "dimensions"), what, f"at most {most}")
        return replace(
            shape,
            dense=dense,
            words=words,
            family=COMPACT_BERT if heads != shape.heads or neurons is None else shape.family,
            layers=max(1, layers - removed),
            heads=heads,
            neurons=neurons,
        )

    @staticmethod
    def _check_target(target: TargetSpec, embeddings: int, add: Add) -> None:
        """Notes a target that the table of words alone is above; `embeddings` counts its parameters."""
        ((metric, limit),) = target.limits.items()
        least = {"num_parameters": embeddings, "size_bytes": 4 * embeddings}.get(metric, 0)
        if limit < least:
            what = f"is {limit:,.0f}, but the embeddings of the words alone take {least:,}"
            add(("target", metric), what, "ask for more, or trim the tokens too: `vocabulary: {keep: …}`")

    def _stays(self, key: str, count: int | None, group: int, add: Add) -> int | None:
        """Heads or neurons that stay in each layer of `count`; None where only the stage will know."""
        share: float = getattr(self, key)
        if count is None or share == 0:
            return count
        # Of equal layers, a share of all leaves each of them enough just where a share of each does.
        left, needed = pruning_widths.kept(count, share, group), min(group, count)
        if left < needed:
            add((key,), f"is {share:g}", pruning_widths.too_much(count, needed, group))
        return None if self.scope == "global" else max(left, needed)

    def check(self, task: str, incoming: Checkpoint | None, add: Add) -> None:
        """Whether the tokenizer can be trimmed as far as `vocabulary` says, and the target measured."""
        if self.target is not None and self.target.latency_p50_ms and processes.count() > 1:
            what = "is measured in one process, and this is one of several that train together"
            add(("target", "latency_p50_ms"), what, "run without torchrun", kind="conflict")
        if self.vectors is not None and self.vectors.reduction == "pca" and incoming is not None:
            self._check_activation(incoming, add)
        if incoming is None or self.vocabulary is None:
            return
        try:
            found = tokenizers.bounds(incoming.path)
        except StageError as error:
            add(("vocabulary",), str(error), "")
            return
        if found is None or (keep := self.vocabulary.keep) is None:
            return
        least, most = found
        if keep < least:
            add(("vocabulary", "keep"), f"is {keep}", tokenizers.too_few(least))
        elif keep > most:
            add(("vocabulary", "keep"), f"is {keep}, but there are {most} tokens", f"at most {most}")

    @staticmethod
    def _check_activation(incoming: Checkpoint, add: Add) -> None:
        """Notes vectors that cannot be rotated."""
        with suppress(Unsupported):  # a problem of the model's already
            if incoming.embedding.dense is not None and incoming.embedding.activation != "identity":
                what = "is pca, and the model's dense layer ends in tanh, behind which nothing can be folded into it"
                hint = "use reduction: first, which keeps its first numbers"
                add(("vectors", "reduction"), what, hint, kind="conflict")


def run(source: Path, output: Path, spec: PruneSpec, context: Context) -> Facts:
    """Prunes, and recovers; vectors become smaller at last, so that recovery can compare them with the teacher's.

    Args:
        source: Checkpoint folder.
        output: Empty folder for the student.
        spec: The stage's keys.
        context: Teacher, rows or corpus, seed, progress.
    """
    from compressor.training import vector_reduction
    from compressor.training.prune_step import together
    from compressor.training.train_stage import build_once

    if (limits := spec.vectors) is None:
        return _pruned(source, output, spec, context)
    whole, facts = source, Facts()
    if spec.cuts:
        whole = context.work / "pruned"
        facts = build_once(whole, lambda folder: _pruned(source, folder, spec, context))
    return together(facts, vector_reduction.reduced(whole, output, spec, limits, context))


def _pruned(source: Path, output: Path, spec: PruneSpec, context: Context) -> Facts:
    """Removes what is inside the encoder, and recovers."""
    from compressor.training import vocabulary_trimming
    from compressor.training.prune_step import prune_step, read_goal, together
    from compressor.training.sparse_training import sparsity_facts
    from compressor.training.train_stage import build_once

    start, facts = source, Facts()
    if (limits := spec.vocabulary) is not None:
        start = context.work / "trimmed"
        facts = build_once(start, lambda folder: vocabulary_trimming.trimmed(source, folder, spec, limits, context))
    goal: Widths | None = None
    done = list[Facts]()
    for number in range(1, spec.steps):
        inside = replace(context, work=context.work / f"training_{number}")
        folder = context.work / f"step_{number}"
        done.append(
            build_once(folder, partial(prune_step, start, _part(spec, number), inside, spec.steps - number, goal))
        )
        shutil.rmtree(inside.work, ignore_errors=True)
        goal = goal or read_goal(folder)
        start = folder
    last = prune_step(start, _part(spec, spec.steps), context, 0, goal, output)
    first = {name: value for found in done for name, value in found.items() if name in _OF_THE_FIRST}
    cuts: Facts = {"cuts": [_summary(found) for found in (*done, last)]} if done else {}
    # Of processes that train together, only the first has written the student.
    zeros = sparsity_facts(source, output) if spec.makes_zeros and processes.rank() == 0 else {}
    return together(facts, first, last, cuts, zeros)


_OF_THE_FIRST = ("layers", "importance", "target")
"""Facts of the first step alone."""


def _summary(facts: Facts) -> Facts:
    """The facts of a step that reports show for each step."""
    return {name: facts[name] for name in ("heads", "neurons", "parameters", "removed_score", "steps")}


def _part(spec: PruneSpec, number: int) -> PruneSpec:
    """The keys of one of the steps: the last has half of the training, those before share the other half."""
    if spec.steps == 1:
        return spec
    share = 0.5 if number == spec.steps else 0.5 / (spec.steps - 1)
    shorter = None if spec.max_steps is None else max(1, int(spec.max_steps * share))
    return spec.model_copy(update={"epochs": spec.epochs * share, "max_steps": shorter})


STAGE = Stage(PruneSpec, run)
