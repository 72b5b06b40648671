"""What a converter raises becomes one line that says what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from compressor.errors import StageError, described
from compressor.runtimes import RUNTIMES, executorch


def test_an_assertion_without_a_text_is_one_line_with_its_place_and_a_way_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    def fails(source: Path, path: Path) -> None:
        raise AssertionError

    monkeypatch.setattr(executorch, "export", fails)
    with pytest.raises(StageError) as caught:
        RUNTIMES["executorch"].export(tmp_path, tmp_path / "model.pte")
    (line,) = str(caught.value).splitlines()
    assert "converter to executorch fails" in line and "leave executorch out of the export stage's targets" in line
    assert "AssertionError: " in line and Path(__file__).name in line and "raise AssertionError" in line
    assert isinstance(caught.value.__cause__, AssertionError)
    assert "Traceback" in caplog.text


@pytest.mark.parametrize("error", [StageError("the extra is not installed"), OSError(28, "No space left on device")])
def test_what_is_clear_already_stays_as_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception):
    def fails(source: Path, path: Path) -> None:
        raise error

    monkeypatch.setattr(executorch, "export", fails)
    with pytest.raises(type(error)) as caught:
        RUNTIMES["executorch"].export(tmp_path, tmp_path / "model.pte")
    assert caught.value is error


def test_an_error_is_described_by_its_kind_and_its_first_line():
    assert described(ValueError("\n a\x1b[1m \n b")) == "ValueError: a\\x1b[1m"
    assert described(KeyError("0")) == "KeyError: '0'"
    assert described(AssertionError()) == "AssertionError: no text", "one that nobody raised has no place"
