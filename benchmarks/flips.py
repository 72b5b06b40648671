"""Flips bytes of a published run and of its store, one at a time and by seed, and counts those that nobody notices.

`compress verify` has to name each flipped file of the published run. The store has to find each flip in an entry that
it is asked for; and runs over a store with a flip in every entry have to build it again, say so, and come to the same
files. `python benchmarks/flips.py --published 1000 --store 1000 --runs 10 --seed 0`
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import yaml
from click.testing import CliRunner
from fuzz import RECIPE, FewProcesses, make_world

import compressor.measure.client as client
from compressor.commands.main import main as compress
from compressor.errors import StageError
from compressor.files import file_digest, file_entries
from compressor.measure.client import Arrays, Client
from compressor.package.verify import verify
from compressor.pipeline.store import Store
from compressor.progress import Progress, Step, console

NOT_CHECKED = ("run.log", ".lock")
"""Files of a run's folder that hold no result."""
VARY = ("README.md", "manifest.json", "torchscript/model.pt")
"""Files of `model/` that hold times, or classes that TorchScript numbers as long as a process lives."""


class Silent(Client):
    """Runs nothing: a changed file is found before anything is loaded."""

    def run(self, job: Mapping[str, Any], step: Step | None = None, *, fresh: bool) -> Arrays:
        """Refuses."""
        raise StageError("not run in this benchmark")


def make_run(folder: Path) -> Path:
    """Runs a small recipe with all formats that a plain installation has; returns the run's folder."""
    make_world(folder)
    stages = [*RECIPE["stages"], {"stage": "export", "targets": ["onnx", "torchscript"], "size_only": True}]
    recipe = {**RECIPE, "name": "flips", "stages": stages}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    run(folder)
    return folder / "artifacts" / "flips"


def run(folder: Path) -> dict[str, Any]:
    """Runs the recipe, measuring in this process; returns the report."""
    environment, handlers = dict(os.environ), [(n, signal.getsignal(n)) for n in (signal.SIGINT, signal.SIGTERM)]
    before, client.Client = client.Client, FewProcesses  # type: ignore[misc]
    try:
        with contextlib.chdir(folder):
            result = CliRunner().invoke(compress, ["run", "recipe.yaml"], catch_exceptions=False)
    finally:
        client.Client = before  # type: ignore[misc]
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
        for number, handler in handlers:
            signal.signal(number, handler)
    assert result.exit_code in (0, 4), result.output
    report: dict[str, Any] = json.loads((folder / "artifacts" / "flips" / "report.json").read_text(encoding="utf-8"))
    return report


@contextlib.contextmanager
def flipped(path: Path, random: Random) -> Iterator[int]:
    """Changes one byte of a file, and puts it back; gives its place."""
    place = flip(path, random)
    changed = path.read_bytes()[place[0]]
    try:
        yield place[0]
    finally:
        with path.open("r+b") as file:
            file.seek(place[0])
            assert file.read(1)[0] == changed, "nobody writes into these files"
            file.seek(place[0])
            file.write(bytes([changed ^ place[1]]))


def flip(path: Path, random: Random) -> tuple[int, int]:
    """Changes one byte of a file; returns its place and what it was combined with."""
    place, mask = random.randrange(path.stat().st_size), random.randrange(1, 256)
    with path.open("r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ mask]))
    return place, mask


def choose(files: Sequence[Path], random: Random) -> Path:
    """A file: every second time any file, else one as often as it has bytes."""
    weights = None if random.random() < 0.5 else [file.stat().st_size for file in files]
    return random.choices(files, weights)[0]


def contents(folder: Path) -> list[Path]:
    """All files in a folder that have a byte and hold a result."""
    found = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.stat().st_size]
    return [path for path in found if not path.name.endswith(NOT_CHECKED)]


def published(folder: Path, flips: int, random: Random) -> list[str]:
    """Flips bytes of a run's folder; returns those that `verify` does not find in the file that has them."""
    missed, files = [], contents(folder)
    for _ in range(flips):
        path = choose(files, random)
        name = path.relative_to(folder).as_posix()
        with flipped(path, random) as place, Silent() as silent, Progress(console(sys.stderr)) as progress:
            found = verify(folder, silent, progress)
        failed = {check.subject for check in found.checks if check.verdict == "fail"}
        # The report and the manifest hold each other's digests, and either may be named.
        either = {"report.json", "manifest.json"} if name in ("report.json", "model/manifest.json") else set()
        if not failed & {name.removeprefix("model/"), *either}:
            missed.append(f"{name} at {place}")
    return missed


def stored(root: Path, flips: int, random: Random) -> list[str]:
    """Flips bytes of a store's entries; returns those that a new run's store does not find."""
    missed, files = [], entry_files(root)
    for _ in range(flips):
        path = choose(files, random)
        key = path.relative_to(root).parts[0]
        with flipped(path, random) as place:
            store = Store(root)
            if store.get(key) is not None or not store.damage(key):
                missed.append(f"{path.relative_to(root)} at {place}")
    assert all(Store(root).get(path.relative_to(root).parts[0]) for path in files), "all is as it was"
    return missed


def entry_files(root: Path) -> list[Path]:
    """The files of a store's finished artifacts."""
    return [path for entry in sorted(root.glob("[!.]*")) for path in contents(entry)]


def rebuilt(folder: Path, random: Random) -> list[str]:
    """Runs with a flip in every entry of the store; returns what is not built again, or not as it was."""
    root, model = folder / "artifacts" / ".store", folder / "artifacts" / "flips" / "model"
    before, scores = file_entries(model), accuracies(json.loads((model.parent / "report.json").read_text()))
    entries = {path.relative_to(root).parts[0] for path in entry_files(root)}
    for entry in sorted(entries):
        flip(choose(contents(root / entry), random), random)
    report = run(folder)
    notes = report["notes"]
    wrong = [] if accuracies(report) == scores else [f"accuracies are {accuracies(report)}, were {scores}"]
    wrong += [f"{entry} was not built again" for entry in sorted(entries) if not any(entry in note for note in notes)]
    wrong += [f"{entry} is damaged" for entry in sorted(entries) if Store(root).get(entry) is None]
    after = file_entries(model)
    names = sorted({*before, *after} - {*VARY})
    return wrong + [f"{name} differs" for name in names if before.get(name) != after.get(name)]


def accuracies(report: Mapping[str, Any]) -> dict[str, float]:
    """The accuracy of each stage of a report."""
    return {stage["name"]: stage["measurements"]["accuracy"]["value"] for stage in report["stages"]}


def main() -> None:
    """Prints the counts, and what was missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--published", type=int, default=1000)
    parser.add_argument("--store", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    logging.getLogger("compressor").setLevel(logging.WARNING)
    random = Random(arguments.seed)
    with tempfile.TemporaryDirectory(prefix="flips-") as temporary:
        folder = Path(temporary)
        results = {"published": published(make_run(folder), arguments.published, random)}
        results["stored"] = stored(folder / "artifacts" / ".store", arguments.store, random)
        flips = {"published": arguments.published, "stored": arguments.store}
        flips["in runs"], results["in runs"] = 0, []
        for _ in range(arguments.runs):
            flips["in runs"] += len(list((folder / "artifacts" / ".store").glob("[!.]*")))
            results["in runs"] += rebuilt(folder, random)
    for name, missed in results.items():
        print(f"{name:10} {flips[name]:6} flips, {len(missed)} missed", *missed, sep="\n  ")
    print(f"SHA-256 of 91 MB: {_seconds_of_digest(91_000_000):.3f} s")
    sys.exit(any(results.values()))


def _seconds_of_digest(size: int) -> float:
    with tempfile.NamedTemporaryFile() as file:
        path = Path(file.name)
        path.write_bytes(os.urandom(size))
        start = time.perf_counter()
        file_digest(path)
        return time.perf_counter() - start


if __name__ == "__main__":
    main()
