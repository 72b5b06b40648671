"""`benchmarks/arm.py` on this machine's own processor: what it compares, counts and refuses. Nothing is emulated."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import SATURATES, save_classifier
from exports import quantize

from compressor.errors import CompressError

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import arm
import emulation
import processors

ANSWERS = [{"logits": np.array([[1.0, 2.0]])}, {"logits": np.array([[0.5, 0.4]])}, {"logits": np.array([[3.0, 0.0]])}]


def moved(*by: float) -> list[dict[str, np.ndarray]]:
    """The answers with the second label's logits moved."""
    return [{"logits": one["logits"] + [[0.0, step]]} for one, step in zip(ANSWERS, by, strict=True)]


def test_answers_are_compared_row_by_row():
    assert arm.compared(ANSWERS, ANSWERS) == arm.Agreement(3, 3, 0.0, 3)
    found = arm.compared(moved(5e-6, 0.25, 0.5), ANSWERS)
    assert (found.rows, found.labels, found.close) == (3, 2, 1), "0.5 and 0.65: another label; 3 and 0.5: the same"
    assert found.difference == pytest.approx(0.5)


def test_a_row_with_a_label_for_each_token_is_equal_if_all_labels_are():
    row = {"logits": np.array([[[1.0, 0.0], [0.0, 1.0]]])}
    other = {"logits": np.array([[[1.0, 0.0], [1.5, 1.0]]])}
    assert arm.compared([row, other], [row, row]) == arm.Agreement(2, 1, 1.5, 1)


def test_vectors_have_no_labels():
    one, other = ({"sentence_embedding": np.array([values])} for values in ([0.6, 0.8], [0.8, 0.6]))
    found = arm.compared([one, other], [one, one])
    assert (found.labels, found.close) == (None, 1)
    assert list(arm.table([("m.onnx", "a53", found)]))[2] == "| m.onnx | a53 | 2 | – | 0.2 | 1 |"


def test_the_table_has_a_line_for_each_file_and_processor():
    lines = list(arm.table([("m.onnx", "cortex-a53", arm.Agreement(200, 199, 0.0661, 180))]))
    assert lines[0] == "| file | processor | rows | labels equal | largest difference | rows equal to 1e-5 |"
    assert lines[1:] == ["|---|---|---|---|---|---|", "| m.onnx | cortex-a53 | 200 | 199 | 0.066 | 180 |"]


def test_instructions_are_read_from_the_emulators_log(tmp_path: Path):
    log = tmp_path / "log"
    log.write_text(
        "----------------\nIN: udot\n0x7f1b07c2b280:  d503245f  bti      c\n"
        "0x7f1b07c2b284:  6e80a400  ummla    v0.4s, v0.16b, v0.16b\n\n0x7f1b07c2b288:  d65f03c0  \n"
    )
    assert processors.instructions(log) == {"bti", "ummla"}


@pytest.mark.parametrize(("limit", "first"), [(63, 255 * 63 * 64), (127, 255 * 127 * 64)])
def test_a_product_on_this_processor(limit: int, first: int, tmp_path: Path):
    activations, sums = arm.product(tmp_path / "product.onnx", limit, (4, 64, 8))
    assert (sums[0, 0], sums[0, 1]) == (first, -first)
    job = processors.Job(tmp_path / "product.onnx", [{"activations": activations}])
    (plain,), (precise,) = processors.asked(processors.here(), [job, replace(job, options=arm.PRECISE)])
    assert (plain["sums"] == sums).all() == (limit == 63 or not SATURATES)
    assert (precise["sums"] == sums).all(), "weights in uint8 are exact everywhere"


def test_products_are_counted(tmp_path: Path):
    lines = list(arm.products([processors.here()], tmp_path))
    assert [right for _, right in lines] == [True] * 3, "no instruction is wanted here"
    wrong = lines[2][0].split("|")
    assert wrong[3].strip() == "0 of 24,576"
    assert (wrong[4].strip() == "0") != SATURATES


def test_the_answers_of_a_file_are_those_of_the_runtime(tmp_path: Path):
    from compressor.runtimes import RUNTIMES

    folder = quantize(save_classifier(tmp_path / "run" / "model", "bert", num_hidden_layers=1), tmp_path)
    ((name, path),) = arm.int8_files(folder).items()
    assert name == f"run, model_quantized.onnx, weights to {'64 at most' if SATURATES else 127}"
    calls = arm.token_rows(folder, ["a good film", "bad"])
    session = RUNTIMES["onnxruntime"].session(path, 1)
    (given,) = processors.asked(processors.here(), [processors.Job(path, calls)])
    assert [one["logits"].tolist() for one in given] == [session.predict(call)["logits"].tolist() for call in calls]
    assert arm.cost({name: path}, {name: calls}, rounds=2)[2].startswith(f"| {name} | ")
    found = list(arm.agreements({name: path}, {name: calls}, [processors.here()] * 3))
    assert found[:2] == [(name, "this x86", arm.Agreement(rows, rows, 0.0, rows)) for rows in (2, 1)]
    assert [core for _, core, _ in found[2:]] == ([] if SATURATES else ["this x86, x64quantprecision=1"])


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "texts.txt"
    path.write_text("a good film\n")
    return path


def refused(*arguments: str | Path) -> str:
    given = CliRunner().invoke(arm.main, [str(argument) for argument in arguments])
    assert given.exit_code in (1, 2)
    assert "Traceback" not in given.output
    return given.output


def test_mistakes_are_told_in_one_message(classifier: Path, texts: Path, tmp_path: Path):
    assert "has no int8 ONNX file" in refused(classifier, "--texts", texts, "--root", tmp_path / "root")
    assert "--root" in refused(quantize(save_classifier(tmp_path / "m", "bert", num_hidden_layers=1), tmp_path),
                               "--texts", texts)  # fmt: skip
    (tmp_path / "empty.txt").write_text("\n\n")
    assert "no text" in refused(classifier, "--texts", tmp_path / "empty.txt")


def test_a_folder_of_others_is_left_alone(tmp_path: Path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(CompressError, match="not a folder that this benchmark made"):
        emulation.prepare(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_mirror_that_is_none_leaves_nothing(tmp_path: Path):
    with pytest.raises(CompressError, match=r"failed with exit code|is not installed here"):
        emulation.prepare(tmp_path / "root", f"file://{tmp_path}/none")
    assert list(tmp_path.iterdir()) == []


def test_a_processor_that_fails_says_which_and_why(tmp_path: Path):
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    with pytest.raises(CompressError, match=r"this x86 failed with exit code 1: .*broken\.onnx"):
        processors.asked(processors.here(), [processors.Job(tmp_path / "broken.onnx", [])])
