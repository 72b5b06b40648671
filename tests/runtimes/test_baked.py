"""Text in, label out: the tokenizer in the file against the real one, on texts that tokenizers differ on."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from click.testing import CliRunner
from conftest import MAX_POSITIONS, WriteRecipe, make_config, make_tokenizer, passing, save_classifier, sentences
from exports import quantize, run_export
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from compressor.commands import main
from compressor.errors import StageError
from compressor.models import loading
from compressor.runtimes import RUNTIMES
from compressor.runtimes.baked_tokenizer import graph, wordpiece
from compressor.runtimes.baked_tokenizer.probes import PROBES

TEXTS = [text for text, _ in sentences(20, seed=5)]
HARD = list(PROBES)
ANY_TEXT = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), max_size=40)


def tokenize(session: Any, *texts: list[str]) -> dict[str, np.ndarray]:
    feed = {
        entry.name: np.array(column, dtype=object) for entry, column in zip(session.get_inputs(), texts, strict=True)
    }
    names = [entry.name for entry in session.get_outputs()]
    return dict(zip(names, session.run(names, feed), strict=True))


def expected(tokenizer: Any, *texts: list[str]) -> dict[str, np.ndarray]:
    return tokenizer(*texts, truncation="longest_first", max_length=MAX_POSITIONS, padding=True, return_tensors="np")


def save_tokenizer(folder: Path, lowercase: bool = True, strip_accents: bool | None = None) -> Path:
    """A checkpoint's tokenizer with characters of many kinds, and their forms inside words."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece
    from tokenizers.normalizers import BertNormalizer
    from tokenizers.pre_tokenizers import BertPreTokenizer
    from tokenizers.processors import BertProcessing
    from transformers import BertTokenizerFast

    plain = make_tokenizer().get_vocab()
    more = [
        "É",
        "é",
        "À",
        "ß",
        "İ",
        "A",
        "Z",
        "中",
        "文",
        "한",
        "ᄒ",
        "ᅡ",
        "ᆫ",
        "Ω",
        "ω",
        ".",
        "!",
        "[",
        "]",
        "'",
        "≠",
        "=",
    ]
    words = [*sorted(plain, key=plain.get), *more, *(f"##{word}" for word in more)]
    vocabulary = {word: index for index, word in enumerate(dict.fromkeys(words))}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = BertNormalizer(lowercase=lowercase, strip_accents=strip_accents)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.post_processor = BertProcessing(("[SEP]", vocabulary["[SEP]"]), ("[CLS]", vocabulary["[CLS]"]))
    fast = BertTokenizerFast(tokenizer_object=tokenizer, model_max_length=MAX_POSITIONS, do_lower_case=lowercase)
    fast.backend_tokenizer.normalizer = tokenizer.normalizer
    fast.save_pretrained(folder)
    make_config(vocab_size=len(vocabulary)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = save_classifier(tmp_path_factory.mktemp("baked") / "model", num_hidden_layers=2)
    return quantize(folder, folder.parent)


@pytest.fixture(scope="module")
def exported(classifier: Path) -> Path:
    run_export(classifier, classifier.parent / "exported", tokenizer="baked")
    return classifier.parent / "exported"


KINDS = {"uncased": {}, "cased": {"lowercase": False}, "accents": {"strip_accents": False}}


@pytest.fixture(scope="module", params=KINDS)
def both(request, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, Any]:
    """A tokenizer as a graph, for single texts and for pairs, and the real one."""
    folder = save_tokenizer(tmp_path_factory.mktemp(request.param), **KINDS[request.param])
    single, pairs = (graph.load(graph.tokenizing(folder, paired).SerializeToString()) for paired in (False, True))
    return single, pairs, AutoTokenizer.from_pretrained(folder)


def test_a_hard_batch_has_the_tokenizers_ids_and_masks(both):
    single, pairs, tokenizer = both
    for session, texts in ((single, [HARD]), (pairs, [HARD, HARD[::-1]])):
        found, wanted = tokenize(session, *texts), expected(tokenizer, *texts)
        for name in ("input_ids", "attention_mask", "token_type_ids"):
            assert np.array_equal(found[name], wanted[name]), name


@settings(max_examples=150, deadline=None)
@given(texts=st.lists(st.tuples(ANY_TEXT, ANY_TEXT), min_size=1, max_size=4))
def test_any_text_at_all(both, texts: list[tuple[str, str]]):
    single, pairs, tokenizer = both
    first, second = map(list, zip(*texts, strict=True))
    assert np.array_equal(tokenize(single, first)["input_ids"], expected(tokenizer, first)["input_ids"])
    found, wanted = tokenize(pairs, first, second), expected(tokenizer, first, second)
    assert all(np.array_equal(found[name], wanted[name]) for name in ("input_ids", "token_type_ids"))


@settings(max_examples=60, deadline=None)
@given(counts=st.tuples(st.integers(0, 60), st.integers(0, 60)))
def test_pairs_are_cut_as_the_tokenizer_cuts_them(both, counts: tuple[int, int]):
    texts = [["film " * counts[0]], ["plot " * counts[1]]]
    assert np.array_equal(tokenize(both[1], *texts)["input_ids"], expected(both[2], *texts)["input_ids"])


def test_a_word_that_has_no_tokens_is_unknown_as_a_whole(both):
    """The beginning of it has one: onnxruntime-extensions' operator keeps that."""
    ids = tokenize(both[0], ["film☃ good"])["input_ids"][0].tolist()
    assert both[2].convert_ids_to_tokens(ids) == ["[CLS]", "[UNK]", "good", "[SEP]"]


def test_special_tokens_in_a_text_are_themselves(both):
    ids = tokenize(both[0], ["a[SEP]b [mask]"])["input_ids"][0].tolist()
    assert both[2].convert_ids_to_tokens(ids)[1:4] == ["a", "[SEP]", "b"]


def test_a_trimmed_vocabulary(tmp_path: Path):
    """Its ids are those of the trimmed tokenizer; what is left out is split into characters."""
    source = save_classifier(tmp_path / "model", num_hidden_layers=1)
    parts = json.loads((source / "tokenizer.json").read_text())
    vocabulary = parts["model"]["vocab"]
    left = [token for token in vocabulary if token not in ("great", "film", "plot", "awful")]
    parts["model"]["vocab"] = {token: index for index, token in enumerate(left)}
    (source / "tokenizer.json").write_text(json.dumps(parts))
    trimmed = AutoTokenizer.from_pretrained(source)
    assert len(trimmed) == len(vocabulary) - 4
    session = graph.load(graph.tokenizing(source, False).SerializeToString())
    found, wanted = tokenize(session, TEXTS), expected(trimmed, TEXTS)
    assert np.array_equal(found["input_ids"], wanted["input_ids"])
    assert "##m" in trimmed.convert_ids_to_tokens(tokenize(session, ["film"])["input_ids"][0].tolist())


@pytest.mark.parametrize("family", ["bert", "distilbert"])
@pytest.mark.parametrize("small", [True, False])
def test_labels_are_those_of_the_graph_that_ships(family: str, small: bool, tmp_path: Path):
    source = save_classifier(tmp_path / "model", family, num_hidden_layers=2)
    if small:
        quantize(source, tmp_path)
    facts = run_export(source, tmp_path / "out", tokenizer="baked")
    path = tmp_path / "out" / graph.FILE
    assert facts["baked_bytes"] == path.stat().st_size
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    shipped = "onnx/model_quantized.onnx" if small else "onnx/model.onnx"
    plain = RUNTIMES["onnxruntime"].session(tmp_path / "out" / shipped, 1)
    session = graph.load(str(path))
    for texts in (TEXTS, HARD, ["good"], [""]):
        logits = plain.predict(expected(tokenizer, texts))["logits"]
        found = tokenize(session, texts)
        assert found["label"].tolist() == [("negative", "positive")[index] for index in logits.argmax(-1)]
        exponents = np.exp(logits - logits.max(-1, keepdims=True))
        assert np.abs(found["probabilities"] - exponents / exponents.sum(-1, keepdims=True)).max() < 1e-6
    assert np.ptp(tokenize(session, TEXTS)["probabilities"][:, 0]) > 1e-3, "or the test would prove nothing"


def test_pairs_of_texts(classifier: Path, tmp_path: Path):
    run_export(classifier, tmp_path / "out", pairs=True, tokenizer="baked")
    session = graph.load(str(tmp_path / "out" / graph.FILE))
    plain = RUNTIMES["onnxruntime"].session(tmp_path / "out/onnx/model_quantized.onnx", 1)
    wanted = expected(AutoTokenizer.from_pretrained(classifier), TEXTS, TEXTS[::-1])
    logits = plain.predict(wanted)["logits"]
    found = tokenize(session, TEXTS, TEXTS[::-1])
    assert found["label"].tolist() == [("negative", "positive")[index] for index in logits.argmax(-1)]


def test_inputs_outputs_and_metadata(exported: Path):
    session = graph.load(str(exported / graph.FILE))
    (text,), (label, probabilities) = session.get_inputs(), session.get_outputs()
    assert (text.name, text.type, text.shape) == ("text", "tensor(string)", ["batch_size"])
    assert (label.name, label.type, label.shape) == ("label", "tensor(string)", ["batch_size"])
    assert (probabilities.name, probabilities.shape) == ("probabilities", ["batch_size", 2])
    assert session.get_modelmeta().custom_metadata_map["labels"] == '["negative", "positive"]'
    weights = {tensor.name for tensor in onnx.load(str(exported / graph.FILE)).graph.initializer}
    shipped = {tensor.name for tensor in onnx.load(str(exported / "onnx/model_quantized.onnx")).graph.initializer}
    assert shipped <= weights, "the graph inside is the quantized one"


def test_inspect_and_bench(exported: Path):
    result = CliRunner().invoke(main.main, ["inspect", str(exported), "--json"])
    assert result.exit_code == 0, result.output
    found = {Path(entry["path"]).name: entry for entry in json.loads(result.stdout)}
    assert found[graph.FILE.name]["operators"]["WordpieceTokenizer"] == 1
    result = CliRunner().invoke(main.main, ["bench", str(exported / graph.FILE), "--sequence-length", "16", "--json"])
    assert result.exit_code == 0, result.output
    (timed,) = json.loads(result.stdout)
    assert timed["runtime"] == "onnx_with_tokenizer" and timed["p50"]["value"] > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda parts: parts.update(normalizer={"type": "Lowercase"}), "its normalizer is Lowercase"),
        (lambda parts: parts.update(pre_tokenizer={"type": "Whitespace"}), "its pre_tokenizer is Whitespace"),
        (lambda parts: parts["added_tokens"][0].update(lstrip=True), "'[PAD]' asks for more"),
        (lambda parts: parts["added_tokens"][0].update(content="a b"), "'a b' is more than a word"),
    ],
)
def test_other_tokenizers_are_refused_with_the_reason(classifier: Path, tmp_path: Path, change, message: str):
    parts = json.loads((classifier / "tokenizer.json").read_text())
    assert wordpiece.unsupported(parts) is None
    change(parts)
    (tmp_path / "tokenizer.json").write_text(json.dumps(parts))
    assert message in (wordpiece.unsupported_files(tmp_path) or "")


def test_a_tokenizer_that_splits_otherwise_is_caught(classifier: Path, tmp_path: Path):
    """Here by special tokens in another place, which nothing else looks at."""
    from tokenizers.processors import BertProcessing
    from transformers import PreTrainedTokenizerFast

    backend = loading.load_tokenizer(classifier).backend_tokenizer
    backend.post_processor = BertProcessing(("[CLS]", 2), ("[SEP]", 3))
    names = {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "unk_token": "[UNK]"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=MAX_POSITIONS, **names)
    tokenizer.save_pretrained(tmp_path / "odd")
    make_config().save_pretrained(tmp_path / "odd")
    with pytest.raises(StageError, match="otherwise than BERT's"):
        graph.write(tmp_path / "odd", classifier / "onnx/model_quantized.onnx", tmp_path / "odd.onnx", pairs=False)


def validate(path: Path) -> str:
    return CliRunner().invoke(main.main, ["validate", str(path)]).output


BAKED = [{"stage": "finetune", "epochs": 1}, {"stage": "export", "tokenizer": "baked"}]


def test_validate_takes_it(write_recipe: WriteRecipe):
    assert ": ok, 2 stages" in validate(write_recipe(stages=BAKED))


def test_validate_says_that_the_extra_is_missing(write_recipe: WriteRecipe, monkeypatch: pytest.MonkeyPatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *_: None if "extensions" in name else find(name))
    output = validate(write_recipe(stages=BAKED))
    assert "stages[1] (export).tokenizer" in output and "pip install 'bert-compressor[baked]'" in output


def test_validate_refuses_tasks_without_a_label_for_a_text(write_recipe: WriteRecipe, tmp_path: Path):
    (tmp_path / "corpus.txt").write_text("a film\n" * 50)
    recipe = write_recipe(task="masked-lm", data={"corpus": "corpus.txt"}, stages=BAKED)
    assert "masked-lm does not give one" in validate(recipe)


def test_a_run_ships_every_file_and_says_how_to_run_it(write_recipe: WriteRecipe, tmp_path: Path):
    finetune = {"stage": "finetune", "epochs": 4, "batch_size": 16, "learning_rate": 3e-3, "max_sequence_length": 24}
    stages = [finetune, {"stage": "quantize"}, {"stage": "export", "targets": ["onnx", "ort"], "tokenizer": "baked"}]
    passing(write_recipe, tmp_path, stages)
    folder = tmp_path / "artifacts/tiny"
    session = graph.load(str(folder / "model" / graph.FILE))
    assert tokenize(session, ["a lovely film", "a dreadful film"])["label"].tolist() == ["positive", "negative"]
    lock = yaml.safe_load((folder / "recipe.lock.yaml").read_text())
    meta = session.get_modelmeta().custom_metadata_map
    assert (meta["recipe"], meta["recipe_digest"]) == ("tiny", lock["stages"]["export"]["key"])
    parity_facts = json.loads((folder / "report.json").read_text())["stages"][-1]["details"]["parity"]["formats"]
    assert parity_facts["onnx_with_tokenizer"]["label_agreement"] == 1
    recorded = json.loads((folder / "model/verification.json").read_text())
    assert len(recorded["texts"]) == len(recorded["rows"]) > 0
    result = CliRunner().invoke(main.main, ["verify", str(folder), "--json"])
    assert result.exit_code == 0, result.output
    checks = {entry["subject"] for entry in json.loads(result.stdout)["checks"] if entry["kind"] == "parity"}
    assert {str(graph.FILE), f"{graph.FILE}, recorded"} <= checks
    card = (folder / "model/README.md").read_text()
    for name in ("onnx/model_quantized.onnx", "onnx/model_with_tokenizer.onnx", "ort/model.ort"):
        assert f"| `{name}` |" in card
