"""The programs of examples/ for app developers give the tokens and the answers that Python gives."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
import pytest
import torch
import transformers
from conftest import MAX_POSITIONS, SPECIAL, make_config, make_tokenizer, sentences
from in_process import InProcess
from tiny_models import with_random_vectors
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import BertProcessing

from compressor.measure import recorded_answers
from compressor.measure.token_rows import TokenRows
from compressor.models import loading, thresholds
from compressor.models.checkpoint import Checkpoint
from compressor.models.sentence_embedding import KEY, SentenceEmbedding
from compressor.models.sentence_encoder import class_of
from compressor.runtimes import RUNTIMES
from compressor.runtimes.baked_tokenizer.probes import PROBES

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
CLIENTS = ROOT / "tests" / "clients"
FLOAT, INT8, ORT, FIXED = (
    "onnx/model.onnx",
    "onnx/model_quantized.onnx",
    "ort/model.ort",
    "onnx/model_quantized_16.onnx",
)
TEXTS = [text for text, _ in sentences(12, seed=5)]
TRICKY = [
    *PROBES,
    *("naïve CAFÉ, İstanbul ΟΔΟΣ, straße ﬁn", "我爱北京天安门 2024年 カフェ 한글"),
    *("🙂🇫🇮👩‍👩‍👧 text ❤️", "a\x00b\x07c\ufffdd\x7fe\x85f", "line\r\nbreak\u2028and\u00a0no-break\u3000wide"),
    *("x" * 100, "x" * 101, "unaffable " + "é" * 99, "\ud7ff\ue000\U000e0001tag", "[CLS] [mask][MASK] [SEP]"),
    *("«quoted» ‘single’ „low“ —dash… ¿qué? ¡sí!", "C++/C#_$^`~|=<>", "१२३ ๓ ½ ² ₂ Ⅷ"),
]  # fmt: skip
TAGS = ["O", "B-PER", "I-PER"]
ANDROID_ONLY = ("ExecuTorchModel", "MainActivity")
CLASSPATH = "ANDROID_EXAMPLE_CLASSPATH"


def tokenizer_of(lowercase: bool) -> Any:
    """A tokenizer that knows each character of the tricky texts, alone and inside a word: no difference is hidden."""
    normalizer = BertNormalizer(lowercase=lowercase)
    characters = sorted({char for text in TRICKY for char in normalizer.normalize_str(text) if not char.isspace()})
    words = [*SPECIAL, *characters, *(f"##{char}" for char in characters), "great", "un", "##aff", "##able", "word"]
    vocabulary = {word: index for index, word in enumerate(dict.fromkeys(words))}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, BertPreTokenizer()
    tokenizer.post_processor = BertProcessing(("[SEP]", vocabulary["[SEP]"]), ("[CLS]", vocabulary["[CLS]"]))
    return transformers.BertTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=MAX_POSITIONS, do_lower_case=lowercase
    )


def save(folder: Path, model: Any, tokenizer: Any) -> Path:
    """A model with random weights in float, as `export` leaves it."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.2)
    loading.save(folder, model.eval(), tokenizer)
    RUNTIMES["onnxruntime"].export(folder, folder / FLOAT)
    return folder


def record(folder: Path, task: str, texts: Sequence[Sequence[str]]) -> None:
    """Writes verification.json, of texts as the real tokenizer splits them, and of the answers in Python."""
    tokenizer = loading.load_tokenizer(folder)
    lists = [dict(tokenizer(*text, truncation=True, return_token_type_ids=True)) for text in texts]
    rows = TokenRows.of(lists, 0)
    rows.save(folder.parent / "rows.npz")
    job = {
        **{"task": task, "keep": "compared", "runtime": "onnxruntime", "path": str(folder / FLOAT)},
        **{"threads": 1, "workers": 1, "offsets": thresholds.offsets(Checkpoint(folder))},
        "sets": [{"name": "rows", "rows": str(folder.parent / "rows.npz"), "batches": [[n] for n in range(len(rows))]}],
    }
    answers = InProcess().predict(job)["rows"]
    taken = rows.take(range(len(rows)))
    recorded_answers.write(folder / recorded_answers.FILE, task, taken, {FLOAT: answers}, texts)


class Said(NamedTuple):
    """What a program said."""

    code: int
    lines: list[str]
    summary: str
    error: str


def run(*command: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=600, check=False, **options
    )


def said(*command: str | Path, **options: Any) -> Said:
    result = run(*command, **options)
    lines = result.stdout.splitlines()
    return Said(result.returncode, lines[:-1], lines[-1] if lines else "", result.stderr)


def summary(rows: int, texts: int) -> str:
    """The last line where all is as it was recorded."""
    return f"{rows} of {rows} answers as recorded, {texts} of {texts} texts with the recorded tokens"


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """check.js, built from examples/web by its own tsconfig.json."""
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    if not (CLIENTS / "node_modules" / "typescript").is_dir():
        pytest.skip(f"no typescript in {CLIENTS / 'node_modules'}: npm ci --ignore-scripts --prefix {CLIENTS}")
    folder = tmp_path_factory.mktemp("web")
    for name in ("tsconfig.json", "package.json"):
        shutil.copy(EXAMPLES / "web" / name, folder)
    for source in (EXAMPLES / "web").glob("*.ts"):
        shutil.copy(source, folder)
    (folder / "node_modules").symlink_to(CLIENTS / "node_modules")
    result = run(folder / "node_modules" / ".bin" / "tsc", cwd=folder)
    assert result.returncode == 0, result.stdout
    return folder / "build" / "check.js"


def labels_of(folder: Path, file: str) -> list[str]:
    """The label of each recorded row, of ONNX Runtime in Python."""
    names = json.loads((folder / "config.json").read_text())["id2label"]
    session = onnxruntime.InferenceSession(folder / file)
    found = []
    for row in json.loads((folder / "verification.json").read_text())["rows"]:
        ids = np.array([row["input_ids"]])
        values = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        (logits,) = session.run(["logits"], {entry.name: values[entry.name] for entry in session.get_inputs()})
        found.append(names[str(logits[0].argmax())])
    return found


@pytest.mark.parametrize("file", [FLOAT, INT8, ORT])
def test_the_web_program_on_what_a_run_ships(published: Path, web: Path, file: str):
    folder = published / "model"
    expected = labels_of(folder, file)
    assert set(expected) == {"negative", "positive"}
    found = said("node", web, folder, file)
    assert found.lines == [f"row {index}: {label}" for index, label in enumerate(expected)], found.error
    assert found.summary == summary(len(expected), 0)
    assert found.code == 0


def make_kind(kind: str, folder: Path) -> tuple[Path, str]:
    """A tiny model of a kind and its task."""
    torch.manual_seed(4)
    tokenizer, named = make_tokenizer(), {} if kind == "spans" else {"id2label": dict(enumerate(TAGS))}
    config = make_config(num_hidden_layers=2, initializer_range=0.3, **named)
    if kind == "vectors":
        setattr(config, KEY, SentenceEmbedding().settings())
        return save(folder, with_random_vectors(class_of(config)(config)), tokenizer), "sentence-similarity"
    if kind == "tags":
        return save(folder, transformers.BertForTokenClassification(config), tokenizer), "token-classification"
    if kind == "spans":
        return save(folder, transformers.BertForQuestionAnswering(config), tokenizer), "question-answering"
    config.problem_type = "multi_label_classification"
    save(folder, transformers.BertForSequenceClassification(config), tokenizer)
    settings = json.loads((folder / "config.json").read_text())
    settings[thresholds.KEY] = {"O": 0.4, "B-PER": 0.7}
    (folder / "config.json").write_text(json.dumps(settings))
    return folder, "multi-label-classification"


@pytest.mark.parametrize("kind", ["several labels", "vectors", "tags", "spans"])
def test_the_web_program_on_other_tasks(kind: str, web: Path, tmp_path: Path):
    folder, task = make_kind(kind, tmp_path / "model")
    texts = [[text] for text in TEXTS]
    if kind == "spans":
        texts = [[one, other] for one, other in zip(TEXTS, reversed(TEXTS), strict=True)]
    record(folder, task, texts)
    found = said("node", web, folder, FLOAT)
    alone = 0 if kind == "spans" else len(TEXTS)
    assert found.summary == summary(len(TEXTS), alone), found
    assert found.code == 0
    damage(folder)
    found = said("node", web, folder, FLOAT)
    assert found.code == 1 and found.lines[3].endswith(", recorded otherwise"), found
    assert found.summary.startswith(f"{len(TEXTS) - 1} of {len(TEXTS)} answers as recorded")


def damage(folder: Path) -> None:
    """Records another answer of the fourth row."""
    path = folder / recorded_answers.FILE
    document = json.loads(path.read_text())
    answers = document["answers"][FLOAT]
    if document["task"] in ("sentence-similarity", "multi-label-classification"):
        answers["logits"][3][0] = [-value for value in answers["logits"][3][0]]
    else:
        answers["choices"][3][0][:2] = answers["choices"][3][0][1::-1]
    path.write_text(json.dumps(document))


@pytest.fixture(scope="module", params=[True, False], ids=["lower", "cased"])
def tricky(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier whose tokenizer knows the characters of tricky texts, and its answers to them."""
    tokenizer = tokenizer_of(request.param)
    torch.manual_seed(5)
    config = make_config(vocab_size=len(tokenizer), num_hidden_layers=2)
    folder = tmp_path_factory.mktemp("tricky") / "model"
    save(folder, transformers.BertForSequenceClassification(config), tokenizer)
    record(folder, "text-classification", [[text] for text in TRICKY])
    return folder


def test_the_web_tokenizer(tricky: Path, web: Path):
    found = said("node", web, tricky, FLOAT)
    other = [TRICKY[int(re.findall(r"\d+", line)[0])] for line in found.lines if line.endswith(", other tokens")]
    lower = Checkpoint(tricky).config["vocab_size"] == len(tokenizer_of(True))
    assert other == [text for text in TRICKY if lower and "ΟΔΟΣ" in text], found
    assert found.code == int(lower)


def test_the_web_program_says_what_is_wrong(tricky: Path, web: Path, tmp_path: Path):
    assert said("node", web).code == 2
    missing = said("node", web, tmp_path)
    assert missing.code == 2 and "config.json" in missing.error
    other = said("node", web, tricky, "onnx/model_quantized.onnx")
    assert other.code == 2 and "model_quantized.onnx" in other.error
    assert "at " not in missing.error + other.error, "no traceback"


@pytest.fixture(scope="module")
def kotlinc() -> str:
    found = CLIENTS / "node_modules" / "kotlin-compiler" / "bin" / "kotlinc"
    if shutil.which("java") is None:
        pytest.skip("java is not installed")
    if not found.is_file():
        pytest.skip(f"no kotlin-compiler in {CLIENTS / 'node_modules'}: npm ci --ignore-scripts --prefix {CLIENTS}")
    return str(found)


def java(kotlinc: str, *classes: Path) -> list[str]:
    library = Path(kotlinc).parents[1] / "lib" / "kotlin-stdlib.jar"
    return ["java", "-cp", os.pathsep.join(map(str, (*classes, library)))]


@pytest.fixture(scope="module")
def tokens(kotlinc: str, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command that prints tokens of the Android example."""
    target = tmp_path_factory.mktemp("tokens") / "tokens.jar"
    sources = EXAMPLES / "android/src/main/kotlin/example/WordPiece.kt", CLIENTS / "tokens.kt"
    result = run("bash", kotlinc, *sources, "-d", target)
    assert result.returncode == 0, result.stderr
    return [*java(kotlinc, target), "example.TokensKt"]


@pytest.mark.parametrize("lowercase", [True, False], ids=["lower", "cased"])
@pytest.mark.parametrize("pairs", [False, True], ids=["texts", "pairs"])
def test_the_android_tokenizer(tokens: list[str], lowercase: bool, pairs: bool, tmp_path: Path):
    tokenizer = tokenizer_of(lowercase)
    vocabulary = tmp_path / "vocabulary.txt"
    by_id = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    vocabulary.write_text("\n".join(token for token, _ in by_id), encoding="utf-8", newline="\n")
    texts = [(text,) for text in TRICKY]
    if pairs:  # transformers takes an empty second text for none
        texts = [(one, other or "a") for one, other in zip(TRICKY, reversed(TRICKY), strict=True)]
    lines = [" ".join(base64.b64encode(part.encode()).decode() for part in text) for text in texts]
    case = "lower" if lowercase else "cased"
    result = run(*tokens, vocabulary, str(MAX_POSITIONS), case, input="\n".join(lines) + "\n")
    assert result.returncode == 0, result.stderr
    for text, line in zip(texts, result.stdout.splitlines(), strict=True):
        expected = tokenizer(*text, truncation=True, max_length=MAX_POSITIONS)
        assert [int(number) for number in line.split()] == expected["input_ids"] + expected["token_type_ids"], text


@pytest.fixture(scope="module")
def android(kotlinc: str, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command that checks a folder with the Android example, on this machine's Java.

    Neither ONNX Runtime's jar nor that of org.json, which Android has, is in a registry that these tests use.
    """
    if not (classpath := os.environ.get(CLASSPATH)):
        pytest.skip(f"set {CLASSPATH} to the jars of com.microsoft.onnxruntime:onnxruntime and org.json:json")
    target = tmp_path_factory.mktemp("android") / "check.jar"
    sources = [
        path for path in (EXAMPLES / "android/src/main/kotlin/example").glob("*.kt") if path.stem not in ANDROID_ONLY
    ]
    result = run("bash", kotlinc, *sources, "-cp", classpath, "-d", target)
    assert result.returncode == 0, result.stderr
    return [*java(kotlinc, target, *map(Path, classpath.split(os.pathsep))), "example.MainKt"]


@pytest.mark.parametrize("file", [FLOAT, INT8, ORT, FIXED])
def test_the_android_program_on_what_a_run_ships(published: Path, android: list[str], file: str):
    folder = published / "model"
    expected = labels_of(folder, INT8 if file == FIXED else file)
    found = said(*android, folder, file)
    assert found.lines == [f"row {index}: {label}" for index, label in enumerate(expected)], found.error
    assert found.summary == summary(len(expected), 0) and found.code == 0


@pytest.mark.parametrize("kind", ["several labels", "vectors", "tags", "spans"])
def test_the_android_program_on_other_tasks(kind: str, android: list[str], tmp_path: Path):
    folder, task = make_kind(kind, tmp_path / "model")
    texts = [[text] for text in TEXTS]
    if kind == "spans":
        texts = [[one, other] for one, other in zip(TEXTS, reversed(TEXTS), strict=True)]
    record(folder, task, texts)
    found = said(*android, folder, FLOAT)
    assert found.summary == summary(len(TEXTS), len(TEXTS)) and found.code == 0, found
    damage(folder)
    assert said(*android, folder, FLOAT).code == 1


def test_the_android_program_says_what_is_wrong(android: list[str], tricky: Path, tmp_path: Path):
    missing, other = said(*android, tmp_path), said(*android, tricky, INT8)
    assert (missing.code, other.code) == (2, 2)
    assert "config.json" in missing.error and "model_quantized.onnx" in other.error
    assert "\tat " not in missing.error + other.error, "no traceback"
