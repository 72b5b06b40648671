"""How an encoder's tokens become one vector: pooling, a dense layer, normalisation, as sentence-transformers says it.

In a checkpoint of ours the settings are in config.json, and the weights of the dense layer in the file of weights. The
files of sentence-transformers lie beside them, so that it opens the folder too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from compressor.files import read_json
from compressor.models.small_vectors import Precision

KEY = "sentence_embedding"
"""The key of config.json that holds the settings."""
Pooling = Literal["mean", "cls", "max"]
Activation = Literal["identity", "tanh"]

MODULES = "modules.json"
FILES = (
    MODULES,
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "*_Pooling/config.json",
    "*_Dense/config.json",
    "*_Dense/model.safetensors",
)
"""Patterns of the files that sentence-transformers keeps beside a transformer."""
_LENGTHS, _PROMPTS = FILES[1:3]
_POOLING_FLAGS = {"pooling_mode_cls_token": "cls", "pooling_mode_mean_tokens": "mean", "pooling_mode_max_tokens": "max"}
_ALSO_CALLED = {"document": ("passage", "corpus")}
_ACTIVATIONS: dict[str, Activation] = {"Identity": "identity", "Tanh": "tanh"}


@dataclass(frozen=True)
class SentenceEmbedding:
    """How tokens become a vector.

    Attributes:
        pooling: `mean` of the tokens that are no padding, `cls` the first token, `max` the largest of each channel.
        dense: Outputs of a dense layer behind it; None where there is none.
        activation: Of the dense layer.
        normalize: Whether the vector is divided by its length.
        prompts: Texts that are put in front of texts of a kind, by the kind, such as `query`.
        default_prompt: The kind of prompt that texts get where nothing is said.
        max_length: Tokens that texts are cut to; None where the tokenizer says it.
        precisions: Smaller precisions that files give the vector in, beside floats.
        int8_scale: What an integer of `int8` counts for; None where files give no integers.
    """

    pooling: Pooling = "mean"
    dense: int | None = None
    activation: Activation = "identity"
    normalize: bool = True
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str | None = None
    max_length: int | None = None
    precisions: tuple[Precision, ...] = ()
    int8_scale: float | None = None

    def __post_init__(self) -> None:
        """Has a list of config.json equal what it was written from."""
        object.__setattr__(self, "precisions", tuple(self.precisions))

    def prompt(self, kind: str) -> str:
        """What is put in front of a text of a kind: a `query`, a `document`, which some call a passage, or any."""
        names = (kind, *_ALSO_CALLED.get(kind, ()), self.default_prompt or "")
        return next((self.prompts[name] for name in names if name in self.prompts), "")

    def settings(self) -> dict[str, Any]:
        """The entry of config.json: without the length, which the tokenizer's files say."""
        return {name: value for name, value in asdict(self).items() if name != "max_length"}


class Unsupported(ValueError):
    """A folder of sentence-transformers has something that this project has no form for; says what."""


def of(folder: Path, config: Mapping[str, Any]) -> SentenceEmbedding:
    """The settings of a checkpoint: those of its config.json, else of sentence-transformers' files, else the defaults.

    Args:
        folder: The transformer's folder; the files may lie in it or, of `0_Transformer`, beside it.
        config: Its config.json.

    Raises:
        Unsupported: They have something that is not known here.
    """
    try:
        if isinstance(given := config.get(KEY), Mapping):
            return SentenceEmbedding(**given)
        home = root(folder)
        return SentenceEmbedding() if home is None else _read(home)
    except Unsupported:
        raise
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise Unsupported(f"what says how vectors are made cannot be read: {type(error).__name__}: {error}") from None


def gives_vectors(config: Mapping[str, Any]) -> bool:
    """Whether a checkpoint of ours with this config.json is a sentence encoder, and not another model made of one."""
    classes = config.get("architectures")
    return KEY in config and isinstance(classes, list) and all(str(name).endswith("Model") for name in classes)


def root(folder: Path) -> Path | None:
    """The folder with sentence-transformers' modules.json, of a transformer's folder; None where there is none.

    It is the folder itself, or the one above it if that says that the transformer is in here.
    """
    if (folder / MODULES).is_file():
        return folder
    if not (folder.parent / MODULES).is_file():
        return None
    try:
        first = _modules(folder.parent)[0][1]
    except (Unsupported, IndexError):
        return None
    return folder.parent if first.resolve() == folder.resolve() else None


def files(folder: Path) -> dict[str, Path]:
    """The files of sentence-transformers beside a transformer, by their names there."""
    if (home := root(folder)) is None:
        return {}
    found = sorted(path for pattern in FILES for path in home.glob(pattern))
    return {path.relative_to(home).as_posix(): path for path in found}


def dense_file(folder: Path) -> Path | None:
    """The weights of the dense layer in a folder of sentence-transformers; None where there is none."""
    home = root(folder)
    found = None if home is None else next((path for kind, path in _modules(home) if kind == "Dense"), None)
    return None if found is None else found / "model.safetensors"


def _modules(home: Path) -> list[tuple[str, Path]]:
    """Kind and folder of each module, in order."""
    try:
        entries = json.loads((home / MODULES).read_text(encoding="utf-8"))
        found = [(str(entry["type"]).rpartition(".")[2], home / str(entry["path"])) for entry in entries]
        if all(path.resolve().is_relative_to(home.resolve()) for _, path in found):
            return found
        raise Unsupported(f"{MODULES} names a folder outside of its own")
    except Unsupported:
        raise
    except (OSError, ValueError, RecursionError, LookupError, TypeError) as error:
        raise Unsupported(f"{MODULES} cannot be read: {type(error).__name__}") from None


def _read(home: Path) -> SentenceEmbedding:
    found, modules = SentenceEmbedding(normalize=False), _modules(home)
    kinds = [kind for kind, _ in modules]
    allowed = ["Transformer", "Pooling", *(kind for kind in ("Dense", "Normalize") if kind in kinds)]
    if kinds != allowed:
        shown = " → ".join(kinds)
        raise Unsupported(f"{MODULES} has {shown}; allowed: Transformer → Pooling [→ Dense] [→ Normalize]")
    for kind, path in modules:
        if kind == "Pooling":
            found = replace(found, pooling=_pooling(read_json(path / "config.json")))
        elif kind == "Dense":
            found = _dense(found, path)
        elif kind == "Normalize":
            found = replace(found, normalize=True)
    lengths = read_json(home / _LENGTHS) if (home / _LENGTHS).is_file() else {}
    if lengths.get("do_lower_case"):
        raise Unsupported(f"{_LENGTHS} says do_lower_case, which the tokenizer has to do: set it in its own files")
    prompts = read_json(home / _PROMPTS) if (home / _PROMPTS).is_file() else {}
    return replace(
        found,
        max_length=lengths.get("max_seq_length"),
        prompts={str(name): str(text) for name, text in (prompts.get("prompts") or {}).items() if text},
        default_prompt=prompts.get("default_prompt_name"),
    )


def _pooling(config: Mapping[str, Any]) -> Pooling:
    given = config.get("pooling_mode")
    modes: list[Any] | None = [given] if isinstance(given, str) else given
    if modes is None:
        modes = [mode for flag, mode in _POOLING_FLAGS.items() if config.get(flag)]
        known = _POOLING_FLAGS.keys()
        modes += [flag for flag, on in config.items() if flag.startswith("pooling_mode_") and on and flag not in known]
    if len(modes) != 1 or modes[0] not in get_args(Pooling):
        raise Unsupported(f"its pooling is {' + '.join(map(str, modes))}; allowed: {', '.join(get_args(Pooling))}")
    if config.get("include_prompt", True) is False:
        raise Unsupported("its pooling leaves the prompt's tokens out (include_prompt: false)")
    mode: Pooling = modes[0]
    return mode


def _dense(found: SentenceEmbedding, path: Path) -> SentenceEmbedding:
    config = read_json(path / "config.json")
    name = str(config.get("activation_function", "torch.nn.modules.activation.Tanh")).rpartition(".")[2]
    if name not in _ACTIVATIONS:
        raise Unsupported(f"its dense layer has the activation {name}; allowed: {', '.join(_ACTIVATIONS)}")
    if not (path / "model.safetensors").is_file():
        raise Unsupported(f"{path.name} has no model.safetensors; save it again with sentence-transformers")
    return replace(found, dense=int(config["out_features"]), activation=_ACTIVATIONS[name])


def write(folder: Path, embedding: SentenceEmbedding, hidden_size: int, max_length: int) -> None:
    """Writes sentence-transformers' files beside a transformer, but for the weights of a dense layer.

    Args:
        folder: The transformer's folder.
        embedding: The settings.
        hidden_size: Width of the transformer.
        max_length: Tokens that texts are cut to.
    """
    types = {"Pooling": "sentence_transformers.models.Pooling", "Normalize": "sentence_transformers.models.Normalize"}
    types |= {"Dense": "sentence_transformers.models.Dense"}
    kinds = ["Pooling", *(["Dense"] if embedding.dense else []), *(["Normalize"] if embedding.normalize else [])]
    places = [f"{index}_{kind}" for index, kind in enumerate(kinds, 1)]
    modules = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}]
    modules += [
        {"idx": index, "name": str(index), "path": place, "type": types[kind]}
        for index, (kind, place) in enumerate(zip(kinds, places, strict=True), 1)
    ]
    contents: dict[str, Any] = {
        MODULES: modules,
        _LENGTHS: {"max_seq_length": max_length, "do_lower_case": False},
        _PROMPTS: {
            "model_type": "SentenceTransformer",
            "prompts": dict(embedding.prompts),
            "default_prompt_name": embedding.default_prompt,
            "similarity_fn_name": "cosine",
        },
    }
    for kind, place in zip(kinds, places, strict=True):
        if kind == "Pooling":
            flags = {flag: mode == embedding.pooling for flag, mode in _POOLING_FLAGS.items()}
            contents[f"{place}/config.json"] = {"word_embedding_dimension": hidden_size, **flags}
        elif kind == "Dense":
            name = next(name for name, own in _ACTIVATIONS.items() if own == embedding.activation)
            place_of = {"Identity": "linear", "Tanh": "activation"}[name]
            contents[f"{place}/config.json"] = {
                "in_features": hidden_size,
                "out_features": embedding.dense,
                "bias": True,
                "activation_function": f"torch.nn.modules.{place_of}.{name}",
            }
    for name, content in contents.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
