"""What no one expected ends in one line with the log's path and exit 3; 1 is a failed gate and nothing else."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import WriteRecipe

from compressor.commands.main import main
from compressor.errors import ExitCode, StageError
from compressor.progress import Output

RECIPE = "recipe.yaml"
COMMANDS = {
    "init": (["init", "."], "compressor.drafting.draft.draft"),
    "run": (["run", RECIPE], "compressor.pipeline.session.run_on_terminal"),
    "validate": (["validate", RECIPE], "compressor.pipeline.api.validate"),
    "plan": (["plan", RECIPE], "compressor.pipeline.api.plan"),
    "schema": (["schema"], "compressor.recipe.reference.json_schema"),
    "bench": (["bench", "."], "compressor.measure.bench.bench"),
    "verify": (["verify", "."], "compressor.package.verify.verify"),
    "serve": (["serve", "."], "compressor.serve.job.prepare"),
    "inspect": (["inspect", "."], "compressor.package.inspection.inspect"),
    "report": (["report", "."], "compressor.report.model.read"),
    "compare": (["compare", "."], "compressor.report.comparison.compare"),
    "doctor": (["doctor"], "compressor.host.machine.environment"),
    "gc": (["gc", "--artifacts", "."], "compressor.pipeline.garbage.find"),
}
"""For each command, arguments and what its work is, which the tests let fail."""


def ended(command: str, error: BaseException, folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    arguments, work = COMMANDS[command]

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(work, fail)
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.chdir(folder)
    result = CliRunner().invoke(main, arguments)
    return result.exit_code, result.output


def test_every_command_is_tried():
    assert set(COMMANDS) == set(main.commands)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    "error", [KeyError("x\x1b[31m"), RecursionError(), SystemExit(1), EOFError("cut"), BrokenPipeError(32, "y")]
)
def test_what_no_one_expected_is_one_line_and_a_log(
    command: str, error: BaseException, write_recipe: WriteRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write_recipe()
    code, output = ended(command, error, tmp_path, monkeypatch)
    assert code == ExitCode.STAGE_FAILED
    assert len(output.splitlines()) == 1 and "Traceback" not in output and "\x1b" not in output
    log = Path(re.findall(r"full traceback: (.*)", output)[0])
    assert log.is_relative_to(tmp_path) and "Traceback" in log.read_text()


@pytest.mark.parametrize("command", COMMANDS)
def test_an_interrupt_is_130_in_every_command(
    command: str, write_recipe: WriteRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write_recipe()
    assert ended(command, KeyboardInterrupt(), tmp_path, monkeypatch)[0] == ExitCode.INTERRUPTED


def test_wrong_command_lines_show_no_escape_sequences():
    for arguments in (["frobnicate\x1b[31m"], ["bench", "--threads", "\x1b[31m", "x"], ["run"], []):
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == ExitCode.USAGE and "\x1b" not in result.output


def test_a_log_that_cannot_be_written_is_told(tmp_path: Path):
    from compressor.pipeline.unexpected import explained

    (tmp_path / "file").write_text("")
    told = str(explained(ValueError("a"), tmp_path / "file" / "run.log"))
    assert "ValueError: a" in told and str(tmp_path / "file") in told


def test_a_full_disk_names_the_folder_that_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from compressor.pipeline.unexpected import explained

    temporary, artifacts = tmp_path / "temporary", tmp_path / "artifacts"
    for folder in (temporary, artifacts):
        folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    for folder, advice, other in ((temporary, "TMPDIR", "--artifacts"), (artifacts, "--artifacts", "TMPDIR")):
        told = str(explained(OSError(28, "No space left", str(folder / "a" / "b")), artifacts / "run.log", artifacts))
        assert f"{folder} is full" in told and advice in told and other not in told


def piped(encoding: str = "utf-8") -> tuple[Output, int]:
    read, write = os.pipe()
    return Output(os.fdopen(write, "wb"), encoding=encoding, errors="replace", line_buffering=True), read


def test_output_that_nobody_reads_is_dropped():
    output, read = piped()
    os.close(read)
    for _ in range(3):
        output.write("line\n")
    output.close()


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_characters_that_an_encoding_lacks_are_replaced(encoding: str):
    output, read = piped(encoding)
    output.write("a → b\n")
    output.close()
    with os.fdopen(read, "rb") as file:
        assert file.read().decode(encoding) == ("a → b\n" if encoding == "utf-8" else "a ? b\n")


def test_output_that_cannot_be_written_is_an_error():
    with pytest.raises(StageError):
        Output(Path("/dev/full").open("wb"), encoding="utf-8", line_buffering=True).write("line\n")


@pytest.mark.parametrize("command", ["doctor", "validate recipe.yaml", "compare nowhere"])
def test_real_processes_with_streams_that_are_odd(command: str, write_recipe: WriteRecipe, tmp_path: Path):
    write_recipe()
    expected = 2 if "nowhere" in command else 0
    python = f"{sys.executable} -m compressor {command}"
    for line in (f"{python} >&- 2>&-", f"{python} | true", f"PYTHONIOENCODING=ascii {python}"):
        script = f"set -o pipefail; {line}"
        result = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert result.returncode == expected, (line, result.stderr)
        assert "Traceback" not in result.stderr and "Exception ignored" not in result.stderr
