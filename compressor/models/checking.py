"""Whether a folder is a checkpoint that this project can work on: all that its files say without torch."""

from __future__ import annotations

from pathlib import Path

from compressor.errors import Problem, RecipeError
from compressor.models import layout, settings, tokenizer_files
from compressor.models.checkpoint import Checkpoint
from compressor.models.families import FAMILIES
from compressor.models.weights import FLOATS, WeightsError

_DECODER = ("is_decoder", "add_cross_attention", "is_encoder_decoder")


def problems(path: Path, where: str) -> list[Problem]:
    """Problems of a folder that is not a supported checkpoint; empty if it is one."""
    if not (path / "config.json").is_file():
        hint = "give a folder saved by transformers' save_pretrained"
        return [Problem(where, f"{path} has no config.json", hint, kind="missing")]
    checkpoint = Checkpoint(path)
    try:
        config = checkpoint.config
    except ValueError as error:
        return [Problem(where, str(error), "save or download the checkpoint again", kind="unreadable")]
    unreadable = _unreadable(checkpoint, where)
    if unreadable and "model_type" not in config:
        return unreadable
    if checkpoint.family not in FAMILIES:
        given = (
            f"is of the family {checkpoint.family!r}" if "model_type" in config else "has no model_type in its config"
        )
        return [Problem(where, f"the checkpoint {given}", f"allowed: {', '.join(FAMILIES)}", kind="unsupported")]
    found = _config_problems(checkpoint, where)
    wrong = _wrong_settings(checkpoint, where)
    found += wrong
    rows = None if wrong else checkpoint.vocab_size
    if unreadable or wrong:
        found += unreadable
    else:
        found += _tensor_problems(checkpoint, where)
    return found + tokenizer_files.problems(path, rows, where)


def check(path: Path, where: str) -> Checkpoint:
    """The checkpoint in a folder.

    Raises:
        RecipeError: It is not one.
    """
    if found := problems(path, where):
        raise RecipeError(found)
    return Checkpoint(path)


def _unreadable(checkpoint: Checkpoint, where: str) -> list[Problem]:
    path = checkpoint.path
    try:
        if not checkpoint.weight_files:
            patterns = ("*.bin", "*.pt", "*.pth", "*.h5", "*.msgpack", "*.safetensors", "*.onnx", "*.gguf")
            others = sorted(other.name for pattern in patterns for other in path.glob(pattern))
            found = f", only {', '.join(others)}" if others else ""
            hint = "weights are read from model.safetensors or pytorch_model.bin, whole or in shards with their index"
            return [Problem(where, f"{path} has no weights{found}", hint, kind="missing")]
        checkpoint.stored  # noqa: B018 -- read to see that it can be
    except (WeightsError, OSError) as error:
        return [Problem(where, str(error), "save or download the checkpoint again", kind="unreadable")]
    return []


def _wrong_settings(checkpoint: Checkpoint, where: str) -> list[Problem]:
    """Settings of a config.json that its family does not have; where there are any, its weights are not looked at."""
    file, family = checkpoint.path / "config.json", checkpoint.known_family
    if wrong := settings.wrong(checkpoint.config, family):
        return [Problem(where, f"{file}: {what}", "save the checkpoint again") for what in wrong]
    if has := family.unsupported(checkpoint.config):
        hint = f"give a {family.model_type} checkpoint without that"
        return [Problem(where, f"{file} has {has}", hint, kind="unsupported")]
    return []


def _config_problems(checkpoint: Checkpoint, where: str) -> list[Problem]:
    """Settings of a config.json that this project's models do not have."""
    config, found = checkpoint.config, []

    def add(what: str, hint: str = "") -> None:
        found.append(Problem(where, what, hint, kind="unsupported"))

    if config.get("inner_group_num", 1) != 1:
        what = f"the checkpoint's groups hold {config['inner_group_num']} different layers each"
        add(what, "of ALBERTs, those with inner_group_num: 1 are supported")
    if decoder := [name for name in _DECODER if config.get(name)]:
        add(f"the checkpoint is a decoder: its config.json says {decoder[0]}", "give an encoder")
    if (kind := config.get("position_embedding_type", "absolute")) != "absolute":
        add(f"the checkpoint has position embeddings of the type {kind!r}", "those of absolute positions are supported")
    if config.get("quantization_config"):
        add("the checkpoint's weights are quantized", "give the checkpoint in float; a quantize stage makes it small")
    names = config.get("id2label")
    if names is not None and not (isinstance(names, dict) and all(key.isdecimal() for key in names)):
        what = f"{checkpoint.path / 'config.json'} has an id2label that does not name labels by their numbers"
        found.append(Problem(where, what, 'write {"0": "first label", "1": "second label"}', kind="type"))
    return found


def _tensor_problems(checkpoint: Checkpoint, where: str) -> list[Problem]:
    """How the weights of the encoder differ from what the config says."""
    path, called_for = checkpoint.path, layout.encoder(checkpoint)
    hint = "the file and its config.json are not of one model; save it again"
    crossed = [name for name in checkpoint.shapes if "crossattention" in name]
    if crossed:
        return [
            Problem(where, f"the checkpoint is a decoder: it has {crossed[0]}", "give an encoder", kind="unsupported")
        ]
    stored, wanted = layout.blocks_there(checkpoint), tuple(map(len, checkpoint.block_widths))
    if stored != wanted:
        what = f"{path} has the weights of {max(stored)} layers, and its config.json says {max(wanted)}"
        return [Problem(where, what, hint, kind="conflict")]
    found = []
    if what := layout.differences(called_for, checkpoint.shapes):
        found.append(Problem(where, f"{path} {what}, by its config.json", hint, kind="missing"))
    if beside := layout.unread(checkpoint)[0]:
        more = f" and {len(beside) - 1} more" if len(beside) > 1 else ""
        what = f"{path} has the weights {beside[0]}{more}, which a {checkpoint.family} model does not read"
        found.append(Problem(where, what, "give a checkpoint without them", kind="unsupported"))
    kinds = {name: tensor.kind for name, tensor in checkpoint.tensors.items() if tensor.kind not in FLOATS}
    if whole := [name for name in kinds if name in called_for or layout.of_head(checkpoint, name)]:
        what = f"{path} has weights of the type {kinds[whole[0]]}, such as {whole[0]}; allowed: {', '.join(FLOATS)}"
        found.append(Problem(where, what, "give the checkpoint in float", kind="type"))
    return found
