"""`compress compare` and `compress report`, on folders as runs leave them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from lxml import html as reader
from problems import refused
from small_report import HOSTILE, failing, measured, passing, run_folder, stage, undecided

from compressor.commands import main
from compressor.report.model import Report, read, report_file


def compress(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main.main, [str(argument) for argument in arguments])


def other() -> Report:
    """A run that ends better than `passing` and no faster, in a file of the same size; scored on other rows."""
    run = passing()
    last = replace(run.stages[-1], measurements=measured(0.89, 8.0, 10e6, n=500))
    settings = {**run.measure, "sequence_length": 128}
    return replace(run, recipe="other", stages=[*run.stages[:-1], last], measure=settings)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    return run_folder(tmp_path / "small", passing()), run_folder(tmp_path / "other", other())


def test_two_runs_side_by_side(folders: tuple[Path, Path]):
    first, second = folders
    result = compress("compare", first, second / "report.json", "--json")
    assert result.exit_code == 0, result.output
    (task,) = json.loads(result.stdout)["tasks"]
    assert (task["task"], task["quality"]) == ("text-classification", "accuracy")
    entries = task["entries"]
    assert [(entry["run"], entry["stage"], entry["baseline"]) for entry in entries] == [
        *(("small", "baseline", True), ("small", "quantize", False)),
        *(("other", "baseline", True), ("other", "quantize", False)),
    ]
    # (cost, quality): baselines (16, 0.90) and 80 MB, twice; small (4, 0.87) and other (8, 0.89), both 10 MB.
    assert [entry["front"] for entry in entries] == [
        ["latency_p50_ms", "size_bytes"],
        ["latency_p50_ms"],
        ["latency_p50_ms", "size_bytes"],
        ["latency_p50_ms", "size_bytes"],
    ]
    assert [entry["kept"] for entry in entries] == [None, pytest.approx(0.87 / 0.9), None, pytest.approx(0.89 / 0.9)]
    assert entries[3]["measurements"]["accuracy"] == {
        "value": 0.89,
        "unit": "",
        "n": 500,
        "low": pytest.approx(0.87),
        "high": pytest.approx(0.91),
    }
    caveats = " ".join(task["caveats"])
    assert "compress bench" in caveats and "at different times" in caveats
    assert "scored on different numbers of rows: 500, 1,000." in caveats
    assert "sequence_length differ" in caveats


def test_the_table_has_a_row_for_each_and_the_caveat(folders: tuple[Path, Path]):
    result = compress("compare", *folders)
    assert result.exit_code == 0, result.output
    text = " ".join(result.stdout.split())
    for told in ("0.8900 [0.8700, 0.9100]", "98.9%", "8.00 [7.20,", "latency, size", "2.50 M", "compress bench"):
        assert told in text, told


def test_markdown_has_the_same_table(folders: tuple[Path, Path], tmp_path: Path):
    hostile = run_folder(tmp_path / "hostile", replace(passing(), recipe=HOSTILE))
    result = compress("compare", *folders, hostile, "--markdown")
    assert result.exit_code == 0, result.output
    title, _, header, rule, *lines = result.stdout.splitlines()
    rows = lines[: lines.index("")]
    assert title == "### text-classification: accuracy on 500, 1,000 rows"
    assert len(rows) == 6 and rows[3].startswith(
        "| other | quantize | pass | latency, size | 0.8900 [0.8700, 0.9100] |"
    )
    assert {line.replace("\\|", "").count("|") for line in (header, rule, *rows)} == {header.count("|")}
    assert "<script" not in result.stdout and "compress bench" in result.stdout
    both = compress("compare", *folders, "--markdown", "--json")
    assert both.exit_code == 2 and "choose one" in both.output


def test_a_stage_that_was_not_measured_is_not_shown(tmp_path: Path):
    shared = replace(stage("share", "share", (0.5, 16.0, 30e6)), measurements={})
    split = stage("factorize", "factorize", (0.88, 16.0, 20e6), training_seconds=60.0)
    folder = run_folder(tmp_path / "albert", replace(passing(), stages=[passing().stages[0], shared, split]))
    (task,) = json.loads(compress("compare", folder, "--stages", "--json").stdout)["tasks"]
    assert [entry["stage"] for entry in task["entries"]] == ["baseline", "factorize"]
    assert compress("report", folder).exit_code == 0
    assert "| share | pass | – | – | – | – | – | – | – | – |" in (folder / "report.md").read_text(encoding="utf-8")


def test_one_run_alone_needs_no_caveat(folders: tuple[Path, Path]):
    result = compress("compare", folders[0], "--json")
    assert json.loads(result.stdout)["tasks"][0]["caveats"] == []


def test_the_caveat_names_models_that_can_be_timed(folders: tuple[Path, Path]):
    (folders[0] / "model").mkdir()
    (task,) = json.loads(compress("compare", *folders, "--json").stdout)["tasks"]
    assert task["caveats"][0].endswith(f"compress bench {folders[0] / 'model'}")


def test_runs_of_one_recipe_are_named_by_their_paths(tmp_path: Path):
    paths = [run_folder(tmp_path / name / "artifacts" / "small", passing()) for name in ("main", "branch/of/mine")]
    (task,) = json.loads(compress("compare", *paths, paths[0] / "report.json", "--json").stdout)["tasks"]
    runs = [entry["run"] for entry in task["entries"]]
    assert runs == ["small (main)"] * 2 + ["small (branch/of/mine)"] * 2, "and one that is given twice is one"


def test_runs_of_different_tasks_are_not_compared_with_each_other(tmp_path: Path):
    run = passing()
    stages = [replace(entry, task="masked-lm") for entry in run.stages]
    guesses = replace(run, recipe="guesses", task="masked-lm", stages=stages)
    paths = [run_folder(tmp_path / report.recipe, report) for report in (run, guesses)]
    tasks = json.loads(compress("compare", *paths, "--json").stdout)["tasks"]
    assert [task["task"] for task in tasks] == ["text-classification", "masked-lm"]
    assert [len(task["entries"]) for task in tasks] == [2, 2]


def test_a_run_that_failed_is_shown_as_far_as_it_went(tmp_path: Path):
    path = run_folder(tmp_path / "small", failing())
    (task,) = json.loads(compress("compare", path, "--json").stdout)["tasks"]
    assert [(entry["stage"], entry["verdict"]) for entry in task["entries"]] == [
        ("baseline", "fail"),
        ("distill", "fail"),
    ]


def test_a_page_draws_all_runs_in_one_picture(folders: tuple[Path, Path], tmp_path: Path):
    page = tmp_path / "compare.html"
    result = compress("compare", *folders, "--html", page)
    assert result.exit_code == 0, result.output
    root = reader.fromstring(page.read_text(encoding="utf-8"))
    latency, size = root.xpath("//figure/svg")
    assert sorted(latency.xpath(".//text[@class='name']/text()")) == ["other", "small"], "not the baselines"
    assert len(latency.xpath(".//*[contains(@class, 'marker')]")) == 4
    assert "other: accuracy 0.8900" in latency.xpath(".//desc")[0].text
    assert "10.0 MB, on the Pareto front" in size.xpath(".//desc")[0].text
    assert "compress bench" in root.text_content()


def test_hostile_names_on_the_page_of_a_comparison(tmp_path: Path):
    run = replace(passing(), stages=[*passing().stages, stage(HOSTILE, "export", (0.87, 4.0, 10e6))])
    folder, page = run_folder(tmp_path / "small", run), tmp_path / "compare.html"
    assert compress("compare", folder, "--html", page).exit_code == 0
    assert "<script" not in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("command", ["compare", "report"])
@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (None, "not_found"),
        ("", "unreadable"),
        ("[]", "unreadable"),
        ("7", "unreadable"),
        ('{"schema_version": 7}', "unreadable"),
        ('{"schema_version": 1, "task": "text-classification"}', "unreadable"),
        ("[" * 100_000, "unreadable"),
    ],
)
def test_a_path_that_is_not_a_run_is_a_wrong_command_line(tmp_path: Path, command: str, content: str | None, kind: str):
    path = tmp_path / "report.json"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with refused(str(report_file(tmp_path)), kind):
        read(tmp_path)
    result = compress(command, tmp_path)
    assert result.exit_code == 2, result.output
    assert str(tmp_path) in result.output and "Traceback" not in result.output


def test_all_paths_that_are_not_runs_are_named_at_once(folders: tuple[Path, Path], tmp_path: Path):
    result = compress("compare", folders[0], tmp_path / "a", tmp_path / "b")
    assert result.exit_code == 2
    assert str(tmp_path / "a") in result.output and str(tmp_path / "b") in result.output


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document["stages"][1]["gates"][0].update(metric="grace"),
        lambda document: document["stages"][1]["gates"][0].update(rule="hope"),
        lambda document: document["stages"][1].update(task="juggling"),
        lambda document: document.update(task="juggling"),
        lambda document: document["stages"][1]["measurements"]["accuracy"].update(value="much"),
        lambda document: document["stages"][1].update(name="\ud800"),
    ],
)
def test_a_report_that_was_changed_to_nonsense(tmp_path: Path, change):
    path = run_folder(tmp_path, passing()) / "report.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    with refused(str(path), "unreadable"):
        read(path)
    assert compress("report", tmp_path).exit_code == 2


@pytest.mark.parametrize("report", [passing(), failing(), undecided(allow_inconclusive=True)])
def test_report_json_holds_all_that_the_files_are_made_of(tmp_path: Path, report: Report):
    folder = run_folder(tmp_path, report)
    assert read(folder) == report
    result = compress("report", folder / "report.json")
    assert result.exit_code == 0 and result.stdout == f"{folder}: report.html, report.md, junit.xml: {report.verdict}\n"
    assert "&lt;b&gt;lock&lt;/b&gt;" in (folder / "report.html").read_text(encoding="utf-8")
    assert sorted(path.name for path in folder.iterdir()) == [
        *("junit.xml", "recipe.lock.yaml", "report.html", "report.json", "report.md")
    ]


def test_a_folder_that_cannot_be_written_to(folders: tuple[Path, Path], tmp_path: Path):
    result = compress("compare", folders[0], "--html", tmp_path / "none" / "compare.html")
    assert result.exit_code == 2 and "cannot be written to" in result.output and "Traceback" not in result.output
