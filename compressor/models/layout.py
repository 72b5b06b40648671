"""The tensors that a config.json calls for, by name and shape: what a checkpoint's weights are held against.

transformers fills in at random what a file lacks or has in another shape, drops what it does not know, and only logs
it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from compressor.models import sentence_embedding, thresholds
from compressor.models.families.base import Family, Shapes
from compressor.models.heads import MASKED_LM, PRETRAINING, SENTENCE_EMBEDDING, Head
from compressor.models.parts import ALL, ATTENTION, AXES, EMBEDDING, FEED_FORWARD, HEADS, HIDDEN, NEURONS, VOCABULARY
from compressor.models.settings import shown

if TYPE_CHECKING:
    from compressor.models.checkpoint import Checkpoint

_WITHOUT_BIAS = ("word", "position", "token_type", "decoder")
_EMBEDDINGS = ("word", "position", "token_type", "embedding_norm", "mapping")
_BUFFERS = ("position_ids", "token_type_ids")
_OLD_NAMES = {".gamma": ".weight", ".beta": ".bias"}
_SHOWN = 3


def canonical(name: str, family: Family | None) -> str:
    """A tensor's name as a model with a head has it today.

    Encoders are saved without the prefix that their classes with heads give them; LayerNorms of old checkpoints, from
    TensorFlow's, have a gamma and a beta.
    """
    for old, new in _OLD_NAMES.items():
        if name.endswith(f"LayerNorm{old}"):
            name = name.removesuffix(old) + new
    if family is None or name.startswith(f"{_prefix(family)}."):
        return name
    inside = {module.split(".")[1] for module in _of_encoder(family)}
    return f"{_prefix(family)}.{name}" if name.split(".")[0] in inside else name


def encoder(checkpoint: Checkpoint) -> Shapes:
    """The tensors of the embeddings and of the layers; one set for each block, however many layers use it."""
    family = checkpoint.known_family
    if family.tensors is not None:
        return family.tensors(checkpoint.config)
    absent = set() if checkpoint.config.get("embedding_mapping", True) else {"mapping"}
    found: Shapes = {}
    for part in _EMBEDDINGS:
        if part in family.outside and part not in absent:
            found |= _shapes(family.outside[part], part, _sizes(checkpoint))
    for stack, parts, widths, axis in zip(
        family.stacks, (ATTENTION, FEED_FORWARD), checkpoint.block_widths, (HEADS, NEURONS), strict=True
    ):
        for block, width in enumerate(widths):
            sizes = {**_sizes(checkpoint), axis: width}
            for part in parts:
                found |= _shapes(f"{stack.format(block)}.{family.inside[part]}", part, sizes)
    return found


def head(checkpoint: Checkpoint, kind: Head) -> Shapes:
    """The tensors of a head, but for a language model's output matrix, which may be the token embeddings."""
    family = checkpoint.known_family
    rows = len(checkpoint.labels) if kind.outputs_by_label else kind.settings.get("num_labels", 1)
    found: Shapes = {}
    modules = family.modules(kind.auto)
    if kind.vectors:
        rows = checkpoint.embedding.dense or 0
    for part in kind.parts if rows else ():
        if part in modules:
            found |= _shapes(modules[part], part, {**_sizes(checkpoint), ALL: rows})
    if kind in (MASKED_LM, PRETRAINING) and checkpoint.config.get("tie_word_embeddings") is False:
        found |= _shapes(family.outside["decoder"], "decoder", _sizes(checkpoint))
    left_out = family.left_out(checkpoint.config)
    return {name: shape for name, shape in found.items() if name not in left_out}


def _sizes(checkpoint: Checkpoint) -> dict[str, int]:
    return {
        HIDDEN: checkpoint.hidden_size,
        EMBEDDING: checkpoint.embedding_size,
        VOCABULARY: checkpoint.vocab_size,
        "position": checkpoint.max_position_embeddings + checkpoint.first_position,
        "token_type": checkpoint.token_types,
    }


def _shapes(module: str, part: str, sizes: Mapping[str, int]) -> Shapes:
    shape = tuple(sizes.get(part, sizes.get(ALL, 0)) if axis == ALL else sizes[axis] for axis in AXES[part])
    weight = {f"{module}.weight": shape}
    return weight if part in _WITHOUT_BIAS else {**weight, f"{module}.bias": shape[:1]}


def matrix_names(families: Iterable[Family], layers: int) -> list[str]:
    """Names of the modules that may have a weight matrix, in models of so many layers, with any head."""
    found = []
    for family in families:
        for modules in (family.outside, *family.of_head.values()):
            found += [module for part, module in modules.items() if len(AXES[part]) == 2]
        if family.whole_layers:
            stack = family.stacks[0]
            found += [f"{stack.format(layer)}.{module}" for layer in range(layers) for module in family.matrices]
            continue
        for stack, parts in zip(family.stacks, (ATTENTION, FEED_FORWARD), strict=True):
            inside = [family.inside[part] for part in parts if len(AXES[part]) == 2]
            found += [f"{stack.format(block)}.{module}" for block in range(layers) for module in inside]
    return found


def differences(called_for: Shapes, there: Shapes) -> str:
    """How tensors differ from those that a config calls for: the first few, in words; empty if they do not."""
    lacking = [name for name in called_for if name not in there]
    other = [
        f"{name} is {_dims(there[name])} for {_dims(shape)}"
        for name, shape in called_for.items()
        if name in there and there[name] != shape
    ]
    parts = []
    if lacking:
        parts.append(f"lacks {_some(lacking)}")
    if other:
        parts.append(f"has other shapes: {_some(other)}")
    return " and ".join(parts)


def head_fault(checkpoint: Checkpoint, kind: Head) -> str | None:
    """Why a head that a checkpoint's class has cannot be used; None if it can."""
    if kind.outputs_by_label and (wrong := _wrong_labels(checkpoint)):
        return wrong
    problem_type = checkpoint.config.get("problem_type")
    if kind.sets and problem_type is None:
        return f"config.json has no problem_type, which a row of several labels needs: {kind.problem_types[0]}"
    if kind.problem_types and problem_type not in (None, *kind.problem_types):
        return f"config.json says problem_type: {problem_type}, which is another task"
    if kind.sets and (wrong := thresholds.fault(checkpoint.config, checkpoint.labels)):
        return wrong
    if kind.vectors:
        return _embedding_fault(checkpoint)
    if wrong := differences(head(checkpoint, kind), checkpoint.shapes):
        return f"the file of weights {wrong}, by what config.json says of the head"
    family = checkpoint.known_family
    biases = f"{family.outside['decoder']}.bias", family.decoder_bias
    called_for = biases[0] not in family.left_out(checkpoint.config)
    if kind in (MASKED_LM, PRETRAINING) and called_for and not any(name in checkpoint.shapes for name in biases):
        return f"the file of weights lacks {biases[0]}"
    if beside := unread(checkpoint)[1]:
        return f"it has tensors that a head of its class does not read: {_some(beside)}"
    return None


def _embedding_fault(checkpoint: Checkpoint) -> str | None:
    """Why vectors of sentences cannot be made as a checkpoint's files say; None if they can."""
    try:
        beside = sentence_embedding.dense_file(checkpoint.path)
        there = checkpoint.shapes if beside is None else head(checkpoint, SENTENCE_EMBEDDING)  # until it is brought in
        wrong = differences(head(checkpoint, SENTENCE_EMBEDDING), there)
    except sentence_embedding.Unsupported as error:
        return str(error)
    return f"the file of weights {wrong}, by what config.json says of {sentence_embedding.KEY}" if wrong else None


def _wrong_labels(checkpoint: Checkpoint) -> str | None:
    """What is wrong with the names of a checkpoint's labels, and how many there are."""
    names, config = checkpoint.config.get("id2label"), checkpoint.config
    if names is None:
        return None
    if set(names) != set(map(str, range(len(names)))):
        return "config.json has an id2label that does not number the labels from 0"
    if len(set(map(str, names.values()))) < len(names):
        return "config.json has an id2label with one name for two labels"
    if "num_labels" in config and config["num_labels"] != len(names):
        return f"config.json says num_labels: {shown(config['num_labels'])}, and id2label names {len(names)}"
    return None


def unread(checkpoint: Checkpoint) -> tuple[list[str], list[str]]:
    """Tensors that nothing reads: those of the encoder, and those beside it that belong to no known head."""
    known, prefix = encoder(checkpoint), f"{_prefix(checkpoint.known_family)}."
    beside = [name for name in checkpoint.shapes if name not in known and not of_head(checkpoint, name)]
    idle = checkpoint.known_family.idle
    left = [name for name in beside if name.rpartition(".")[2] not in _BUFFERS and name.rpartition(".")[0] not in idle]
    of_encoder = [name for name in left if name.startswith(prefix)]
    return of_encoder, [name for name in left if name not in of_encoder]


def of_head(checkpoint: Checkpoint, name: str) -> bool:
    """Whether a tensor is outside of the layers, in a place that the family knows: in a head or in the embeddings."""
    family = checkpoint.known_family
    module, _, kind = name.rpartition(".")
    return name == family.decoder_bias or (kind in ("weight", "bias") and module in family.places)


def blocks_there(checkpoint: Checkpoint) -> tuple[int, int]:
    """Stored blocks of attention and of feed-forward weights, counted in the weights."""
    found = []
    for stack in checkpoint.known_family.stacks:
        start, _, _ = stack.partition("{}")
        numbers = {name.removeprefix(start).split(".")[0] for name in checkpoint.shapes if name.startswith(start)}
        found.append(len([number for number in numbers if number.isdecimal()]))
    return found[0], found[1]


def _prefix(family: Family) -> str:
    return family.outside["word"].partition(".")[0]


def _of_encoder(family: Family) -> list[str]:
    others = () if family.tensors is None else family.tensors({"num_hidden_layers": 1})
    places = (*family.outside.values(), *family.stacks, *others)
    return [place for place in places if place.startswith(f"{_prefix(family)}.")]


def _dims(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "a number"


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
