from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from compressor.files import write_atomic
from compressor.pipeline.store import Store, key_of


def test_key_depends_on_content_not_on_order():
    assert key_of({"a": 1, "b": [1, 2]}) == key_of({"b": [1, 2], "a": 1})
    assert key_of({"a": 1}) != key_of({"a": 2})
    assert key_of({"a": 1}) != key_of({"a": "1"})


def test_builds_once(tmp_path: Path):
    store, calls = Store(tmp_path), []

    def build(output: Path, work: Path) -> dict[str, int]:
        calls.append(1)
        (output / "x").write_text("hello")
        return {"answer": 42}

    entry, cached = store.build({"n": 1}, build)
    assert not cached and entry.facts == {"answer": 42} and (entry.path / "x").read_text() == "hello"
    again, cached = store.build({"n": 1}, build)
    assert cached and again == entry and len(calls) == 1
    store.build({"n": 2}, build)
    assert len(calls) == 2


def test_a_failure_is_not_stored_and_leaves_nothing(tmp_path: Path):
    store = Store(tmp_path)

    def fail(output: Path, work: Path) -> dict[str, int]:
        (output / "half").write_text("half")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        store.build({"n": 1}, fail)
    assert store.get(key_of({"n": 1})) is None
    assert not list(tmp_path.rglob("half"))
    assert not list((tmp_path / ".work").iterdir())


@pytest.mark.parametrize("damage", ["cut", "gone", "no entry"])
def test_a_damaged_artifact_is_built_again(tmp_path: Path, damage: str):
    store = Store(tmp_path)

    def build(output: Path, work: Path) -> dict[str, int]:
        (output / "x").write_text("hello")
        return {}

    entry, _ = store.build({"n": 1}, build)
    if damage == "cut":
        (entry.path / "x").write_text("hell")
    elif damage == "gone":
        (entry.path / "x").unlink()
    else:
        (entry.path.parent / "entry.json").write_text("{")
    entry, cached = store.build({"n": 1}, build)
    assert not cached and (entry.path / "x").read_text() == "hello"


def _slow_build(root: Path, started: str) -> None:
    def build(output: Path, work: Path) -> dict[str, int]:
        (output / "x").write_text(str(os.getpid()))
        (work / "progress").write_text("half way")
        Path(started).touch()
        time.sleep(60)
        return {}

    Store(root).build({"n": 1}, build)


def test_a_killed_build_keeps_its_work_and_frees_its_lock(tmp_path: Path):
    root, started = tmp_path / "store", tmp_path / "started"
    process = multiprocessing.get_context("fork").Process(target=_slow_build, args=(root, str(started)))
    process.start()
    while not started.exists():
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    store, found = Store(root), []
    assert store.get(key_of({"n": 1})) is None

    def build(output: Path, work: Path) -> dict[str, int]:
        found.append((work / "progress").read_text())
        assert not list(output.iterdir()), "it starts with an empty folder"
        return {}

    store.build({"n": 1}, build)
    assert found == ["half way"]
    assert not (root / ".work" / key_of({"n": 1})).exists()


def _counting_build(root: Path, log: str) -> None:
    def build(output: Path, work: Path) -> dict[str, int]:
        with Path(log).open("a") as file:
            file.write("built\n")
        time.sleep(0.2)
        return {}

    Store(root).build({"n": 1}, build)


def test_two_processes_build_once(tmp_path: Path):
    log = tmp_path / "log"
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_counting_build, args=(tmp_path / "s", str(log))) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert log.read_text() == "built\n"


def test_write_atomic_leaves_the_old_file_when_it_fails(tmp_path: Path):
    path = tmp_path / "a.json"
    write_atomic(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomic(path, "\ud800")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
