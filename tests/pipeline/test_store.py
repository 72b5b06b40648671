from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from compressor.files import write_atomic
from compressor.pipeline.entry import key_of
from compressor.pipeline.store import Store


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


def build_three(output: Path, work: Path) -> dict[str, object]:
    """An artifact of three files, whose facts have everything that JSON has."""
    (output / "x").write_text("hello")
    (output / "deep" / "er").mkdir(parents=True)
    (output / "deep" / "er" / "y").write_bytes(bytes(range(256)))
    (output / "empty").touch()
    return {"pairs": [[1, 0.1 + 0.2]], "by number": {10: "ä", 2: None}, "loss": float("nan")}


def built_again(root: Path) -> bool:
    """Whether a new run builds the artifact again; if it does, all is as it was, and the run says so."""
    said: list[str] = []
    store = Store(root, say=said.append)
    found = store.get(key_of({"n": 1}))
    entry, cached = store.build({"n": 1}, build_three)
    assert cached == (found is not None) and store.notes == said and len(said) == (not cached), said
    assert sorted(path.name for path in entry.path.rglob("*") if path.is_file()) == ["empty", "x", "y"]
    assert (entry.path / "x").read_text() == "hello" and (entry.path / "deep/er/y").read_bytes() == bytes(range(256))
    assert not entry.path.parent.is_symlink() and Store(root).get(entry.key) == store.get(entry.key) == entry
    return not cached


DAMAGES: dict[str, Callable[[Path], None]] = {
    "another size": lambda entry: (entry / "files/x").write_text("hell"),
    "same size": lambda entry: (entry / "files/x").write_text("jello"),
    "gone": lambda entry: (entry / "files/empty").unlink(),
    "added": lambda entry: (entry / "files/deep/cache-1.arrow").touch(),
    "a folder in its place": lambda entry: ((entry / "files/x").unlink(), (entry / "files/x").mkdir()),
    "linked elsewhere": lambda entry: (
        (entry / "files/x").rename(entry.parents[1] / "x") and (entry / "files/x").symlink_to(entry.parents[1] / "x")
    ),
    "linked to itself": lambda entry: ((entry / "files/x").unlink(), (entry / "files/x").symlink_to("x")),
    "no files": lambda entry: shutil.rmtree(entry / "files"),
    "no record": lambda entry: (entry / "entry.json").unlink(),
    "an empty record": lambda entry: (entry / "entry.json").write_text(""),
    "a torn record": lambda entry: (entry / "entry.json").write_text((entry / "entry.json").read_text()[:-9]),
    "a list": lambda entry: (entry / "entry.json").write_text("[]"),
    "nested without end": lambda entry: (entry / "entry.json").write_text("[" * 100_000),
    "a file in the entry's place": lambda entry: (shutil.rmtree(entry), entry.write_text("")),
    "a broken link in the entry's place": lambda entry: (shutil.rmtree(entry), entry.symlink_to("nowhere")),
    "another artifact": lambda entry: (
        shutil.rmtree(entry),
        Store(entry.parent).build({"n": 2}, build_three)[0].path.parent.rename(entry),
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_artifact_is_built_again_and_the_run_says_so(tmp_path: Path, damage: str):
    root = tmp_path / "store"
    entry, _ = Store(root).build({"n": 1}, build_three)
    assert not built_again(root)
    DAMAGES[damage](entry.path.parent)
    assert built_again(root)
    assert not built_again(root)


def test_any_flipped_byte_of_an_artifact_or_its_record_is_found(tmp_path: Path):
    entry, _ = Store(tmp_path).build({"n": 1}, build_three)
    for path in (entry.path / "x", entry.path / "deep/er/y", entry.path.parent / "entry.json"):
        content = path.read_bytes()
        for place in range(len(content)):
            flipped = bytearray(content)
            flipped[place] ^= 1 << place % 8
            path.write_bytes(flipped)
            assert Store(tmp_path).get(entry.key) is None, (path, place)
        path.write_bytes(content)
    assert Store(tmp_path).get(entry.key) == entry


def test_an_artifact_is_read_once_in_a_run_until_it_is_written_again(tmp_path: Path):
    store = Store(tmp_path)
    entry, _ = store.build({"n": 1}, build_three)
    assert store.get(entry.key) is store.get(entry.key)
    store.close()
    Store(tmp_path).discard(entry.key)
    assert store.get(entry.key) is None
    Store(tmp_path).build({"n": 1}, build_three)
    assert store.get(entry.key) == entry


def test_what_describes_an_artifact_is_built_again_if_that_has_other_bits_now(tmp_path: Path):
    """As where training does not give the same bits twice: a measurement is of the files that ship."""

    def run(weights: str) -> tuple[str, bool, int]:
        store = Store(tmp_path)
        checkpoint, _ = store.build({"n": 1}, lambda output, work: {"bytes": (output / "weights").write_text(weights)})

        def measure(output: Path, work: Path) -> dict[str, str]:
            return {"measured": (checkpoint.path / "weights").read_text()}

        entry, cached = store.build({"of": checkpoint.key}, measure, of=(checkpoint.key, "not in the store"))
        store.close()
        return entry.facts["measured"], cached, len(store.notes)

    assert run("first") == ("first", False, 0)
    assert run("second") == ("first", True, 0), "both are in the store"
    Store(tmp_path).discard(key_of({"n": 1}))
    assert run("first") == ("first", True, 0), "it was built again and came out the same"
    Store(tmp_path).discard(key_of({"n": 1}))
    assert run("second") == ("second", False, 1)
    assert run("third") == ("second", True, 0)


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
