"""One step of the prune stage: scores heads and neurons, cuts, and recovers accuracy by distillation."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressor.errors import StageError
from compressor.models.surgery import pruning_widths
from compressor.models.surgery.pruning_widths import Widths
from compressor.training.context import Context, Facts
from compressor.training.pruning_spec import PruningSpec

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from compressor.models.parts import ModelParts
    from compressor.models.surgery.prune import Scores
    from compressor.training.distillation import TrainingData
    from compressor.training.sparse_training import Zeros
    from compressor.training.trainer import Objective


def prune_step(
    start: Path, spec: PruningSpec, context: Context, steps_after: int, goal: Widths | None, output: Path
) -> Facts:
    """One step, from a checkpoint to a checkpoint: scores, cuts and recovers.

    Args:
        start: The checkpoint that the step cuts.
        spec: The stage's keys, with the training of this step.
        context: Teacher, rows or corpus, seed, a work folder of this step's own, progress.
        steps_after: How many steps follow.
        goal: How many heads and neurons the last step leaves; None in the first step, which finds out.
        output: Empty folder for the student; a step that others follow leaves the goal there, too.
    """
    from compressor.training import distillation
    from compressor.training.sparse_training import KeepZeros, Zeros

    data = distillation.prepare(start, spec, context)
    zeros = Zeros(spec.sparsity, spec.kept_of, spec.scope) if spec.makes_zeros else None
    student, goal, facts = _cut(data.load_model(), data, spec, context, steps_after, goal, zeros)
    # Zeros come with the last step's training: the others would fill them.
    callbacks = [KeepZeros(zeros)] if zeros is not None and not steps_after else []
    trained = distillation.recover(student, data, output, callbacks=callbacks)
    if steps_after and goal is not None:
        (output / _GOAL).write_text(json.dumps(asdict(goal)), encoding="utf-8")
    return together(facts, trained)


def together(*parts: Facts) -> Facts:
    """Facts as one; notes follow each other."""
    notes = [note for part in parts for note in part.get("notes", [])]
    whole = {name: value for part in parts for name, value in part.items()}
    return whole | ({"notes": notes} if notes else {})


_GOAL = "goal.json"


def read_goal(folder: Path) -> Widths:
    """The goal that the first step left beside its checkpoint."""
    kept = json.loads((folder / _GOAL).read_text(encoding="utf-8"))
    return Widths(tuple(kept["heads"]), tuple(kept["neurons"]))


def _cut(
    incoming: PreTrainedModel,
    data: TrainingData,
    spec: PruningSpec,
    context: Context,
    steps_after: int,
    goal: Widths | None,
    zeros: Zeros | None,
) -> tuple[PreTrainedModel, Widths | None, Facts]:
    """The student of a step before training, the goal if heads or neurons are to go, and how the student was made."""
    from compressor.models.convert import from_parts, to_parts
    from compressor.models.surgery import prune
    from compressor.models.surgery.sparsity import matrices
    from compressor.training.sparse_training import make_zero

    facts = Facts()
    whole = to_parts(incoming)
    if goal is None and spec.layers:
        layers = _layers_that_stay(incoming, data, spec, context, facts)
        whole = whole.with_layers(layers)
    if spec.heads or spec.ffn or spec.target is not None:
        scores = _scores(whole, data, spec, context)
        goal = goal or _goal(incoming, data, whole, scores, spec, context, facts)
        now = pruning_widths.Widths(
            pruning_widths.pools(whole.heads, spec.scope), pruning_widths.pools(whole.neurons, spec.scope)
        )
        kept = prune.choose(scores, pruning_widths.towards(now, goal, steps_after + 1), spec.scope)
        whole = prune.pruned(whole, kept)
        facts["removed_score"] = prune.removed_share(scores, kept)
    student = from_parts(whole)
    if zeros is not None and not spec.trains:
        weights = matrices(student)
        make_zero(weights, zeros.masks(weights))
    widths = {} if whole.layers else {"heads": whole.heads, "neurons": whole.neurons}
    facts.update(**widths, parameters=student.num_parameters())
    return student, goal, facts


def _layers_that_stay(
    incoming: PreTrainedModel, data: TrainingData, spec: PruningSpec, context: Context, facts: Facts
) -> list[int]:
    """The layers of the incoming model that `layers` leaves; adds them to the facts, with their importance."""
    from compressor.models.surgery.select_layers import chosen_layers, least_harmful
    from compressor.training import layer_search, processes

    total, gone = int(incoming.config.num_hidden_layers), spec.layers
    if isinstance(gone, int):
        with context.progress.step(f"{context.stage}: which layers matter") as step:

            def search() -> tuple[list[int], Any]:
                sample = layer_search.samples(data.batches)
                degradation = layer_search.degradation(incoming, sample, data.trained_head, step)
                return least_harmful(incoming, total - gone, degradation)

            layers, facts["importance"] = processes.decided(f"{processes.place(context.work)}: layers", search)
    else:
        chosen_layers(total, None, gone)  # refuses layers that are not there
        layers = [layer for layer in range(total) if layer not in gone]
    facts["layers"] = layers
    return layers


def _scores(whole: ModelParts, data: TrainingData, spec: PruningSpec, context: Context) -> Scores:
    """How much each head and neuron of a model matters."""
    import torch

    from compressor.models.convert import from_parts
    from compressor.models.surgery import prune
    from compressor.tasks import MASKED_LM, learned_from_rows
    from compressor.training import layer_search, processes
    from compressor.training.objectives import Directions, Labels, MaskedLanguageModel
    from compressor.training.taylor_importance import taylor

    if spec.scoring == "random":
        return prune.random_scores(whole, context.seed)
    if spec.scoring == "magnitude":
        return prune.magnitudes(whole)
    if data.trained_head is None:
        what = f"scoring: taylor needs a head that is trained, and the checkpoint has none for {context.task}"
        raise StageError(f"{what}; use scoring: magnitude, or train one first")
    model, sample = from_parts(whole), layer_search.samples(data.batches)
    if context.task == MASKED_LM:
        objective: Objective = MaskedLanguageModel(model, order=float("order" in sample[0]))
    elif context.model_head.vectors:
        objective = Directions(learned_from_rows(context.task))
    else:
        objective = Labels(learned_from_rows(context.task))
    with context.progress.step(f"{context.stage}: which heads and neurons matter") as step:

        def search() -> dict[str, list[list[float]]]:
            scores = taylor(model, sample, objective, step)
            return {name: [row.tolist() for row in getattr(scores, name)] for name in ("heads", "neurons")}

        found = processes.decided(f"{processes.place(context.work)}: scores", search)
        heads, neurons = (tuple(map(torch.tensor, found[name])) for name in ("heads", "neurons"))
        return prune.Scores(heads, neurons)


def _goal(
    incoming: PreTrainedModel,
    data: TrainingData,
    whole: ModelParts,
    scores: Scores,
    spec: PruningSpec,
    context: Context,
    facts: Facts,
) -> Widths:
    """How many heads and neurons the last step leaves; adds the search for a target to the facts."""
    from compressor.training import layer_search, processes
    from compressor.training.width_search import Target, fit, number

    if spec.target is None:
        return pruning_widths.after(whole.heads, whole.neurons, (spec.heads, spec.ffn), spec.scope)
    ((metric, limit),) = spec.target.limits.items()
    with context.progress.step(f"{context.stage}: widths for {metric} of {number(limit)}") as step:

        def search() -> tuple[dict[str, Any], Facts]:
            sample = layer_search.samples(data.batches)
            degradation = layer_search.degradation(incoming, sample, data.trained_head, step)
            widths, target = fit(whole, scores, spec.scope, Target(metric, limit), context.trial, degradation)
            return asdict(widths), target

        found, facts["target"] = processes.decided(f"{processes.place(context.work)}: widths", search)
    return Widths(tuple(found["heads"]), tuple(found["neurons"]))
