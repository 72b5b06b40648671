"""Writes the results of a run into its folder: `model/`, the lock and the reports, so that a kill leaves no mix unseen.

`model/` is exchanged as a whole. report.json is written last and holds the digests of the manifest and of the lock: as
long as it is the report of an earlier run, `compress verify` finds that they are not its own.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from compressor.errors import StageError
from compressor.files import FileEntries, SealedFolder, differences, sync, sync_tree, write_atomic
from compressor.measure import recorded_answers
from compressor.measure.measurement import REPEATABLE, deployed_file
from compressor.package import manifest
from compressor.package.manifest import Manifest
from compressor.report import files, model_card
from compressor.report.model import Report

_SOME_SHA256 = "0" * 64
"""Stands for the manifest's while the digests of the files that name it are taken for the manifest."""
_PARTIAL, _OLD = ".model.partial-", ".model.old"
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


def publish(
    report: Report, checkpoint: SealedFolder, folder: Path, runtime: str, measured: SealedFolder, lock: str
) -> Report:
    """Writes a run's folder: the model unless a gate failed or stages were left out, the lock, and the report.

    Args:
        report: The run.
        checkpoint: Its last checkpoint.
        folder: The run's folder; the caller holds its lock.
        runtime: The runtime that was measured.
        measured: What its measurement left: recorded answers in it ship, too.
        lock: Text of recipe.lock.yaml.

    Returns:
        The report with the digests of what was written, as it is in report.json.

    Raises:
        StageError: A file is not what was built and measured.
    """
    folder.mkdir(parents=True, exist_ok=True)
    report = replace(report, manifest_sha256=None, lock_sha256=hashlib.sha256(lock.encode()).hexdigest())
    if report.verdict == "fail":
        _remove(folder / "model")
    elif report.until is None:
        named = replace(report, manifest_sha256=_SOME_SHA256)
        beside = manifest.beside({"report.json": named.text(), **files.texts(named, lock)}, _SOME_SHA256)
        report = replace(report, manifest_sha256=_model(report, checkpoint, folder, runtime, measured, beside))
    write_atomic(folder / files.LOCK_FILE, lock)
    files.write(report, folder, lock)
    report.write(folder / "report.json")
    return report


def recover(folder: Path) -> None:
    """Puts right what a run left that was killed while it published. The caller holds the folder's lock."""
    target, old = folder / "model", folder / _OLD
    if old.exists() and not os.path.lexists(target):
        old.rename(target)
    for leftover in (*folder.glob(f"{_PARTIAL}*"), old):
        _delete(leftover)
    for leftover in folder.glob(".*.partial"):  # of `write_atomic`
        if not _is_running(leftover.name.split(".")[-2]):
            _delete(leftover)


def _model(
    report: Report,
    checkpoint: SealedFolder,
    folder: Path,
    runtime: str,
    measured: SealedFolder,
    beside: Mapping[str, str],
) -> str:
    """Replaces `model/`; returns the SHA-256 of its manifest."""
    target, partial = folder / "model", _unused(folder)
    try:
        card = model_card.render(report, checkpoint.path)
        names = _copy(checkpoint, measured, partial) | _write(partial / "README.md", card)
        if wrong := differences(partial, names):
            name, what = next(iter(wrong.items()))
            raise StageError(
                f"{name} {what}, after it was built and measured in this run; nothing was published. Run again: what "
                "is damaged is built again. If this happens more than once, the disk or the memory of this machine is "
                "at fault"
            )
        digest = _manifest(report, partial, runtime, names, beside).write(partial)
        sync_tree(partial)
        if not os.path.lexists(target):
            partial.rename(target)
        elif not _exchange(partial, target):
            target.rename(folder / _OLD)
            partial.rename(target)
        sync(folder)
    finally:
        _delete(partial)  # the model before, after an exchange
        if os.path.lexists(target):
            _delete(folder / _OLD)
    return digest


def _remove(target: Path) -> None:
    """Removes a folder at once: its name is free before the first file is gone."""
    if os.path.lexists(target):
        aside = _unused(target.parent)
        target.rename(aside)
        sync(target.parent)
        _delete(aside)


def _unused(folder: Path) -> Path:
    return folder / f"{_PARTIAL}{os.getpid()}-{uuid.uuid4().hex[:8]}"


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _exchange(one: Path, other: Path) -> bool:
    """Lets two paths change places in one step; whether the system and its file system can do so."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):  # not Linux
        return False
    done: int = renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE)
    return done == 0


def _is_running(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, ValueError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def _copy(checkpoint: SealedFolder, measured: SealedFolder, target: Path) -> dict[str, Mapping[str, str | int]]:
    """Copies what ships into a new folder; returns the digests that it had when it was built."""
    target.mkdir(parents=True)
    files = dict(checkpoint.files)
    answers = {name: entry for name, entry in measured.files.items() if name == recorded_answers.FILE}
    for folder, names in ((checkpoint.path, files), (measured.path, answers)):
        for name in names:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / name, target / name)
    return files | answers


def _write(path: Path, text: str) -> dict[str, Mapping[str, str | int]]:
    content = text.encode()
    path.write_bytes(content)
    return {path.name: {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}}


def _manifest(report: Report, folder: Path, runtime: str, files: FileEntries, beside: Mapping[str, str]) -> Manifest:
    file, answers = deployed_file(folder, runtime), folder / recorded_answers.FILE
    measured = report.built[-1].measurements
    saturates = {
        form.path: {"saturates_on": form.saturation["processors"]} for form in report.formats if form.saturation
    }
    return Manifest(
        recipe=report.recipe,
        task=report.built[-1].task,
        verdict=report.verdict,
        environment=report.environment,
        gates=report.gates,
        measured={name: measured[name].value for name in REPEATABLE if name in measured},
        file=file.relative_to(folder).as_posix() if file else None,
        recorded_rows=len(recorded_answers.read(answers).rows) if answers.is_file() else 0,
        beside=beside,
        files={name: {**entry, **saturates.get(name, {})} for name, entry in sorted(files.items())},
    )
