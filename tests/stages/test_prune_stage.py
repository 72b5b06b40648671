"""Pruned students through the real command: cut, recovered, pruned again, quantized, exported, loaded again."""

from __future__ import annotations

import json
from pathlib import Path

import onnxruntime
import pytest
import torch
import transformers
from conftest import WriteRecipe, passing, recipe_writer, sentences
from prune_stages import CUT, END, TEACHER, TRAIN
from running import compress, compress_process

GATE = {"gates": {"accuracy": {"min_retention": 0.8}}}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> tuple[Path, dict[str, dict]]:
    folder = tmp_path_factory.mktemp("prune")
    stages = [
        TEACHER,
        {"stage": "prune", "heads": 0.25, "ffn": 0.5, "epochs": 3, **TRAIN, **GATE},
        {"stage": "prune", "name": "again", "layers": 1, "ffn": 0.25, "scope": "global", "epochs": 2, **TRAIN, **GATE},
        {**END[0], **GATE},
        END[1],
    ]
    return folder, passing(recipe_writer(folder, encoder), folder, stages)


def test_a_pruned_student_recovers_and_says_what_it_kept(finished):
    _, stages = finished
    once, again = stages["prune"]["details"], stages["again"]["details"]
    assert (once["heads"], once["neurons"]) == ([3] * 4, [32] * 4)
    assert all(0 < share < limit for share, limit in zip(once["removed_score"].values(), (0.25, 0.5), strict=True))
    assert once["weights"] == {"soft": 0.9, "hard": 0.1, "margin": 0.0, "cosine": 1.0, "attention": 0.0}
    assert once["layer_map"] == [0, 1, 2, 3]
    assert len(again["layers"]) == 3 and again["heads"] == [3] * 3 and sum(again["neurons"]) == 72
    assert again["layer_map"] == [0, 1, 3], "hidden states of the teacher's layers, the last from its last"
    assert set(again["importance"][0]["degradation"]) == set("0123")
    head, neuron = 4 * 32 * 8 + 24, 2 * 32 + 1
    parameters = {name: entry["measurements"]["num_parameters"]["value"] for name, entry in stages.items()}
    assert parameters["prune"] == parameters["baseline"] - 4 * head - 4 * 32 * neuron == once["parameters"]
    assert parameters["again"] == again["parameters"] < parameters["prune"]
    sizes = {name: entry["measurements"]["size_bytes"]["value"] for name, entry in stages.items()}
    assert sizes["baseline"] > sizes["prune"] > sizes["again"] > sizes["quantize"]
    assert stages["export"]["measurements"]["parity_max_abs_diff"]["value"] < 1e-3
    assert stages["export"]["measurements"]["quantized_coverage"]["value"] == 1


def test_it_is_loaded_by_auto_classes_with_the_same_logits_everywhere(finished):
    path = finished[0] / "artifacts/tiny/model"
    model, info = transformers.AutoModelForSequenceClassification.from_pretrained(path, output_loading_info=True)
    assert not any(info.values()), info
    assert type(model).__name__ == "CompactBertForSequenceClassification"
    assert "register()" in (path / "README.md").read_text()
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    inputs = tokenizer(["a good film", "the dull story was awful"], padding=True, return_tensors="pt")
    with torch.no_grad():
        logits = model(**inputs).logits.numpy()
    session = onnxruntime.InferenceSession(path / "onnx/model.onnx", providers=["CPUExecutionProvider"])
    given = session.run(["logits"], {name: tensor.numpy() for name, tensor in inputs.items()})[0]
    assert abs(given - logits).max() < 1e-4
    assert [model.config.id2label[int(index)] for index in logits.argmax(axis=-1)] == ["positive", "negative"]


def test_a_pruned_checkpoint_can_be_a_recipes_model(finished, write_recipe: WriteRecipe, tmp_path: Path):
    stages = passing(
        write_recipe,
        tmp_path,
        [
            {"stage": "prune", "heads": 0.34, "scoring": "magnitude", "epochs": 1, **TRAIN},
            {"stage": "distill", "num_hidden_layers": 2, "epochs": 1, **TRAIN},
            {"stage": "factorize", "embedding_size": 8, "epochs": 0, "max_sequence_length": 24},
        ],
        model=str(finished[0] / "artifacts/tiny/model"),
    )
    assert stages["prune"]["details"]["heads"] == [2] * 3
    config = json.loads((tmp_path / "artifacts/tiny/model/config.json").read_text())
    assert (config["model_type"], config["heads"], config["embedding_size"]) == ("compact_bert", [2, 2], 8)


def test_what_keeps_all_heads_stays_plain_and_what_is_shared_is_pruned_once(write_recipe: WriteRecipe, tmp_path: Path):
    stages = passing(
        write_recipe,
        tmp_path,
        [
            TEACHER,
            {**CUT, "layers": [1], "ffn": 0.5},
            {"stage": "share", "epochs": 0, "max_sequence_length": 24},
            {**CUT, "name": "shared", "ffn": 0.5, "scope": "global"},
            {**CUT, "name": "nothing", "heads": 0.0, "scoring": "random"},
        ],
    )
    assert "steps" not in stages["prune"]["details"], "nothing was trained"
    assert stages["prune"]["details"]["layers"] == [0, 2, 3]
    assert (stages["shared"]["details"]["neurons"], stages["shared"]["details"]["heads"]) == ([16], [4])
    config = json.loads((tmp_path / "artifacts/tiny/model/config.json").read_text())
    assert (config["model_type"], config["num_hidden_layers"], config["intermediate_size"]) == ("albert", 3, 16)
    same = [stages[name]["measurements"]["accuracy"]["value"] for name in ("shared", "nothing")]
    assert same[0] == same[1]


def test_a_language_model_is_pruned_by_its_own_loss(write_recipe: WriteRecipe, tmp_path: Path):
    both = {"heads": 0.5, "ffn": 0.5, "epochs": 1, **TRAIN}
    lines = [f"the film was {word} and the plot was {word} too" for word in ("good", "bad", "long", "fine")] * 60
    (tmp_path / "corpus.txt").write_text("\n".join(f"{line} {n % 7} {n % 5}" for n, line in enumerate(lines)))
    stages = passing(
        write_recipe,
        tmp_path,
        [
            {"stage": "finetune", "epochs": 1, **TRAIN},
            {"stage": "prune", **both},
        ],
        task="masked-lm",
        data={"corpus": "corpus.txt"},
    )
    details = stages["prune"]["details"]
    assert (details["heads"], details["neurons"]) == ([2] * 4, [32] * 4)
    assert set(details["terms"]) == {"soft", "mlm", "cosine"}
    model = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / "artifacts/tiny/model")
    assert type(model).__name__ == "CompactBertForMaskedLM"


def write_text(path: Path) -> Path:
    """Texts without most of the words that the rows have."""
    lines = ["good film", "bad plot", "the good and the bad film", "a plot"] * 20
    path.write_text("\n".join([*lines, "superb", "long"]))
    return path


def test_a_trimmed_vocabulary_ships_with_its_tokenizer(write_recipe: WriteRecipe, tmp_path: Path):
    write_text(tmp_path / "texts.txt")
    stages = passing(
        write_recipe,
        tmp_path,
        [
            TEACHER,
            {
                "stage": "prune",
                "vocabulary": {"min_count": 2, "corpus": "texts.txt"},
                "ffn": 0.25,
                "epochs": 3,
                **TRAIN,
            },
            {"stage": "share", "num_hidden_groups": 2, "epochs": 1, **TRAIN},
            {**CUT, "name": "rows", "vocabulary": {"min_count": 1}},
            *END,
        ],
    )
    details = stages["prune"]["details"]
    assert details["vocabulary"] == {
        **{"before": 86, "after": 63, "texts": 82},
        **{"texts_changed": round(2 / 82, 6), "tokens_changed": round(2 / 242, 6)},
        **{"new_texts_changed": round(2 / 82, 6), "new_tokens_changed": round(2 / 242, 6)},
    }
    assert details["weights"]["cosine"] == 0 and "layer_map" not in details, "tokens do not correspond"
    assert stages["share"]["details"]["weights"]["cosine"] == 0
    assert stages["rows"]["details"]["vocabulary"]["texts"] == 400
    report = (tmp_path / "artifacts/tiny/report.md").read_text()
    assert "prune: The vocabulary went from 86 to 63 tokens. Of 82 texts, 2.44% are now split otherwise" in report
    assert "Of new text of this kind it would be about 2% and 0.8%" in report
    assert "hidden states could not be compared token by token" in report
    assert stages["quantize"]["measurements"]["quantized_coverage"]["value"] == 1

    path = tmp_path / "artifacts/tiny/model"
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(path).eval()
    assert len(tokenizer) == model.config.vocab_size == 63
    texts = ["a superb film", "unseen wordings", "naïve café", "日本語 Ελληνικά עברית", "😀 ☃", "", "x" * 300]
    inputs = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
    assert tokenizer.tokenize("superb") == ["s", "##u", "##p", "##e", "##r", "##b"]
    with torch.no_grad():
        logits = model(**inputs).logits
    assert logits.isfinite().all()
    session = onnxruntime.InferenceSession(path / "onnx/model.onnx", providers=["CPUExecutionProvider"])
    given = session.run(["logits"], {name: tensor.numpy() for name, tensor in inputs.items()})[0]
    assert abs(given - logits.numpy()).max() < 1e-4


def test_what_splits_no_row_otherwise_still_learns_hidden_states(
    write_recipe: WriteRecipe, distilbert: Path, tmp_path: Path
):
    stages = passing(
        write_recipe,
        tmp_path,
        [
            TEACHER,
            {"stage": "prune", "vocabulary": {"min_count": 1}, "epochs": 1, **TRAIN},
            {"stage": "distill", "student": str(distilbert), **TRAIN, "max_steps": 2},  # knows more tokens again
        ],
    )
    details = stages["prune"]["details"]
    assert details["vocabulary"]["texts_changed"] == 0 <= details["vocabulary"]["new_texts_changed"] < 0.1
    assert details["weights"]["cosine"] == 1 and details["layer_map"] == [0, 1, 2, 3]
    assert details["terms"]["cosine"][0][1] < 0.05, "the student starts as its teacher, whose tokens have other ids"


def test_a_text_to_count_in_is_part_of_the_key_and_an_empty_one_is_refused(write_recipe: WriteRecipe, tmp_path: Path):
    text = write_text(tmp_path / "texts.txt")
    held_out = {row for row, _ in sentences(200, seed=2)}
    text.write_text("\n".join([text.read_text(), *held_out]))
    stage = {**CUT, "vocabulary": {"keep": 64, "corpus": {"source": "texts.txt", "fraction": 1.0}}}
    path = write_recipe(stages=[TEACHER, stage])
    assert compress("run", path.name, cwd=tmp_path).returncode == 0
    assert "200 of 200 validation rows (100.0 %) have a text" in (tmp_path / "artifacts/tiny/report.md").read_text()
    text.write_text(text.read_text() + "\nsuperb superb superb")
    plan = compress("plan", path.name, cwd=tmp_path).stdout
    assert "the text whose tokens are counted changed" in plan
    text.write_bytes(b"good \xff film")
    assert "vocabulary.corpus: texts.txt, line 1: is not UTF-8" in compress("run", path.name, cwd=tmp_path).stderr
    text.write_text("\n\n")
    result = compress("run", path.name, cwd=tmp_path)
    assert result.returncode == 2
    assert "vocabulary.corpus: has no text to count tokens in; name another, or leave it out" in result.stderr


def test_several_processes_prune_together(write_recipe: WriteRecipe, tmp_path: Path):
    cut = {"heads": 0.5, "ffn": 0.5, "scope": "global", "steps": 2, "vocabulary": {"min_count": 1}, "sparsity": 0.5}
    path = write_recipe(stages=[TEACHER, {"stage": "prune", **cut, **TRAIN, "max_steps": 4}])
    result = compress_process("run", path.name, "--allow-inconclusive", cwd=tmp_path, together=2)
    assert result.returncode == 0, result.stdout + result.stderr
    details = json.loads((tmp_path / "artifacts/tiny/report.json").read_text())["stages"][-1]["details"]
    assert (sum(details["heads"]), sum(details["neurons"])) == (8, 128)
    assert details["sparsity"]["matrices"] == pytest.approx(0.5, abs=1e-3)


def test_what_undoes_pruning_is_refused(write_recipe: WriteRecipe, tmp_path: Path):
    (tmp_path / "corpus.txt").write_text("one text\nand another")
    sparse = {**CUT, "sparsity": 0.5, "vocabulary": {"min_count": 1}}
    data = {"train": "train.tsv", "text": "sentence", "corpus": "corpus.txt"}
    pretraining = {"stage": "distill", "objective": "pretraining", "alpha_soft": 0}
    path = write_recipe(stages=[TEACHER, sparse, {**CUT, "ffn": 0.5, "epochs": 1}, {**CUT, "heads": 0.5}], data=data)
    result = compress("validate", path.name, cwd=tmp_path)
    assert "stages[2] (prune): prune trains, and would fill the zeros that a stage before it has made" in result.stderr
    assert "stages[3]" not in result.stderr, "what does not train may follow"
    result = compress("validate", write_recipe(stages=[TEACHER, sparse, pretraining], data=data).name, cwd=tmp_path)
    assert "stages[2] (distill): pretraining starts from the whole vocabulary again" in result.stderr
    path = write_recipe(stages=[TEACHER, {**pretraining, **CUT, "ffn": 0.5, "vocabulary": {"keep": 60}}], data=data)
    result = compress("validate", path.name, cwd=tmp_path)
    assert "vocabulary: changes the tokens, and pretraining learns which tokens the teacher guesses" in result.stderr
    path = write_recipe(stages=[TEACHER, {**pretraining, "epochs": 1}, {**CUT, "ffn": 0.5}], data=data)
    result = compress("validate", path.name, cwd=tmp_path)
    assert "prune follows pretraining, which leaves no head for text-classification" in result.stderr


def test_targets_are_met_as_they_are_measured(write_recipe: WriteRecipe, tmp_path: Path):
    limits = {"num_parameters": 30_000, "size_bytes": 110_000, "latency_p50_ms": 1000.0}
    targets = [{**CUT, "name": name, "target": {name: limit}} for name, limit in limits.items()]
    for target in targets[:2]:
        target["gates"] = {target["name"]: {"max": limits[target["name"]]}}
    stages = passing(write_recipe, tmp_path, [TEACHER, *targets])
    for name, limit in limits.items():
        found, measured = stages[name]["details"]["target"], stages[name]["measurements"][name]["value"]
        assert found["limit"] == limit and found["reached"] <= limit
        if name != "latency_p50_ms":
            assert found["reached"] == measured > 0.8 * limit
            assert min(entry["degradation"] for entry in found["tried"]) >= 0
    assert stages["latency_p50_ms"]["details"]["target"]["tried"] == [], "a tiny model is fast enough as it is"
    path = write_recipe(stages=[TEACHER, {**targets[0], "target": {"num_parameters": 5000}}])
    result = compress("run", path.name, cwd=tmp_path)
    assert result.returncode == 3
    assert (
        "target.num_parameters is 5,000, but with one head and eight neurons in each layer it is still" in result.stderr
    )
