"""What one process uses or builds, no other one deletes; and what a kill leaves is cleared away."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from compressor.pipeline.entry import key_of
from compressor.pipeline.store import Store

INPUTS = {"kind": "stage", "spec": {"stage": "distill"}}
KEY = key_of(INPUTS)


def build_one(output: Path, work: Path) -> dict[str, int]:
    (output / "folder").mkdir()
    (output / "folder" / "x").write_text("hello")
    (work / "checkpoint").write_text("half way")
    return {}


def locks(root: Path) -> list[str]:
    return sorted(path.name for path in (root / ".locks").iterdir())


def test_nobody_deletes_what_a_run_uses_until_it_ends(tmp_path: Path):
    told: list[str] = []
    with Store(tmp_path) as builder, Store(tmp_path) as user:
        builder.build(INPUTS, build_one)
        assert user.use(KEY) == builder.get(KEY) and user.used == {KEY}
        builder.close()
        with Store(tmp_path).deletable(KEY) as alone:
            assert not alone
        thread = threading.Thread(target=Store(tmp_path, say=told.append).discard, args=(KEY,))
        thread.start()
        while not told:
            assert thread.is_alive()
        assert user.get(KEY) is not None and str(tmp_path / KEY) in told[0]
    thread.join()
    assert Store(tmp_path).get(KEY) is None and locks(tmp_path) == []


def test_what_is_looked_at_only_is_not_held(tmp_path: Path):
    with Store(tmp_path) as store:
        store.build(INPUTS, build_one)
    with Store(tmp_path) as looking:
        assert looking.get(KEY) is not None and not looking.used
        with Store(tmp_path).deletable(KEY) as alone:
            assert alone


def test_who_waits_for_a_build_is_told_and_gets_its_artifact(tmp_path: Path):
    told: list[str] = []
    started, go_on = threading.Event(), threading.Event()

    def build(output: Path, work: Path) -> dict[str, int]:
        started.set()
        assert go_on.wait(60)
        return build_one(output, work)

    def follow() -> None:
        with Store(tmp_path, say=told.append) as second:
            results.append(second.build(INPUTS, build_one)[1])

    results: list[bool] = []
    first = threading.Thread(target=Store(tmp_path).build, args=(INPUTS, build))
    first.start()
    assert started.wait(60)
    with Store(tmp_path).deletable(KEY) as alone:
        assert not alone, "it is being built"
    second = threading.Thread(target=follow)
    second.start()
    while not told:
        assert second.is_alive()
    go_on.set()
    first.join()
    second.join()
    assert results == [True] and "distill" in told[0]


def _use(root: Path, ready: Path) -> None:
    store = Store(root)
    store.use(KEY)
    ready.touch()
    time.sleep(600)


def test_a_killed_run_uses_nothing_any_more(tmp_path: Path):
    Store(tmp_path / "store").build(INPUTS, build_one)
    process = multiprocessing.get_context("fork").Process(target=_use, args=(tmp_path / "store", tmp_path / "ready"))
    process.start()
    while not (tmp_path / "ready").exists():
        time.sleep(0.01)
    with Store(tmp_path / "store").deletable(KEY) as alone:
        assert not alone
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    with Store(tmp_path / "store").deletable(KEY) as alone:
        assert alone


def test_what_a_build_left_that_was_killed_at_its_very_end_is_cleared_away(tmp_path: Path):
    with Store(tmp_path) as store:
        store.build(INPUTS, build_one)
    for folder in (".work", ".partial"):
        (tmp_path / folder / KEY / "checkpoint-1").mkdir(parents=True)
    assert Store(tmp_path).use(KEY) is not None
    assert not list(tmp_path.glob(".work/*")) and not list(tmp_path.glob(".partial/*"))


def test_everything_is_on_the_disk_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    synced: list[Path] = []
    fsync = os.fsync

    def recorded(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().relative_to(tmp_path))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", recorded)
    Store(tmp_path).build(INPUTS, build_one)
    partial = Path(".partial", KEY)
    names = ("", "entry.json", "files", "files/folder", "files/folder/x")
    assert {partial / name for name in names} <= set(synced)
    assert synced[-1] == Path(), "and its name, at last"
