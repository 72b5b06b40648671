"""A tiny BERT, a tiny tokenizer and a learnable task, all made here: no test needs a download."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hub_server import HubServer
from running import SESSION, compress, share_store

from compressor.host.machine import host, saturates
from compressor.quantization import Settings

HUB = HubServer()
HUB_CACHE = tempfile.TemporaryDirectory(prefix="compress-hub-")
# Read by libraries when they are imported: whatever asks the hub asks the stand-in, which notes it.
os.environ.update(HF_ENDPOINT=HUB.url, HF_HOME=HUB_CACHE.name, HF_UPDATE_DOWNLOAD_COUNTS="0", HF_HUB_DISABLE_XET="1")
for name in ("HF_HUB_OFFLINE", "HF_TOKEN", "HF_HUB_CACHE", "HF_DATASETS_CACHE", "HF_ASSETS_CACHE"):
    os.environ.pop(name, None)
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.pop("GITHUB_STEP_SUMMARY", None)  # of the job that runs these tests

SATURATES = saturates(host())

GOOD = "good great fine lovely superb".split()
BAD = "bad awful poor dull dreadful".split()
NEUTRAL = "the a film plot actor scene story music camera it is was and with of this that end start long".split()
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
MAX_POSITIONS = 48


def sentences(count: int, seed: int) -> list[tuple[str, str]]:
    """Texts of neutral words with one word that decides the label."""
    random = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        label = int(random.integers(2))
        words = list(random.choice(NEUTRAL, int(random.integers(3, 12))))
        words.insert(int(random.integers(len(words) + 1)), str(random.choice(GOOD if label else BAD)))
        rows.append((" ".join(words), "positive" if label else "negative"))
    return rows


def write_rows(path: Path, rows: list[tuple[str, str]]) -> Path:
    lines = ["sentence\tlabel", *("\t".join(row) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def make_tokenizer() -> Any:
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece
    from tokenizers.normalizers import BertNormalizer
    from tokenizers.pre_tokenizers import BertPreTokenizer
    from tokenizers.processors import BertProcessing
    from transformers import BertTokenizerFast

    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    words = [*SPECIAL, *GOOD, *BAD, *NEUTRAL, *letters, *(f"##{letter}" for letter in letters)]
    vocabulary = {word: index for index, word in enumerate(dict.fromkeys(words))}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = BertNormalizer()
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.post_processor = BertProcessing(("[SEP]", vocabulary["[SEP]"]), ("[CLS]", vocabulary["[CLS]"]))
    return BertTokenizerFast(tokenizer_object=tokenizer, model_max_length=MAX_POSITIONS)


def make_config(**overrides: Any) -> Any:
    from transformers import BertConfig

    values = {
        "vocab_size": len(make_tokenizer()),
        "hidden_size": 32,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": MAX_POSITIONS,
        "initializer_range": 0.1,
    }
    return BertConfig(**{**values, **overrides})


def save_encoder(folder: Path, **overrides: Any) -> Path:
    """A BERT without a head, as pretraining leaves it."""
    import torch
    from transformers import BertModel

    torch.manual_seed(0)
    BertModel(make_config(**overrides)).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


def save_classifier(folder: Path, family: str = "bert", **overrides: Any) -> Path:
    """A classifier with random weights that are large enough for its answers to differ."""
    import torch
    from transformers import AutoModelForSequenceClassification, DistilBertConfig

    from compressor.models import loading

    torch.manual_seed(1)
    labels = {"id2label": {0: "negative", 1: "positive"}, "label2id": {"negative": 0, "positive": 1}}
    config = make_config(**labels, **overrides)
    if family == "distilbert":
        config = DistilBertConfig(
            vocab_size=config.vocab_size,
            max_position_embeddings=MAX_POSITIONS,
            n_layers=config.num_hidden_layers,
            n_heads=config.num_attention_heads,
            dim=config.hidden_size,
            hidden_dim=config.intermediate_size,
            initializer_range=0.1,
            **labels,
        )
    model = AutoModelForSequenceClassification.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.05)
    loading.save(folder, model, make_tokenizer())
    return folder


@pytest.fixture(scope="session", autouse=True)
def _our_classes() -> None:
    """Tests load compact_bert folders with plain Auto classes, as the model card says to."""
    from compressor.models import register

    register()


@pytest.fixture(scope="session", autouse=True)
def session_folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Names the folder that the test processes of a session have in common."""
    base = tmp_path_factory.getbasetemp()
    os.environ[SESSION] = str(base.parent if "PYTEST_XDIST_WORKER" in os.environ else base)


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_classifier(tmp_path_factory.mktemp("classifier"))


@pytest.fixture(scope="session")
def distilbert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_classifier(tmp_path_factory.mktemp("distilbert"), "distilbert")


WriteRecipe = Callable[..., Path]


@pytest.fixture
def write_recipe(tmp_path: Path, encoder: Path) -> WriteRecipe:
    """Writes a small but whole recipe, its data beside it; keyword arguments replace its top-level keys."""
    return recipe_writer(tmp_path, encoder)


def recipe_writer(tmp_path: Path, encoder: Path) -> WriteRecipe:
    def write(**overrides: Any) -> Path:
        write_rows(tmp_path / "train.tsv", sentences(400, seed=1))
        write_rows(tmp_path / "dev.tsv", sentences(200, seed=2))
        train = {"epochs": 4, "batch_size": 16, "learning_rate": 3e-3, "max_sequence_length": 24}
        recipe = {
            "schema_version": 1,
            "name": "tiny",
            "task": "text-classification",
            "model": str(encoder),
            "data": {"train": "train.tsv", "validation": "dev.tsv", "text": "sentence", "label": "label"},
            "measure": {"sequence_length": 16, "runs": 60},
            "stages": [
                {"stage": "finetune", **train, "gates": {"accuracy": {"min": 0.8}}},
                {
                    "stage": "distill",
                    "layers": [0, 2],
                    "architecture": "distilbert",
                    **train,
                    "gates": {"accuracy": {"min_retention": 0.8}},
                },
                {"stage": "quantize", "scheme": "dynamic_int8", "gates": {"accuracy": {"min_retention": 0.8}}},
                {"stage": "export", "targets": ["onnx", "torchscript"], "gates": {"size_bytes": {"max": 1e6}}},
            ],
            **overrides,
        }
        recipe["stages"] = for_size(without_saturation(recipe["stages"]))
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
        return path

    return write


def for_size(stages: Any) -> Any:
    """A recipe's stages, right or wrong, whose files need not be faster than floats: of tiny models they may not be."""
    if not isinstance(stages, list):
        return stages
    ships = [isinstance(stage, dict) and stage.get("stage") == "export" for stage in stages]
    return [{"size_only": True, **stage} if last else stage for stage, last in zip(stages, ships, strict=True)]


def exact_settings(**keys: Any) -> Settings:
    """How weights become small: as by default, but to 7 bits where products of 8 saturate."""
    return Settings(**{"reduce_range": SATURATES, **keys})


def without_saturation(stages: Any) -> Any:
    """A recipe's stages, right or wrong, quantized to 7 bits where products of 8 saturate."""
    if not SATURATES or not isinstance(stages, list):
        return stages
    return [{"reduce_range": True, **stage} if _eight_bits(stage) else stage for stage in stages]


def _eight_bits(stage: Any) -> bool:
    integers = ("dynamic_int8", "static_int8", "qat_int8")
    return (
        isinstance(stage, dict)
        and stage.get("stage") == "quantize"
        and stage.get("scheme", integers[0]) in integers
        and "backend" not in stage
    )


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Path:
    """The folder of a run that has published all formats; whoever changes a file works on a copy."""
    folder = tmp_path_factory.mktemp("published")
    train = {"epochs": 4, "batch_size": 16, "learning_rate": 3e-3, "max_sequence_length": 24}
    stages = [
        {"stage": "finetune", **train, "gates": {"accuracy": {"min": 0.8}}},
        {"stage": "quantize"},
        {
            "stage": "export",
            "targets": ["onnx", "torchscript", "ort"],
            "fixed_lengths": [16],
            "gates": {"size_bytes": {"max": 1e6}},
        },
    ]
    path = recipe_writer(folder, encoder)(stages=stages)
    share_store(folder)
    result = compress("run", path.name, cwd=folder)
    assert result.returncode == 0, result.stdout + result.stderr
    return folder / "artifacts" / "tiny"


def passing(write: WriteRecipe, folder: Path, stages: list[dict[str, Any]], **overrides: Any) -> dict[str, Any]:
    """Runs a recipe that is to pass, in the session's store; its stages' reports by name."""
    share_store(folder)
    result = compress("run", write(stages=stages, **overrides).name, cwd=folder)
    assert result.returncode == 0, result.stdout + result.stderr
    report = json.loads((folder / "artifacts/tiny/report.json").read_text())
    return {entry["name"]: entry for entry in report["stages"]}
