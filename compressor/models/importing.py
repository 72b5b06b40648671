"""Brings a checkpoint in as people have it: one file of weights in float32, a plain config, and a look at what loads.

What a file's header cannot say is found here, before any stage runs: numbers that are not finite, a model or a
tokenizer that does not load, a tokenizer that transformers builds otherwise than its file says.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressor.errors import Problem, RecipeError
from compressor.files import fills_a_disk, read_json
from compressor.models import layout, loading, sentence_embedding, tokenizer_files, weights
from compressor.models.checkpoint import WEIGHTS, Checkpoint
from compressor.models.families import register
from compressor.models.heads import HEADS, SENTENCE_EMBEDDING
from compressor.models.sentence_embedding import SentenceEmbedding

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

_DENSE = SENTENCE_EMBEDDING.part
_OUTPUT_SETTINGS = ("output_attentions", "output_hidden_states", "return_dict", "use_return_dict", "torchscript")
_OTHERS = (
    "torch_dtype",
    "num_labels",
    "_num_labels",
    "chunk_size_feed_forward",
    "auto_map",
    "attn_implementation",
    "_attn_implementation",
    "quantization_config",
)
"""Settings of how a model is run, and other names of what the config says already."""
_FLOATS_ALONE = {"precisions": (), "int8_scale": None}
"""Settings of a sentence encoder that the recipe decides, whatever its files gave before."""
_PROBES = (
    "Äpfel Ecke İstanbul straße",
    "中文字 ﬁne ① x\u200by\x07z",
    "don't re-use (this) isn't",
    "  two  spaces\t",
    "NAÏVE Café",
)
"""Texts on which tokenizers that were built otherwise differ: case, accents, Chinese, controls, punctuation."""


def bring_in(source: Path, output: Path, where: str, embedding: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Copies a checkpoint, and makes of it what every stage can read.

    Args:
        source: The checkpoint's folder, of which `checking.problems` finds nothing wrong.
        output: Empty folder.
        where: The key that names the checkpoint.
        embedding: Of a checkpoint that is to embed sentences, the settings that are not to be as its files say; None
            where it is for another task.

    Returns:
        Facts: `notes` of what was changed.

    Raises:
        RecipeError: The checkpoint cannot be worked on.
    """
    given = Checkpoint(source)
    how = None if embedding is None else replace(given.embedding, **{**_FLOATS_ALONE, **embedding})
    _write_config(given, output / "config.json", how)
    try:
        notes = [*_write_weights(given, output / WEIGHTS, how), *_copy_tokenizer(source, output)]
        if how is not None and how.max_length is not None:
            _cut_texts(output / tokenizer_files.CONFIG, how.max_length)
        if how is not None:
            _write_for_sentences(output, how)
        _try_tokenizer(output)
        _try_model(output)
    except RecipeError as error:
        raise RecipeError([Problem(where, p.what, p.hint, kind=p.kind) for p in error.problems]) from None
    except Exception as error:
        machine = isinstance(error, MemoryError) or "not enough memory" in str(error) or fills_a_disk(error)
        if machine or getattr(error, "errno", None):
            raise  # of this machine, not of the checkpoint
        text = " ".join(str(error).split())[:300]
        what = f"{source} cannot be loaded: {type(error).__name__}: {text}"
        raise RecipeError([Problem(where, what, "save or download it again", kind="unreadable")]) from error
    return {"notes": notes} if notes else {}


def _write_config(given: Checkpoint, path: Path, embedding: SentenceEmbedding | None) -> None:
    """Writes the config without settings that change a model's outputs, and with what transformers would guess."""
    left_out = (*_OUTPUT_SETTINGS, *_OTHERS, sentence_embedding.KEY)
    plain = {name: value for name, value in given.config.items() if name not in left_out}
    if embedding is not None:
        plain[sentence_embedding.KEY] = embedding.settings()
        if given.claims(SENTENCE_EMBEDDING):
            plain["architectures"] = [f"{given.known_family.prefix}Model"]
    plain |= {"model_type": given.family, "dtype": "float32"}
    labelled = [head for head in HEADS if head.outputs_by_label and given.claims(head)]
    if any(given.has_head(head) for head in labelled):
        plain["id2label"] = dict(enumerate(given.labels))
        plain["label2id"] = {name: index for index, name in enumerate(given.labels)}
    elif labelled:  # they are of a head that is not there, and a new one brings its own
        plain = {name: value for name, value in plain.items() if name not in ("id2label", "label2id")}
    path.write_text(json.dumps(plain, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _cut_texts(path: Path, length: int) -> None:
    """Has a tokenizer cut texts at a length, where it does not cut them before."""
    config = read_json(path) if path.is_file() else {}
    config["model_max_length"] = min(length, config.get("model_max_length") or length)
    path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _write_for_sentences(folder: Path, how: SentenceEmbedding) -> None:
    """Writes the files of sentence-transformers: a recipe may train nothing, and ships what came in."""
    there = Checkpoint(folder)
    dense = {name.rpartition(".")[2]: t for name, t in _tensors(folder, [WEIGHTS]) if name.startswith(f"{_DENSE}.")}
    loading.write_for_sentences(folder, how, there.hidden_size, there.max_sequence_length(), dense)


def _write_weights(given: Checkpoint, path: Path, embedding: SentenceEmbedding | None) -> Iterator[str]:
    """Writes the weights in float32 into one file; yields a note if they came otherwise.

    The dense layer of a sentence encoder comes from sentence-transformers' own file.

    Raises:
        RecipeError: A weight is NaN or infinite.
    """
    from safetensors.torch import save_file

    encoder = layout.encoder(given)
    read = {name for name in given.tensors if name in encoder or layout.of_head(given, name)}
    kinds = {given.tensors[name].kind for name in read}
    files = [name for name in given.weight_files if not name.endswith(".json")]
    dense = None if embedding is None or embedding.dense is None else sentence_embedding.dense_file(given.path)
    beside = (
        {}
        if dense is None
        else {f"{_DENSE}.{n.rpartition('.')[2]}": t for n, t in _tensors(dense.parent, [dense.name])}
    )
    same_names = set(given.tensors) == set(given.stored) and not beside
    as_is = kinds == {"float32"} and files == [WEIGHTS] and same_names
    found: dict[str, torch.Tensor] = {}
    for name, tensor in _tensors(given.path, files):
        canonical = layout.canonical(name, given.known_family)
        if canonical in read:
            if not bool(tensor.isfinite().all()):
                what = f"{given.path} has NaN or infinite numbers in {name}"
                raise RecipeError([Problem("model", what, "take a checkpoint from before training broke")])
            if not as_is:
                found[canonical] = tensor.float().contiguous().clone()
    if as_is:
        shutil.copyfile(given.path / WEIGHTS, path)
        return
    _drop_tied(found, given)
    found |= {name: tensor.float() for name, tensor in beside.items()}
    save_file(found, path, metadata={"format": "pt"})
    came = f"{', '.join(sorted(kinds))} in {files[0] if len(files) == 1 else f'{len(files)} files'}"
    if came != f"float32 in {WEIGHTS}":
        yield f"The weights came as {came}; the work is done, and the sizes are compared, in float32."


def _tensors(folder: Path, files: list[str]) -> Iterator[tuple[str, torch.Tensor]]:
    import torch
    from safetensors import safe_open

    for name in files:
        if name.endswith(".safetensors"):
            with safe_open(folder / name, "pt") as file:
                yield from ((key, file.get_tensor(key)) for key in file.keys())
        else:
            mapped = weights.is_zip(folder / name)
            yield from torch.load(folder / name, map_location="cpu", weights_only=True, mmap=mapped).items()


def _drop_tied(found: dict[str, torch.Tensor], given: Checkpoint) -> None:
    """Drops what a language model's head shares with the token embeddings, where the config says that it does."""
    import torch

    family = given.known_family
    decoder, bias = (f"{family.outside['decoder']}.{kind}" for kind in ("weight", "bias"))
    if given.config.get("tie_word_embeddings", True):
        table = found[f"{family.outside['word']}.weight"]
        if decoder in found and torch.equal(found[decoder], table):
            del found[decoder]
    if family.decoder_bias is not None and bias in found:
        found.setdefault(family.decoder_bias, found[bias])
        del found[bias]


def _copy_tokenizer(source: Path, output: Path) -> Iterator[str]:
    """Copies the tokenizer's files; yields a note if they pad on the left, which the copies do not."""
    sides = set()
    for name in tokenizer_files.FILES:
        if not (source / name).is_file():
            continue
        shutil.copyfile(source / name, output / name)
        if name not in (tokenizer_files.CONFIG, tokenizer_files.TOKENIZER):
            continue
        found = read_json(source / name)
        place, key = (found, "padding_side") if name == tokenizer_files.CONFIG else (found.get("padding"), "direction")
        side = str(place.get(key, loading.PADDING_SIDE)) if isinstance(place, dict) else loading.PADDING_SIDE
        if isinstance(place, dict) and side.lower() != loading.PADDING_SIDE:
            sides.add(side.lower())
            place[key] = loading.PADDING_SIDE if key == "padding_side" else loading.PADDING_SIDE.title()
            (output / name).write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if sides:
        yield (
            f"The tokenizer padded on the {sides.pop()}, and pads on the {loading.PADDING_SIDE} now: positions are "
            "counted from the first token, padding or not, so a row padded there would not get its answer."
        )


def _try_tokenizer(folder: Path) -> None:
    """Loads the tokenizer, and compares it with its file.

    Raises:
        RecipeError: It is a slow one, has more tokens than the model, or is not what tokenizer.json says.
    """
    loaded = loading.load_tokenizer(folder)
    if not loaded.is_fast:
        what = f"the tokenizer is a {type(loaded).__name__}, which runs in Python only"
        raise RecipeError([Problem("model", what, "give a tokenizer.json, which apps need too", kind="unsupported")])
    rows, highest = Checkpoint(folder).vocab_size, max(loaded.get_vocab().values())
    if highest >= rows:
        what = f"the tokenizer has tokens up to number {highest}, and the model has {rows} rows for them"
        hint = (
            "its vocabulary may lack special tokens, which are then added; give the one that the model was trained with"
        )
        raise RecipeError([Problem("model", what, hint, kind="conflict")])
    file = folder / tokenizer_files.TOKENIZER
    if file.is_file() and (differs := _difference(loaded, file)):
        what = f"transformers reads {file.name} otherwise than it is written: {differs}"
        hint = (
            f"say the same in {tokenizer_files.CONFIG} (do_lower_case, strip_accents, tokenize_chinese_chars), or put "
            '"tokenizer_class": "PreTrainedTokenizerFast" there to have the file taken as it is'
        )
        raise RecipeError([Problem("model", what, hint, kind="conflict")])


def _difference(loaded: PreTrainedTokenizerBase, file: Path) -> str | None:
    """The first probe that a loaded tokenizer and its file read differently, in words; None if there is none."""
    from tokenizers import Tokenizer

    written, built = Tokenizer.from_file(str(file)), loaded.backend_tokenizer
    for text in _PROBES:
        normal = [text if t.normalizer is None else t.normalizer.normalize_str(text) for t in (written, built)]
        if normal[0] != normal[1]:
            return f"{text!r} becomes {normal[0]!r} by the file and {normal[1]!r} as loaded"
    for tokenizer in (written, built):
        tokenizer.no_truncation()
        tokenizer.no_padding()
    special = written.post_processor is not None
    for text in _PROBES:
        tokens = [t.encode(text, "a b", add_special_tokens=special).tokens for t in (written, built)]
        if tokens[0] != tokens[1]:
            return f"{text!r} becomes {tokens[0][:8]} by the file and {tokens[1][:8]} as loaded"
    return None


def _try_model(folder: Path) -> None:
    """Loads the model, with its head if it has one, and runs it once.

    Raises:
        RecipeError: Weights are missing, or an answer is not finite.
    """
    import torch
    from transformers import AutoModel

    register()
    checkpoint = Checkpoint(folder)
    if any(checkpoint.has_head(head) for head in HEADS):
        model = loading.load_model(folder)
    else:
        model = AutoModel.from_pretrained(folder, dtype="float32", local_files_only=True, trust_remote_code=False)
    ids = torch.arange(min(8, checkpoint.max_position_embeddings))[None] % checkpoint.vocab_size
    with torch.inference_mode():
        answer = model.eval()(input_ids=ids)[0]
    if not bool(answer.isfinite().all()):
        raise RecipeError(
            [Problem("model", f"{folder.name}: the model's answers are not finite numbers", kind="value")]
        )
