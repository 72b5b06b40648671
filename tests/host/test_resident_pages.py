"""Pages of mapped tables are given back, and the rows stay what they are."""

from __future__ import annotations

import re
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset, concatenate_datasets, load_from_disk

from compressor.host import resident_pages

ROWS, BYTES = 2000, 16_000_000

pytestmark = pytest.mark.skipif(not Path("/proc/self/smaps").is_file(), reason="the system does not say what is mapped")


@pytest.fixture
def texts() -> list[str]:
    random = np.random.default_rng(0)
    return [random.bytes(BYTES // ROWS // 2).hex() for _ in range(ROWS)]


@pytest.fixture
def rows(tmp_path: Path, texts: list[str]) -> Dataset:
    Dataset.from_dict({"text": texts, "number": list(range(ROWS))}).save_to_disk(tmp_path / "rows")
    return load_from_disk(str(tmp_path / "rows"))


def resident(folder: Path) -> int:
    """Bytes of a folder's files that are resident in this process."""
    smaps = Path("/proc/self/smaps").read_text()
    found = re.findall(rf"{re.escape(str(folder))}/\S+\.arrow(?: \(deleted\))?\n(?:.*\n)*?Rss: +(\d+) kB", smaps)
    return sum(map(int, found)) * 1024


def test_what_was_read_is_given_back_and_read_again(rows: Dataset, texts: list[str], tmp_path: Path):
    resident_pages.watched(rows)
    assert rows["text"][:] == texts
    assert resident(tmp_path) > 0.9 * BYTES
    resident_pages.give_back()
    assert resident(tmp_path) < 0.1 * BYTES
    assert rows["text"][:] == texts


def test_tables_that_nobody_asked_for_keep_their_pages(rows: Dataset, tmp_path: Path):
    rows["text"][:]
    resident_pages.give_back()
    assert resident(tmp_path) > 0.9 * BYTES


def test_memory_that_is_of_no_file_stays(rows: Dataset, texts: list[str], tmp_path: Path):
    added = Dataset.from_dict({"text": texts, "number": list(range(ROWS))})
    both = resident_pages.watched(concatenate_datasets([rows, added]).add_column("more", texts + texts))
    assert both["text"][:] == texts + texts
    resident_pages.give_back()
    assert resident(tmp_path) < 0.1 * BYTES
    assert both["text"][:] == both["more"][:] == texts + texts
    assert both["number"][:] == [*range(ROWS), *range(ROWS)]


def test_files_that_are_deleted_are_given_back_too(rows: Dataset, texts: list[str], tmp_path: Path):
    resident_pages.watched(rows)
    for path in (tmp_path / "rows").iterdir():
        path.unlink()
    rows["text"][:]
    resident_pages.give_back()
    assert resident(tmp_path) < 0.1 * BYTES
    assert rows["text"][:] == texts


def test_a_run_gives_back_by_itself(rows: Dataset, texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(resident_pages, "_MOST_BYTES", BYTES // 4)
    chosen = resident_pages.watched(rows).select(range(ROWS - 1, -1, -1))
    with resident_pages.bounded():
        assert chosen["text"][:] == texts[::-1]
        limit = time.monotonic() + 30
        while resident(tmp_path) > BYTES // 2 and time.monotonic() < limit:
            time.sleep(0.01)
        assert resident(tmp_path) <= BYTES // 2
    assert "resident pages" not in {thread.name for thread in threading.enumerate()}
