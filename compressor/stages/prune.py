"""Removes heads, neurons and layers, and trains the student back to match the teacher."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from compressor.data.spec import TextSpec
from compressor.errors import Add, StageError
from compressor.models import tokenizers
from compressor.models.checkpoint import Checkpoint
from compressor.models.families.compact_bert import NAME as COMPACT_BERT
from compressor.models.shape import Shape
from compressor.models.surgery import pruning_widths
from compressor.stages.base import Stage, StageSpec
from compressor.training.context import Context, Facts
from compressor.training.spec import RecoverySpec, TargetSpec, VocabularySpec

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from compressor.models.parts import ModelParts
    from compressor.models.surgery.prune import Scores
    from compressor.models.surgery.pruning_widths import Widths
    from compressor.progress import Step
    from compressor.training.batches import MaskedBatches, RowBatches
    from compressor.training.distillation import Make
    from compressor.training.sparse_training import Zeros


class PruneSpec(RecoverySpec, StageSpec):
    """Removes heads, feed-forward neurons, layers and tokens, and trains the student back to match the teacher.

    Rows and columns leave the weights, so that files are smaller and kernels faster. Fewer layers and feed-forward
    networks of one width are still a plain BERT, DistilBERT or ALBERT; fewer heads, and widths that differ from layer
    to layer, are a `compact_bert` (`compressor.models.register()`). What layers share is pruned
    once.
    """

    stage: Literal["prune"]
    """The kind of stage."""
    heads: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the attention heads to remove; at least one stays in each layer."""
    ffn: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the feed-forward neurons to remove. A multiple of eight stays in each layer, which kernels need to be
    fast, and eight at least."""
    layers: tuple[Annotated[int, Field(ge=0)], ...] | Annotated[int, Field(ge=1)] = ()
    """Whole layers to remove: a list, first layer 0, or a number of them: one after the other the layer whose absence
    changes the outputs least on a sample of the training rows."""
    vocabulary: VocabularySpec | None = None
    """Trim the WordPiece tokenizer and the token embeddings together. Hidden states are then compared with the
    teacher's only where both split every training row alike, unless `alpha_cosine` asks for it."""
    target: TargetSpec | None = None
    """Instead of `heads` and `ffn`: what the model may cost. Of the mixtures of both that meet it, the stage takes the
    one that changes the outputs least on a sample of the training rows, before recovery."""
    steps: Annotated[int, Field(ge=1)] = 1
    """Remove heads and neurons in so many steps, and score, cut and recover in each. The last recovers for half of
    `epochs` or `max_steps`, those before share the other half."""
    sparsity: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the weights in the layers' matrices that become zero, those of smallest magnitude: more and more over
    the first two thirds of recovery (cubic schedule), and kept at zero. This makes a compressed download smaller, and
    nothing faster. Only stages that do not train can follow."""
    pattern: Annotated[str, Field(pattern=r"^[1-9][0-9]*:[1-9][0-9]*$")] | None = None
    """Instead of `sparsity`, N:M such as `2:4`: of every M neighbouring weights at most N are not zero, for hardware
    that skips the others."""
    scope: Literal["layer", "global"] = "layer"
    """`layer`: every layer loses its share; `global`: the share is of all layers together, and those that matter more
    keep more."""
    scoring: Literal["taylor", "magnitude", "random"] = "taylor"
    """What heads and neurons are kept for: `taylor`, how much the loss on a sample of the training rows would change
    without them, to first order; `magnitude`, the norms of their weights; `random`, drawn by seed, for comparison."""

    @property
    def kept_of(self) -> tuple[int, int] | None:
        """N and M of the pattern."""
        if self.pattern is None:
            return None
        kept, _, of = self.pattern.partition(":")
        return int(kept), int(of)

    @model_validator(mode="after")
    def _makes_sense(self) -> PruneSpec:
        ways = ("heads", "ffn", "layers", "vocabulary", "target", "sparsity", "pattern")
        if not self.model_fields_set.intersection(ways):
            raise ValueError(f"nothing to remove; give at least one of {', '.join(ways)}")
        if self.target is not None and (self.heads or self.ffn):
            raise ValueError("target finds the shares of heads and ffn; drop them, or drop target")
        if self.sparsity and self.pattern:
            raise ValueError("sparsity and pattern are both given; keep one")
        if self.kept_of is not None and self.kept_of[0] >= self.kept_of[1]:
            raise ValueError(f"pattern is {self.pattern}: N of every M weights stay, so N must be less than M")
        if self.steps > 1 and not (self.heads or self.ffn or self.target):
            raise ValueError("steps removes heads and neurons bit by bit; give heads, ffn or target, or drop steps")
        if self.steps > 1 and not (self.epochs or self.max_steps):
            raise ValueError(f"steps is {self.steps}, but with 0 epochs nothing is learned in between; raise epochs")
        return self

    @property
    def trims_vocabulary(self) -> bool:
        """With `vocabulary`."""
        return self.vocabulary is not None

    @property
    def makes_zeros(self) -> bool:
        """With `sparsity` or `pattern`."""
        return bool(self.sparsity or self.pattern)

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
        heads = self._stays("heads", shape.heads, 1, add)
        neurons = self._stays("ffn", shape.neurons, pruning_widths.NEURON_GROUP, add)
        if self.target is not None:
            heads = neurons = None
        return replace(
            shape,
            family=COMPACT_BERT if heads != shape.heads or neurons is None else shape.family,
            layers=max(1, layers - removed),
            heads=heads,
            neurons=neurons,
        )

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
        """Whether the tokenizer can be trimmed as far as `vocabulary` says."""
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


def run(source: Path, output: Path, spec: PruneSpec, context: Context) -> Facts:
    """Prunes, and recovers.

    Args:
        source: Checkpoint folder.
        output: Empty folder for the student.
        spec: The stage's keys.
        context: Teacher, rows or corpus, seed, progress.
    """
    from compressor.training import vocabulary_trimming
    from compressor.training.distillation import distil
    from compressor.training.sparse_training import KeepZeros, told
    from compressor.training.train_stage import kept
    from compressor.training.trainer import rank

    start, facts, done, zeros = source, Facts(), list[Facts](), _zeros(spec)
    if (limits := spec.vocabulary) is not None:
        start = context.work / "trimmed"
        facts = kept(start, lambda folder: vocabulary_trimming.trimmed(source, folder, spec, limits, context))
    for number in range(1, spec.steps):
        step = partial(_step, number, start, spec, context, tuple(done))
        start = context.work / f"step_{number}"
        done.append(kept(start, step))
    last_spec, make = _part(spec, spec.steps), _make(start, spec, context, done)
    last = distil(start, output, last_spec, context, make, callbacks=[KeepZeros(zeros)] if zeros else [])
    first = {name: value for found in done for name, value in found.items() if name in _OF_THE_FIRST}
    cuts: Facts = {"cuts": [_brief(found) for found in (*done, last)]} if done else {}
    # Of processes that train together, the first alone has written the student, and tells facts.
    return _together(facts, first, last, cuts, told(source, output) if zeros and rank() == 0 else {})


def _zeros(spec: PruneSpec) -> Zeros | None:
    """Which weights become zero."""
    from compressor.training.sparse_training import Zeros

    return Zeros(spec.sparsity, spec.kept_of, spec.scope) if spec.sparsity or spec.pattern else None


_OF_THE_FIRST = ("layers", "importance", "target")
"""What is done in the first step alone."""


def _together(*parts: Facts) -> Facts:
    """Facts as one; notes follow each other."""
    notes = [note for part in parts for note in part.get("notes", [])]
    whole = {name: value for part in parts for name, value in part.items() if name != _GOAL}
    return whole | ({"notes": notes} if notes else {})


def _brief(facts: Facts) -> Facts:
    """What is told of a step."""
    return {name: facts[name] for name in ("heads", "neurons", "parameters", "removed_score", "steps")}


def _part(spec: PruneSpec, number: int) -> PruneSpec:
    """The keys of one of the steps: the last has half of the training, those before share the other half."""
    if spec.steps == 1:
        return spec
    share = 0.5 if number == spec.steps else 0.5 / (spec.steps - 1)
    shorter = None if spec.max_steps is None else max(1, int(spec.max_steps * share))
    return spec.model_copy(update={"epochs": spec.epochs * share, "max_steps": shorter})


def _step(number: int, start: Path, spec: PruneSpec, context: Context, done: Sequence[Facts], folder: Path) -> Facts:
    """One step before the last, from a checkpoint to a checkpoint."""
    from compressor.training.distillation import distil

    inside = replace(context, work=context.work / f"training_{number}")
    facts = distil(start, folder, _part(spec, number), inside, _make(start, spec, context, done))
    shutil.rmtree(inside.work, ignore_errors=True)
    return facts


_GOAL = "goal"
"""What the last step will have left, in the facts of the steps before."""


def _make(start: Path, spec: PruneSpec, context: Context, done: Sequence[Facts]) -> Make:
    """What makes the next step's student, given the facts of those that are done."""
    from compressor.models.convert import from_parts, to_parts
    from compressor.models.surgery import prune, pruning_widths
    from compressor.models.surgery.sparsity import matrices
    from compressor.training.sparse_training import make_zero

    def make(incoming: PreTrainedModel, batches: RowBatches | MaskedBatches) -> tuple[PreTrainedModel, Facts]:
        sample, facts = _Sample(start, incoming, batches, spec, context), Facts()
        whole = to_parts(incoming) if done else _without_layers(sample, facts)
        if spec.heads or spec.ffn or spec.target is not None:
            scores = sample.scores(whole)
            goal = (
                pruning_widths.Widths(*map(tuple, done[0][_GOAL].values()))
                if done
                else _goal(sample, whole, scores, facts)
            )
            now = pruning_widths.Widths(
                pruning_widths.pools(whole.heads, spec.scope), pruning_widths.pools(whole.neurons, spec.scope)
            )
            left = pruning_widths.towards(now, goal, spec.steps - len(done))
            kept = prune.choose(scores, left, spec.scope)
            whole = prune.pruned(whole, kept)
            facts.update({"removed_score": prune.removed_share(scores, kept), _GOAL: asdict(goal)})
        student = from_parts(whole)
        if (zeros := _zeros(spec)) is not None and not spec.trains:
            weights = matrices(student)
            make_zero(weights, zeros.masks(weights))
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
        from compressor.tasks import has_head
        from compressor.training import layer_search

        task = self.context.task if has_head(Checkpoint(self.start), self.context.task) else None
        with self._step(what) as step:
            yield layer_search.harm(self.incoming, layer_search.samples(self.batches), task, step)

    def scores(self, whole: ModelParts) -> Scores:
        """What each head and neuron of a model is worth."""
        from compressor.models.convert import from_parts
        from compressor.models.surgery import prune
        from compressor.tasks import MASKED_LM, has_head, learned_from_rows
        from compressor.training import layer_search
        from compressor.training.objectives import Labels, MaskedLanguageModel
        from compressor.training.taylor_importance import taylor

        if self.spec.scoring == "random":
            return prune.chances(whole, self.context.seed)
        if self.spec.scoring == "magnitude":
            return prune.magnitudes(whole)
        if not has_head(Checkpoint(self.start), self.context.task):
            what = f"scoring: taylor needs a head that is trained, and the checkpoint has none for {self.context.task}"
            raise StageError(f"{what}; use scoring: magnitude, or train one first")
        model, batches = from_parts(whole), layer_search.samples(self.batches)
        pairs = "order" in batches[0]
        objective = (
            MaskedLanguageModel(model, order=float(pairs))
            if self.context.task == MASKED_LM
            else Labels(learned_from_rows(self.context.task))
        )
        with self._step("which heads and neurons matter") as step:
            return taylor(model, batches, objective, step)

    def _step(self, what: str) -> AbstractContextManager[Step]:
        return self.context.progress.step(f"{self.context.stage}: {what}")


def _without_layers(sample: _Sample, facts: Facts) -> ModelParts:
    """The incoming model without the layers that are to go."""
    from compressor.models.convert import to_parts
    from compressor.models.surgery.select_layers import chosen_layers, least_harmful

    whole, gone = to_parts(sample.incoming), sample.spec.layers
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


def _goal(sample: _Sample, whole: ModelParts, scores: Scores, facts: Facts) -> Widths:
    """How many heads and neurons stay in the end."""
    from compressor.models.surgery import pruning_widths
    from compressor.training.width_search import Target, fit, number

    spec = sample.spec
    if spec.target is None:
        return pruning_widths.after(whole.heads, whole.neurons, (spec.heads, spec.ffn), spec.scope)
    ((metric, limit),) = spec.target.limits.items()
    with sample.harm(f"widths for {metric} of {number(limit)}") as harm:
        found, facts["target"] = fit(whole, scores, spec.scope, Target(metric, limit), sample.context.trial, harm)
    return found


STAGE = Stage(PruneSpec, run)
