"""Comparisons worked out by hand, and formats that are wrong in the ways that exporters have been wrong."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from conftest import MAX_POSITIONS, exact_settings, save_classifier
from exports import QUANTIZED_ONNX, record

from compressor.gates.exact import Exact
from compressor.measure import parity, recorded_answers
from compressor.measure.client import Client
from compressor.measure.parity import TORCH
from compressor.measure.parity_inputs import Comparison, Endpoint, ParityInputs
from compressor.measure.token_rows import EDGES, TokenRows, edge_cases
from compressor.models.checkpoint import Checkpoint
from compressor.quantization import dynamic_int8
from compressor.runtimes import RUNTIMES, TARGETS
from compressor.runtimes.onnx import padding

ONNX = Endpoint("onnxruntime", Path("onnx/model.onnx"))
QUANTIZED = Endpoint("onnxruntime", QUANTIZED_ONNX)
OTHER = Endpoint("onnxruntime", Path("onnx/other.onnx"))


def write_rows(folder: Path, count: int = 20) -> Path:
    random = np.random.default_rng(3)
    lists = [{"input_ids": random.integers(5, 60, random.integers(3, 30)).tolist()} for _ in range(count)]
    TokenRows.of(lists, 0).save(folder / "rows.npz")
    return folder / "rows.npz"


@pytest.fixture(scope="module", params=["bert", "distilbert"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = save_classifier(tmp_path_factory.mktemp(request.param), request.param, num_hidden_layers=2)
    RUNTIMES["onnxruntime"].export(folder, folder / ONNX.file)
    dynamic_int8.write(folder / ONNX.file, folder / QUANTIZED.file, exact_settings())
    record(folder)
    return folder


def material(folder: Path, work: Path, chosen: int = 4) -> ParityInputs:
    return ParityInputs.of(Checkpoint(folder), write_rows(work), chosen, work)


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with Client() as measuring:
        yield measuring


def held(folder: Path, work: Path, client: Client, *comparisons: Comparison) -> list[dict]:
    asked = material(folder, work)
    everyone = {side for entry in comparisons for side in (entry.candidate, entry.reference)}
    answers = {
        side: parity.run_endpoint(folder, "text-classification", side, comparisons, asked, client)
        for side in sorted(everyone, key=str)
    }
    return [parity.compare(entry, answers, asked) for entry in comparisons]


def test_every_target_is_held_against_something():
    files = {entry.candidate for entry in parity.comparisons(QUANTIZED)}
    for target, runtime in TARGETS.items():
        assert Endpoint(runtime.name, runtime.file) in files, target


def test_the_numbers_by_hand(tmp_path: Path, classifier: Path):
    asked = material(classifier, tmp_path)
    edges = np.ones((len(EDGES), 1, 2), np.float32)
    off = edges.copy()
    off[EDGES.index("left"), 0] = (1.0, 1.5)
    expected = {"rows": np.array([[[1, 0]], [[0, 1]], [[3, 4]], [[0, 2]]], np.float32), "edges_alone": edges}
    given = {"rows": np.array([[[1, 0]], [[0, 1]], [[4, 3]], [[0, 2]]], np.float32), "edges_alone": off}
    comparison = Comparison("it", ONNX, TORCH)
    found = parity.compare(comparison, {ONNX: given, TORCH: expected}, asked)
    assert found == {
        "kind": "float",
        "rows": 4,
        "against": "torch",
        "label_agreement": 0.75,
        "max_abs_diff": 1.0,
        "min_cosine": pytest.approx(24 / 25),
        "worst": "row 2",
    }
    off[EDGES.index("left"), 0] = (1.0, np.nan)
    found = parity.compare(comparison, {ONNX: given, TORCH: expected}, asked)
    assert found["max_abs_diff"] == np.inf and found["min_cosine"] == -1
    assert found["worst"] == "left, batch 1"


def test_right_formats_agree_on_rows_and_edges(exported: Path, tmp_path: Path, client: Client):
    (found,) = held(exported, tmp_path, client, Comparison("onnx", ONNX, TORCH))
    assert found["label_agreement"] == 1
    assert found["max_abs_diff"] < 1e-5
    assert found["min_cosine"] > 1 - 1e-6


def test_absent_token_types_are_described(exported: Path, tmp_path: Path, client: Client):
    distilbert = Checkpoint(exported).family == "distilbert"
    told = parity.no_token_types(Checkpoint(exported))
    assert told == ("there is no such input" if distilbert else "all zeros")
    for untyped in ("omitted", "zeros"):
        sets = material(exported, tmp_path).row_sets([Comparison("onnx", ONNX, TORCH)], untyped)
        assert {entry["name"]: entry["token_types"] for entry in sets}["untyped"] == untyped
    asked = material(exported, tmp_path)
    pair = EDGES.index("pair")
    answers = parity.run_endpoint(
        exported, "text-classification", TORCH, [Comparison("onnx", ONNX, TORCH)], asked, client
    )
    same = np.allclose(answers["untyped"][pair], answers["edges_alone"][pair])
    assert same == distilbert, "two segments are one without token types"


@pytest.mark.parametrize(
    ("exported", "ignored", "worst"),
    [
        ("bert", "attention_mask", ("left", "interior", "right")),
        ("distilbert", "attention_mask", ("left", "interior", "right")),
        ("bert", "token_type_ids", ("pair",)),
    ],
    indirect=["exported"],
)
def test_a_graph_that_ignores_an_input_is_found_at_the_edge_it_is_wrong_on(
    exported: Path, tmp_path: Path, client: Client, ignored: str, worst: tuple[str, ...]
):
    model = onnx.load(str(exported / ONNX.file))
    constant = "attention_mask" if ignored == "token_type_ids" else "input_ids"
    # Ones of the same shape for the mask, zeros for the token types.
    nodes = [onnx.helper.make_node("Sub", [constant, constant], ["zeros"])]
    value = onnx.numpy_helper.from_array(np.array(int(ignored == "attention_mask"), np.int64), "value")
    nodes.append(onnx.helper.make_node("Add", ["zeros", "value"], ["ignoring"]))
    model.graph.initializer.append(value)
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            if name == ignored:
                node.input[index] = "ignoring"
    for place, node in enumerate(nodes):
        model.graph.node.insert(place, node)
    onnx.save(model, str(exported / OTHER.file))
    (found,) = held(exported, tmp_path, client, Comparison("other", OTHER, TORCH))
    assert found["max_abs_diff"] > 1e-3
    edge, where = found["worst"].split(", ")
    assert edge in worst or (ignored == "attention_mask" and where == "one batch"), "shorter rows are padded there"
    evidence = parity.evidence({"rows": 20, "edges": len(EDGES), "formats": {"other": found}})
    assert evidence["parity_max_abs_diff"] == Exact(found["max_abs_diff"], n=20 + len(EDGES))


def test_quantized_formats_are_held_against_the_quantized_graph_row_by_row(
    exported: Path, tmp_path: Path, client: Client
):
    shutil.copy(exported / QUANTIZED.file, exported / OTHER.file)
    same = Comparison("same", OTHER, QUANTIZED, "quantized")
    sets = {entry["name"]: entry["batches"] for entry in material(exported, tmp_path).row_sets([same], "zeros")}
    assert all(len(batch) == 1 for batches in sets.values() for batch in batches)
    found, float_ = held(exported, tmp_path, client, same, Comparison("onnx", ONNX, TORCH))
    assert found["kind"] == "quantized" and found["against"] == "onnx/model_quantized.onnx"
    assert found["label_agreement"] == 1 and found["max_abs_diff"] == 0
    evidence = parity.evidence({"rows": 20, "edges": len(EDGES), "formats": {"same": found, "onnx": float_}})
    assert evidence["parity_quantized_label_agreement"] == Exact(1.0, n=20)
    assert set(evidence) == {
        "parity_label_agreement",
        "parity_max_abs_diff",
        "parity_min_cosine",
        "parity_quantized_label_agreement",
    }


def test_what_is_not_in_float_is_held_against_itself_with_padded_rows(exported: Path, tmp_path: Path, client: Client):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(padding, "repeat_first_token", lambda model: 0)
        dynamic_int8.write(exported / ONNX.file, exported / OTHER.file, exact_settings())
    right, moved = (Comparison("it_padded", side, side, "padded") for side in (QUANTIZED, OTHER))
    sets = {entry["name"]: entry for entry in material(exported, tmp_path).row_sets([right], "zeros")}
    for name, padded in (("alone", "alone_padded"), ("edges_alone", "edges_padded")):
        assert (sets[name]["padded_to"], sets[padded]["padded_to"]) == (0, MAX_POSITIONS)
        assert sets[name]["batches"] == sets[padded]["batches"]
    found, other = held(exported, tmp_path, client, right, moved)
    assert (found["kind"], found["rows"]) == ("padded", 4)
    assert found["against"] == "onnx/model_quantized.onnx, unpadded"
    assert found["label_agreement"] == 1 and found["max_abs_diff"] < 1e-3
    assert other["max_abs_diff"] > 1e-3
    evidence = parity.evidence({"rows": 20, "edges": len(EDGES), "formats": {"it_padded": found, "o": other}})
    assert evidence == {
        "parity_padded_label_agreement": Exact(min(found["label_agreement"], other["label_agreement"]), n=4),
        "parity_padded_max_abs_diff": Exact(other["max_abs_diff"], n=4),
    }


def test_only_what_is_there_is_compared(exported: Path):
    assert [entry.name for entry in parity.present(exported)] == ["onnx", "onnx_int8_padded"]
    assert parity.endpoints(exported, parity.present(exported)) == [TORCH, ONNX, QUANTIZED]


def test_edges_are_of_every_kind():
    edges = edge_cases(MAX_POSITIONS, 60, 0)
    masks = {name: edges.batch([index])["attention_mask"][0].tolist() for index, name in enumerate(EDGES)}
    assert masks["one"] == [1] and len(masks["max"]) == MAX_POSITIONS
    assert (masks["left"][0], masks["left"][-1]) == (0, 1)
    assert (masks["right"][0], masks["right"][-1]) == (1, 0)
    assert masks["interior"][0] == masks["interior"][-1] == 1 and 0 in masks["interior"]


def test_rows_of_several_answers_are_compared_answer_by_answer(tmp_path: Path):
    nothing = -np.inf
    logits = np.array([[[2, 1, 0], [0, 1, 4]], [[5, 3, nothing], [nothing] * 3]], np.float32)
    other = logits.copy()
    other[0, 1] = (4, 1, 0)
    assert parity.agreement(logits, logits) == 1
    assert parity.agreement(other, logits) == pytest.approx(2 / 3), "of three answers; the fourth is none"
    assert parity._differences(logits, logits).tolist() == [0, 0]
    assert parity._differences(other, logits).tolist() == [4, 0]
    broken = logits.copy()
    broken[1, 0, 2] = 1.0
    assert parity._differences(broken, logits)[1] == np.inf, "something where there is nothing"
    assert parity._cosine(logits, logits) == pytest.approx(np.ones((2, 2)))

    recorded_answers.write(tmp_path / "it.json", "token-classification", [{"input_ids": [1]}] * 2, {"torch": logits})
    answer = recorded_answers.read(tmp_path / "it.json").answers["torch"]
    assert answer.choices.tolist() == [[[0, 1, 2], [2, 1, 0]], [[0, 1, -1], [-1, -1, -1]]]
    assert answer.fits(logits) and answer.label_agreement(logits) == 1 and answer.max_abs_diff(logits) == 0
    assert answer.label_agreement(other) == pytest.approx(2 / 3) and answer.max_abs_diff(other) == 4
    assert not answer.fits(logits[:, :1]) and not answer.fits(logits[..., :2])


def test_numbers_are_equal_when_they_are_near():
    expected = np.array([[[0.0]], [[1.0]], [[2.0]], [[3.0]]], np.float32)
    given = expected + np.array([[[0.005]], [[-0.005]], [[0.0]], [[0.1]]], np.float32)
    assert parity.agreement(given, expected) == 0.75
    assert parity.agreement(given, expected, 0.1) == 1


@pytest.mark.parametrize(
    ("kind", "against", "share"),
    [("quantized", TORCH, 1), ("evaluated", TORCH, 1), ("quantized", QUANTIZED, 0.75), ("float", TORCH, 0.25)],
)
def test_numbers_of_integers_may_differ_more_than_those_of_floats(
    tmp_path: Path, classifier: Path, kind: str, against: Endpoint, share: float
):
    asked = material(classifier, tmp_path)
    expected = np.array([[[0.0]], [[1.0]], [[2.0]], [[3.0]]], np.float32)
    given = expected + np.array([[[0.03]], [[-0.03]], [[0.0]], [[0.1]]], np.float32)
    comparison = Comparison("x", OTHER, against, kind)
    name = asked.real_rows(comparison)
    answers = {OTHER: {name: given}, against: {name: expected}}
    assert parity.compare(comparison, answers, asked)["label_agreement"] == share


def test_a_slow_format_is_asked_a_stated_sample_of_the_rows(exported: Path, tmp_path: Path, client: Client):
    shutil.copy(exported / QUANTIZED.file, exported / OTHER.file)
    every, some = (
        Comparison(name, OTHER, QUANTIZED, "quantized", limit) for name, limit in (("all", None), ("few", 5))
    )
    asked = material(exported, tmp_path)
    sets = {entry["name"]: entry["batches"] for entry in asked.row_sets([every, some], "zeros")}
    assert len(sets[asked.real_rows(every)]) == 20
    assert sets[asked.real_rows(some)] == [[0], [5], [10], [14], [19]]
    found = held(exported, tmp_path, client, every, some)
    assert [entry["rows"] for entry in found] == [20, 5]
    evidence = parity.evidence({"rows": 20, "edges": len(EDGES), "formats": {"few": found[1]}})
    assert evidence["parity_quantized_label_agreement"] == Exact(1.0, n=5)


def test_what_is_evaluated_is_asked_a_sample_in_batches_or_all_rows_if_they_are_few(exported: Path, tmp_path: Path):
    asked = material(exported, tmp_path)
    few, many, whole = (Comparison("x", OTHER, TORCH, "evaluated", limit) for limit in (5, 1000, None))
    assert asked.real_rows(many) == asked.real_rows(whole) == asked.real_rows(Comparison("y", ONNX, TORCH))
    sets = {entry["name"]: entry["batches"] for entry in asked.row_sets([few, many], "zeros")}
    assert sorted(index for batch in sets[asked.real_rows(few)] for index in batch) == [0, 5, 10, 14, 19]
    assert sorted(index for batch in sets[asked.real_rows(many)] for index in batch) == list(range(20))
    assert asked.place(few, asked.real_rows(few), 2) == "row 10"
