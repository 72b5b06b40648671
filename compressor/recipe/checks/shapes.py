"""What a checkpoint is like after each stage of a recipe, and which stages it does not fit."""

from __future__ import annotations

from dataclasses import replace

from compressor.errors import Add
from compressor.models.checkpoint import Checkpoint
from compressor.models.registration import MODEL_TYPE
from compressor.models.shape import Shape
from compressor.models.surgery import pruning_widths
from compressor.stages.base import StageSpec
from compressor.stages.distill import DistillSpec
from compressor.stages.factorize import FactorizeSpec
from compressor.stages.prune import PruneSpec
from compressor.stages.share import ShareSpec
from compressor.training.spec import DistillationSpec


def check_shape(
    stage: StageSpec, index: int, shape: Shape, teacher: Shape, ready: Checkpoint | None, add: Add
) -> Shape:
    """Notes what a stage cannot make of a checkpoint, and gives what it will make.

    Args:
        stage: The stage.
        index: Its place in the recipe.
        shape: What comes in.
        teacher: What it learns from.
        ready: The checkpoint that it starts from instead, if that is here.
        add: Called with location, what, hint for each problem.
    """
    if isinstance(stage, DistillSpec) and stage.student is not None:
        shape = shape if ready is None else Shape.of(ready)
    elif isinstance(stage, DistillSpec):
        shape = _check_distill(stage, index, shape, teacher, add)
    elif isinstance(stage, ShareSpec):
        shape = _check_share(stage, index, shape, add)
    elif isinstance(stage, FactorizeSpec):
        shape = _check_factorize(stage, index, shape, add)
    elif isinstance(stage, PruneSpec):
        shape = _check_prune(stage, index, shape, add)
    if isinstance(stage, DistillationSpec):
        _check_layer_map(stage, index, shape, teacher, add)
    return shape


def _check_distill(stage: DistillSpec, index: int, shape: Shape, teacher: Shape, add: Add) -> Shape:
    """Notes what a student cannot be, and gives what it will be."""
    if (shape.family, stage.architecture) == ("distilbert", "bert"):
        what = "a DistilBERT checkpoint cannot become bert: it has no token types and no pooler"
        add(("stages", index, "architecture"), what, "use architecture: distilbert")
    plain = shape.family in ("bert", "distilbert")
    if stage.architecture is not None and not plain:
        what = f"a checkpoint with shared, factorized or pruned weights ({shape.family}) cannot become "
        what += stage.architecture
        add(("stages", index, "architecture"), what, "leave it out: the student stays what the checkpoint is")
    count, layers = stage.num_hidden_layers, shape.layers
    if count is not None and count > layers:
        add(("stages", index, "num_hidden_layers"), f"is {count}, but {layers} layers come in", f"at most {layers}")
    chosen = stage.layers if isinstance(stage.layers, tuple) else ()
    if wrong := [layer for layer in chosen if layer >= layers]:
        what = f"there is no layer {wrong[0]}; {layers} layers come in"
        add(("stages", index, "layers"), what, f"allowed: 0 to {layers - 1}")
    hidden, size = stage.hidden_size or shape.hidden, shape.head_size
    if hidden > shape.hidden or hidden % size:
        what = f"is {hidden}; heads of {size} channels stay whole"
        add(("stages", index, "hidden_size"), what, f"allowed: multiples of {size} up to {shape.hidden}")
    smaller = layers if layers < teacher.layers else max(1, layers // 2)
    family = stage.architecture or ("distilbert" if plain else shape.family)
    embedding = hidden if shape.embedding == shape.hidden else shape.embedding
    return replace(
        shape,
        family=family,
        layers=len(chosen) or count or smaller,
        hidden=hidden,
        heads=_in_proportion(shape.heads, hidden, shape.hidden),
        neurons=shape.neurons if hidden == shape.hidden else None,
        embedding=embedding,
    )


def _in_proportion(heads: int | None, hidden: int, of: int) -> int | None:
    return None if heads is None else max(1, round(heads * hidden / of))


def _check_share(stage: ShareSpec, index: int, shape: Shape, add: Add) -> Shape:
    """Notes what cannot be shared, and gives what the student will be."""
    depth, groups = stage.num_hidden_layers or shape.layers, stage.num_hidden_groups
    if groups > depth:
        what = f"is {groups}, but there are {depth} layers to share"
        add(("stages", index, "num_hidden_groups"), what, f"at most {depth}")
    given = stage.layers if isinstance(stage.layers, tuple) else None
    if given is not None and (len(given) != groups or max(given, default=0) >= shape.layers):
        what = f"is {list(given)}; there are {groups} groups, and {shape.layers} layers come in"
        add(("stages", index, "layers"), what, f"give a layer from 0 to {shape.layers - 1} for each group")
    whole = shape.heads == shape.hidden // shape.head_size and shape.neurons is not None
    return replace(shape, family="albert" if stage.share == "all" and whole else MODEL_TYPE, layers=depth)


def _check_factorize(stage: FactorizeSpec, index: int, shape: Shape, add: Add) -> Shape:
    """Notes what cannot be factorized, and gives what the student will be."""
    if stage.embedding_size > shape.embedding:
        what = f"is {stage.embedding_size}, but the incoming embeddings are {shape.embedding} wide"
        add(("stages", index, "embedding_size"), what, f"at most {shape.embedding}")
    if stage.embedding_size == shape.embedding:
        return shape
    family = "albert" if shape.family in ("bert", "distilbert") else shape.family
    return replace(shape, family=family, embedding=stage.embedding_size)


def _check_prune(stage: PruneSpec, index: int, shape: Shape, add: Add) -> Shape:
    """Notes what cannot be removed, and gives what the student will be."""
    layers = shape.layers
    removed = stage.layers if isinstance(stage.layers, int) else len(set(stage.layers))
    if isinstance(stage.layers, tuple) and (wrong := [layer for layer in stage.layers if layer >= layers]):
        what = f"there is no layer {wrong[0]}; {layers} layers come in"
        add(("stages", index, "layers"), what, f"allowed: 0 to {layers - 1}")
    elif removed >= layers:
        what = f"removes {removed} of {layers} layers"
        add(("stages", index, "layers"), what, f"at most {layers - 1}")
    heads = _left(stage, index, "heads", shape.heads, 1, add)
    neurons = _left(stage, index, "ffn", shape.neurons, pruning_widths.EIGHT, add)
    if stage.target is not None:
        heads = neurons = None
    return replace(
        shape,
        family=MODEL_TYPE if heads != shape.heads or neurons is None else shape.family,
        layers=max(1, layers - removed),
        heads=heads,
        neurons=neurons,
    )


def _left(stage: PruneSpec, index: int, key: str, count: int | None, group: int, add: Add) -> int | None:
    """What is left in each layer of so many heads or neurons; None where only the stage will know."""
    share: float = getattr(stage, key)
    if count is None or share == 0:
        return count
    # Of equal layers, a share of all leaves each of them enough just where a share of each does.
    left, needed = pruning_widths.kept(count, share, group), min(group, count)
    if left < needed:
        add(("stages", index, key), f"is {share:g}", pruning_widths.too_much(count, needed, group))
    return None if stage.scope == "global" else max(left, needed)


def _check_layer_map(stage: DistillationSpec, index: int, student: Shape, teacher: Shape, add: Add) -> None:
    """Notes where the layers or heads of student and teacher do not correspond."""
    given = stage.layer_map
    if given is not None and (len(given) != student.layers or max(given) >= teacher.layers):
        what = f"is {list(given)}; the student has {student.layers} layers, the teacher {teacher.layers}"
        add(("stages", index, "layer_map"), what, f"give {student.layers} layers from 0 to {teacher.layers - 1}")
    if stage.alpha_attention and (student.heads is None or student.heads != teacher.heads):
        ours, theirs = (shape.heads or "no one number of" for shape in (student, teacher))
        what = f"compares head by head, but the student has {ours} heads and the teacher {theirs}"
        add(("stages", index, "alpha_attention"), what, "drop it, and transfer hidden states with alpha_cosine")
