"""Whether a recipe's stages make sense together, and on the checkpoint that comes in."""

from __future__ import annotations

from collections.abc import Mapping

from compressor.checkpoint import Checkpoint
from compressor.data import trimming
from compressor.errors import StageError
from compressor.fingerprint import installed
from compressor.metrics import METRICS, QUANTIZED_PARITY, RELATIVE_RULES
from compressor.quantization.neural import INSTALL
from compressor.recipe import COLUMNS, MASKED_LM, REGRESSION, Recipe, gate_metrics
from compressor.recipe_deployment import ExportSpec, QuantizeSpec
from compressor.recipe_errors import Location, suggest
from compressor.recipe_stages import FinetuneSpec, PruneSpec
from compressor.recipe_training import DistillationSpec, ObjectiveSpec, StageSpec, TrainingSpec
from compressor.runtimes import baked, executorch, wordpiece
from compressor.validate_pairs import check_family, check_order_head
from compressor.validate_shapes import Add, Shape, check_shape

_NAMES_IN_REPORTS = {"baseline": "the teacher", REGRESSION: "the comparison with another run"}
_ONLY_TASK = ("alpha_hard", "alpha_attention", "layer_map")
_ONLY_PRETRAINING = ("alpha_mlm", "alpha_order", "top_k", "mlm_probability", "masking", "maskings")

NO_LANGUAGE_MODEL = (
    "the teacher has no masked-LM head, so it has no soft targets",
    "train one first with `- {stage: finetune, objective: pretraining}` (in a recipe with task: masked-lm, "
    "`- stage: finetune`), or distil hidden states without logits: `alpha_soft: 0`",
)
"""What is wrong with a teacher without a language model's head, and the two ways out."""


def first_stage(recipe: Recipe, task: str) -> tuple[int, StageSpec] | None:
    """The first stage of a task, with its index."""
    return next(((i, stage) for i, stage in enumerate(recipe.stages) if recipe.task_of(stage) == task), None)


def check_data(recipe: Recipe, add: Add) -> None:
    """Whether every task of the stages has something to learn from."""
    data = recipe.data
    if recipe.task != MASKED_LM and data.train is None:
        add(
            ("data", "train"),
            f"is missing, and {recipe.task} learns from rows",
            "name a file, package:PKG/path or hub id",
        )
    if recipe.task == MASKED_LM:
        for key in ("train", "validation"):
            if getattr(data, key) is not None:
                hint = "give the text as data.corpus; some of it is held out (data.corpus.validation_fraction)"
                add(("data", key), "masked-lm learns from raw text", hint)
    for key in {key for keys in COLUMNS.values() for key in keys} - set(COLUMNS[recipe.task]):
        if key in data.model_fields_set:
            fitting = ", ".join(task for task, keys in COLUMNS.items() if key in keys)
            allowed = ", ".join(COLUMNS[recipe.task])
            hint = f"of these keys {recipe.task} has {allowed}" if allowed else "drop it"
            add(("data", key), f"is for {fitting}, not for {recipe.task}", hint)
    if data.corpus is None and (found := first_stage(recipe, MASKED_LM)):
        hint = "name raw text: a txt, csv, tsv, jsonl or parquet file, package:PKG/path or {hub: id}"
        add(("data", "corpus"), f"is missing, and stages[{found[0]}] pretrains on it", hint)


def check_order(recipe: Recipe, add: Add) -> None:
    """Whether the stages can follow each other."""
    names = recipe.stage_names()
    for index, name in enumerate(names):
        if name in names[:index]:
            add(("stages", index, "name"), f"two stages are called {name!r}", "give each its own `name`")
        if name in _NAMES_IN_REPORTS:
            add(("stages", index, "name"), f"{name!r} names {_NAMES_IN_REPORTS[name]} in the report", "choose another")
    quantized = exported = pretrained = False
    for index, stage in enumerate(recipe.stages):
        if exported:
            add(("stages", index), f"{stage.kind} comes after export", "export ships; make it the last stage")
        elif quantized and not isinstance(stage, ExportSpec):
            hint = "integers cannot be trained or cut; move quantize behind it"
            add(("stages", index), f"{stage.kind} comes after quantize", hint)
        pretraining = recipe.task_of(stage) == MASKED_LM
        if (
            pretrained
            and not pretraining
            and (not isinstance(stage, TrainingSpec) or isinstance(stage, PruneSpec | QuantizeSpec))
        ):
            what = f"{stage.kind} follows pretraining, which leaves no head for {recipe.task}"
            add(("stages", index), what, "put a finetune or distill stage in between")
        pretrained = pretraining and recipe.task != MASKED_LM
        quantized |= isinstance(stage, QuantizeSpec)
        exported |= isinstance(stage, ExportSpec)
    if quantized and recipe.measure.runtime != "onnxruntime":
        what = f"quantize writes ONNX, which {recipe.measure.runtime} does not run"
        add(("measure", "runtime"), what, "use onnxruntime, or leave quantize out")


def check_baked(recipe: Recipe, incoming: Checkpoint | None, add: Add) -> None:
    """Whether a tokenizer that is to be baked into an ONNX file can be."""
    for index, stage in enumerate(recipe.stages):
        if not isinstance(stage, ExportSpec) or stage.tokenizer != "baked":
            continue
        place = ("stages", index, "tokenizer")
        if recipe.task_of(stage) != "text-classification":
            what = f"is baked: a label for each text comes out, and {recipe.task_of(stage)} has none"
            add(place, what, "use tokenizer: files")
        if not baked.installed():
            add(place, "is baked, which needs the package onnxruntime-extensions", baked.INSTALL)
        if incoming is not None and (why := wordpiece.unsupported_file(incoming.path / "tokenizer.json")):
            add(place, f"is baked, and the checkpoint's cannot be: {why}", "use tokenizer: files")


def check_extras(recipe: Recipe, add: Add) -> None:
    """Whether the libraries are there that stages ask for and that a plain installation does not bring."""
    for index, stage in enumerate(recipe.stages):
        if absent := [library for library in stage.libraries if not installed(library)]:
            what = f"neural_compressor needs {', '.join(absent)}, not installed here"
            add(("stages", index, "backend"), what, f"{INSTALL}, or use onnxruntime")


def check_targets(recipe: Recipe, add: Add) -> None:
    """Whether what writes the targets is installed."""
    for index, stage in enumerate(recipe.stages):
        if isinstance(stage, ExportSpec) and "executorch" in stage.targets and not executorch.installed():
            what = "has executorch, and the package of that name is not installed"
            add(("stages", index, "targets"), what, executorch.INSTALL)


def check_pruned(recipe: Recipe, add: Add) -> None:
    """Whether what a stage has trimmed or made zero stays so."""
    trimmed = sparse = False
    for index, stage in enumerate(recipe.stages):
        if trimmed and recipe.task_of(stage) == MASKED_LM:
            what = "pretraining starts from the whole vocabulary again, and a stage before it has trimmed that"
            add(("stages", index), what, "put the prune stage behind it")
        if sparse and isinstance(stage, TrainingSpec) and stage.trains:
            what = f"{stage.kind} trains, and would fill the zeros that a stage before it has made"
            add(("stages", index), what, "put the prune stage with sparsity or pattern behind it")
        if isinstance(stage, PruneSpec):
            trimmed |= stage.vocabulary is not None
            sparse |= bool(stage.sparsity or stage.pattern)


def check_objectives(recipe: Recipe, add: Add) -> None:
    """Whether each training stage's keys belong to what it trains on, and leave something to learn from."""
    pairs = recipe.data.corpus_spec is not None and recipe.data.corpus_spec.sentence_order
    for index, stage in enumerate(recipe.stages):
        if not isinstance(stage, ObjectiveSpec):
            continue
        pretraining = recipe.task_of(stage) == MASKED_LM
        for key in _ONLY_TASK if pretraining else _ONLY_PRETRAINING:
            if key in stage.model_fields_set:
                other = "training on the task's rows" if pretraining else "objective: pretraining"
                add(("stages", index, key), f"is for {other}", "drop it, or change the objective")
        if pretraining and isinstance(stage, PruneSpec) and stage.vocabulary is not None:
            what = "changes the tokens, and pretraining learns which tokens the teacher guesses"
            add(("stages", index, "vocabulary"), what, "trim in a stage that trains on the task's rows")
        if isinstance(stage, FinetuneSpec) and stage.alpha_mlm == 0:
            what = "is 0, and finetune trains a language model: its head would stay as it is"
            add(("stages", index, "alpha_mlm"), what, "make it positive")
        if not isinstance(stage, DistillationSpec):
            continue
        pretraining_weights = ("soft", "mlm", "cosine", *(["order"] if pairs else []))
        weights = pretraining_weights if pretraining else ("soft", "hard", "cosine", "attention")
        given = [getattr(stage, f"alpha_{name}") for name in weights]
        positive_by_default = pretraining_weights if pretraining else ("soft", "hard")
        if not any(
            value if value is not None else name in positive_by_default
            for name, value in zip(weights, given, strict=True)
        ):
            what = f"{', '.join(f'alpha_{name}' for name in weights)} are all 0: nothing to learn from"
            add(("stages", index, "alpha_soft"), what, "make one positive")


def check_gates(recipe: Recipe, add: Add) -> None:
    """Whether each gate's metric is measured there and its rules make sense for it."""
    for index, stage in enumerate(recipe.stages):
        for name, gate in stage.gates.items():
            place = ("stages", index, "gates", name)
            if not _check_rules(name, gate.limits, recipe.task_of(stage), place, add):
                continue
            if name == QUANTIZED_PARITY and not _compares_quantized(recipe, index):
                what = "compares formats of a quantized graph, and there is one at most"
                add(place, what, "quantize, and add torchscript or ort to targets; or drop the gate")
            elif METRICS[name].kind == "parity" and not isinstance(stage, ExportSpec):
                add(place, f"{name} is measured where formats are exported", "move the gate to export")
    for name, regression_gate in (recipe.regression or {}).items():
        _check_rules(name, regression_gate.limits, recipe.task, (REGRESSION, name), add)


def _check_rules(name: str, limits: Mapping[str, float], task: str, place: Location, add: Add) -> bool:
    """Whether a gate's metric is measured in a task; notes that, and rules that make no sense for it."""
    allowed = gate_metrics(task)
    if name not in allowed:
        what = f"unknown metric {name!r}" if name not in METRICS else f"{name!r} is not measured in {task}"
        add(place, what, suggest(name, allowed))
        return False
    rules = METRICS[name].rules
    if place[0] == REGRESSION:
        rules = tuple(rule for rule in rules if rule in RELATIVE_RULES)
    for rule in limits:
        if rule not in rules:
            hint = f"allowed: {', '.join(rules)}" if rules else "drop the gate"
            add((*place, rule), f"{rule} makes no sense for {name}", hint)
    return True


def _compares_quantized(recipe: Recipe, index: int) -> bool:
    """Whether a stage leaves a quantized graph and a format that is made of it."""
    stage = recipe.stages[index]
    quantized = any(isinstance(before, QuantizeSpec) for before in recipe.stages[:index])
    return quantized and isinstance(stage, ExportSpec) and not {"torchscript", "ort"}.isdisjoint(stage.targets)


def check_checkpoint(
    recipe: Recipe, incoming: Checkpoint, add: Add, students: Mapping[int, Checkpoint] | None = None
) -> None:
    """Whether the stages can work on a checkpoint: its head, layers, width and position table.

    Args:
        recipe: The recipe.
        incoming: The recipe's model.
        add: Called with location, what, hint for each problem.
        students: Ready checkpoints that stages start from, by index, as far as they are here.
    """
    _check_heads(recipe, incoming, add)
    check_order_head(recipe, incoming, add)
    _check_vocabulary(recipe, incoming, add)
    source = Shape.of(incoming)
    if recipe.measure.sequence_length > source.table:
        what = f"is {recipe.measure.sequence_length}, but the checkpoint's position table has {source.table} rows"
        add(("measure", "sequence_length"), what, f"at most {source.table}")
    shapes = {MASKED_LM: source, recipe.task: source}
    teachers: dict[str, Shape] = {}
    for index, stage in enumerate(recipe.stages):
        task = recipe.task_of(stage)
        shape = shapes[task]
        teacher = teachers.setdefault(task, shape if isinstance(stage, FinetuneSpec) else source)
        shape = check_shape(stage, index, shape, teacher, (students or {}).get(index), add)
        check_family(recipe, index, shape.family, add)
        length = stage.max_sequence_length if isinstance(stage, TrainingSpec) else None
        if length is not None and length > shape.table:
            what = f"is {length}, but the checkpoint's position table has {shape.table} rows"
            add(("stages", index, "max_sequence_length"), what, f"at most {shape.table}")
        shapes[task] = shapes[recipe.task] = shape


def _check_vocabulary(recipe: Recipe, incoming: Checkpoint, add: Add) -> None:
    """Whether the tokenizer can be trimmed as far as the stages say."""
    for index, stage in enumerate(recipe.stages):
        if not isinstance(stage, PruneSpec) or stage.vocabulary is None:
            continue
        try:
            found = trimming.bounds(incoming.path)
        except StageError as error:
            add(("stages", index, "vocabulary"), str(error), "")
            return
        if found is None or (keep := stage.vocabulary.keep) is None:
            continue
        least, most = found
        if keep < least:
            add(("stages", index, "vocabulary", "keep"), f"is {keep}", trimming.too_few(least))
        elif keep > most:
            add(("stages", index, "vocabulary", "keep"), f"is {keep}, but there are {most} tokens", f"at most {most}")


def _check_heads(recipe: Recipe, incoming: Checkpoint, add: Add) -> None:
    """Whether the teacher of each task has a head for it, or is given one."""
    first = first_stage(recipe, recipe.task)
    if first and recipe.task != MASKED_LM and not isinstance(first[1], FinetuneSpec):
        if first[0] > 0:
            hint = "make the task's teacher first: `- stage: finetune`"
            add(("stages", first[0]), f"there is no teacher for {recipe.task} before it", hint)
        elif not incoming.has_head(recipe.task):
            architecture = ", ".join(incoming.config.get("architectures") or ["no architecture"])
            what = f"the checkpoint ({architecture}) has no head for {recipe.task}"
            add(("model",), what, "make `- stage: finetune` the first stage, or give a fine-tuned checkpoint")
    first = first_stage(recipe, MASKED_LM)
    if first is None or isinstance(first[1], FinetuneSpec) or incoming.has_head(MASKED_LM):
        return
    index, stage = first
    if not isinstance(stage, DistillationSpec) or isinstance(stage, QuantizeSpec):
        add(("model",), f"the checkpoint has no head for {MASKED_LM}", "make `- stage: finetune` the first stage")
    elif stage.alpha_soft != 0:
        add(("stages", index, "alpha_soft"), *NO_LANGUAGE_MODEL)
    elif stage.alpha_mlm == 0:
        what = "is 0, and the teacher has no masked-LM head: the student's would stay untrained"
        add(("stages", index, "alpha_mlm"), what, "make it positive")
    for name, gate in stage.gates.items():
        for rule in sorted(RELATIVE_RULES.intersection(gate.limits)):
            what = "there is nothing to compare with: the teacher has no masked-LM head"
            add(("stages", index, "gates", name, rule), what, "use min or max, or train the teacher's head first")
