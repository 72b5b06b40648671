"""Kills runs at random moments, resumes them, and compares the results with those of runs that were left alone.

    python benchmarks/kills.py --kills 150 --pairs 50

A tiny recipe, made here, is run in a fresh artifacts folder and killed with SIGKILL, up to three times in a row, until
a run is left to finish: the whole process group, or only the main process, so that its measuring processes live on. A
pair is two processes: two runs that share the artifacts folder, with the same name or with two, or two processes of
torchrun; one or both of them are killed. Verdicts and accuracies have to be those of an undisturbed run, and no partial
folder may be left. Every moment is drawn from the seed; prints a line for each case, then a summary as JSON.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

GOOD, BAD = "good great fine lovely superb".split(), "bad awful poor dull dreadful".split()
NEUTRAL = "the a film plot actor scene story music camera it is was and with of this that end start long".split()
LETTERS = [chr(code) for code in range(ord("a"), ord("z") + 1)]
RECIPE = "recipe.yaml"
POLL_S = 0.02
PATIENCE_S = 200.0
LEFTOVERS = ("*/.model.partial*", "*/.model.old", "*/.*.partial", ".store/.partial/*", ".store/.work/*")
"""What a run that was killed may leave, and the run after it has to clear away, in the artifacts folder."""


def write_recipe(folder: Path, seed: int) -> None:
    """A recipe that trains and quantizes a BERT of four tiny layers, with its checkpoint and rows."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, BertTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *GOOD, *BAD, *NEUTRAL, *LETTERS]
    ids = {word: index for index, word in enumerate(dict.fromkeys(words))}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", ids["[SEP]"]), ("[CLS]", ids["[CLS]"]))
    torch.manual_seed(seed)
    sizes = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 64}
    config = BertConfig(vocab_size=len(ids), max_position_embeddings=32, initializer_range=0.1, **sizes)
    BertModel(config).save_pretrained(folder / "encoder")
    BertTokenizerFast(tokenizer_object=tokenizer, model_max_length=32).save_pretrained(folder / "encoder")
    drawn = random.Random(seed)
    for name, rows in (("train.tsv", 400), ("dev.tsv", 200)):
        lines = ["sentence\tlabel"]
        for _ in range(rows):
            kind = drawn.choice(("good", "bad"))
            text = [*drawn.choices(NEUTRAL, k=drawn.randint(3, 12)), drawn.choice(GOOD if kind == "good" else BAD)]
            drawn.shuffle(text)
            lines.append(f"{' '.join(text)}\t{kind}")
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    train = {"max_steps": 60, "batch_size": 16, "learning_rate": 2e-3, "max_sequence_length": 24}
    recipe = {
        "schema_version": 1,
        "name": "first",
        "task": "text-classification",
        "model": "encoder",
        "data": {"train": "train.tsv", "validation": "dev.tsv", "text": "sentence", "label": "label"},
        "measure": {"sequence_length": 8, "runs": 4},
        "stages": [
            {"stage": "finetune", **train, "gates": {"accuracy": {"min": 0.6}}},
            {"stage": "quantize", "reduce_range": True},
        ],
    }
    (folder / RECIPE).write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")


class Run:
    """A run in a process group of its own.

    A single process is forked off this one, which has imported the libraries, and takes peak memory and times once.

    Args:
        recipe: The recipe's file.
        artifacts: Its artifacts folder.
        name: The run's name.
        together: Whether torchrun starts it in two processes.
    """

    def __init__(self, recipe: Path, artifacts: Path, name: str, together: bool) -> None:
        self._log = artifacts / name / ("run.rank1.log" if together else "run.log")
        self._logged = self._log.stat().st_size if self._log.exists() else 0
        artifacts.mkdir(parents=True, exist_ok=True)
        self._ended: int | None = None
        self.errors = artifacts.with_name(f"{artifacts.name}.{name}.stderr")
        words = ["run", str(recipe), "--artifacts", str(artifacts), "--set", f"name={name}"]
        if together:
            launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
            with self.errors.open("wb") as errors:
                command = [*launcher, "-m", "compressor", *words]
                self._process = subprocess.Popen(command, stdout=errors, stderr=errors, start_new_session=True)
            self.pid = self._process.pid
        else:
            self.pid = _fork(partial(_command, words, self.errors))

    def wait_for_work(self) -> None:
        """Waits until it has begun to log, or has ended: before that there is nothing to disturb."""
        while self._code(0) is None:
            if self._log.exists() and self._log.stat().st_size > self._logged:
                return
            time.sleep(POLL_S)

    def _code(self, timeout: float) -> int | None:
        """The exit code, or minus the number of the signal that killed it; None if it has not ended by then."""
        end = time.monotonic() + timeout
        while self._ended is None:
            found, status = os.waitpid(self.pid, os.WNOHANG)
            if found:
                self._ended = os.waitstatus_to_exitcode(status)
            elif time.monotonic() >= end:
                break
            else:
                time.sleep(POLL_S)
        return self._ended

    def kill(self, group: bool) -> bool:
        """Kills it, or its whole group; whether it was still running."""
        if self._code(0) is not None:
            return False
        (os.killpg if group else os.kill)(self.pid, signal.SIGKILL)
        return self._code(PATIENCE_S) == -signal.SIGKILL

    def finish(self) -> int:
        """Waits until it has ended; its exit code."""
        code = self._code(PATIENCE_S)
        if code is None:
            os.kill(self.pid, signal.SIGUSR1)
            time.sleep(1)
            os.killpg(self.pid, signal.SIGKILL)
            sys.exit(f"a run hangs: {self.errors.read_text(errors='replace')[-5000:]}")
        return code


def _command(words: list[str], errors: Path) -> None:
    """The command, in this process."""
    os.setsid()
    faulthandler.register(signal.SIGUSR1)
    nothing, log = os.open(os.devnull, os.O_RDWR), os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for descriptor, target in ((0, nothing), (1, nothing), (2, log)):
        os.dup2(target, descriptor)
    from compressor.commands.main import main
    from compressor.measure import client

    client.Client = partial(client.Client, timing_processes=1, memory_processes=1)  # type: ignore[misc,assignment]
    sys.argv = ["compress", *words]
    main(words)


def _fork(work: Callable[[], object]) -> int:
    """Starts a process that does some work and ends; this one starts no threads, which a fork would lose."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        work()
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def outcome(artifacts: Path, name: str) -> dict[str, Any]:
    """What must not depend on kills: the verdicts, accuracies and sizes, and whether the model is the report's."""
    folder = artifacts / name
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    from compressor.files import file_digest

    return {
        "verdict": report["verdict"],
        "published": file_digest(folder / "model" / "manifest.json") == report["manifest_sha256"],
        "stages": {
            stage["name"]: [stage["verdict"], *(stage["measurements"][m]["value"] for m in ("accuracy", "size_bytes"))]
            for stage in report["stages"]
        },
    }


class Cases:
    """Draws and runs cases.

    Args:
        recipe: The recipe's file.
        folder: Gets the artifacts folders.
        seed: Of the moments.
    """

    def __init__(self, recipe: Path, folder: Path, seed: int) -> None:
        self._recipe, self._folder, self._drawn = recipe, folder, random.Random(seed)
        self._expected: dict[bool, tuple[dict[str, Any], float]] = {}
        self._count = 0
        self.counts: Counter[str] = Counter()

    def single(self) -> None:
        """Kills one run up to three times, then lets it finish."""
        artifacts, killed, seconds = self._artifacts(), 0, self._usual(False)[1]
        for _ in range(self._drawn.randint(1, 3)):
            run = self._start(artifacts, "first", False)
            run.wait_for_work()
            time.sleep(self._drawn.uniform(0, seconds))
            if not run.kill(group := self._drawn.random() < 0.5):
                break
            killed += 1
            self.counts["killed groups" if group else "killed main processes"] += 1
        self.counts["kills"] += killed
        self._resume(artifacts, ["first"], False, f"{killed} kills")

    def pair(self) -> None:
        """Two processes at once, of which one or both are killed."""
        kind = self._drawn.choice(("one name", "two names", "one name", "two names", "torchrun"))
        together = kind == "torchrun"
        names = {"one name": ["first", "first"], "two names": ["first", "other"], "torchrun": ["first"]}[kind]
        artifacts, seconds = self._artifacts(), len(names) * self._usual(together)[1]
        runs = [self._start(artifacts, name, together) for name in names]
        runs[0].wait_for_work()
        time.sleep(self._drawn.uniform(0, seconds))
        victims = self._drawn.choice(([0], [1], [0, 1])) if len(runs) == 2 else [0]
        killed = [runs[index].kill(self._drawn.random() < 0.5) for index in victims]
        codes = [run.finish() for index, run in enumerate(runs) if index not in victims]
        wrong = "" if not any(codes) else f", the other run ended with {codes}"
        self.counts["kills in pairs"] += sum(killed)
        self.counts["pairs"] += any(killed)
        self._resume(artifacts, sorted(set(names)), together, f"{sum(killed)} kills of {kind}{wrong}", bool(wrong))

    def _resume(self, artifacts: Path, names: list[str], together: bool, what: str, wrong: bool = False) -> None:
        """Runs once more what was killed, and compares."""
        codes, found = [], []
        for name in names:
            run = self._start(artifacts, name, together)
            codes.append(run.finish())
            found.append(outcome(artifacts, name) if codes[-1] == 0 else run.errors.read_text(errors="replace")[-800:])
        left = [str(path.relative_to(artifacts)) for pattern in LEFTOVERS for path in artifacts.glob(pattern)]
        same = all(entry == self._usual(together)[0] for entry in found) and not wrong
        self.counts["different"] += not same
        self.counts["partial folders"] += len(left)
        told = "as undisturbed" if same else f"exit codes {codes}, found {found}"
        print(f"{self._count}: {what}: {told}; left over: {left or 'nothing'}", flush=True)

    def _usual(self, together: bool) -> tuple[dict[str, Any], float]:
        """The outcome of a run that is left alone, and the seconds that it works."""
        if together not in self._expected:
            artifacts = self._artifacts()
            run = self._start(artifacts, "first", together)
            run.wait_for_work()
            start = time.monotonic()
            if run.finish():
                sys.exit(run.errors.read_text(errors="replace"))
            self._expected[together] = outcome(artifacts, "first"), time.monotonic() - start
            print(f"undisturbed: {self._expected[together]}", flush=True)
        return self._expected[together]

    def _artifacts(self) -> Path:
        self._count += 1
        return self._folder / f"artifacts{self._count}"

    def _start(self, artifacts: Path, name: str, together: bool) -> Run:
        return Run(self._recipe, artifacts, name, together)


def main() -> None:
    """Runs the cases that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20, help="kills of single runs")
    parser.add_argument("--pairs", type=int, default=5, help="kills of two processes")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    os.environ["COMPRESS_SAVE_EVERY_S"] = "0.2"
    for name in ("torch", "transformers", "datasets", "onnx", "onnxruntime"):
        import_module(name)
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        os.waitpid(_fork(partial(write_recipe, Path(folder), 0)), 0)
        cases = Cases(Path(folder) / RECIPE, Path(folder), given.seed)
        while cases.counts["kills"] < given.kills:
            cases.single()
        while cases.counts["pairs"] < given.pairs:
            cases.pair()
    print(json.dumps({"seed": given.seed, **cases.counts}))
    sys.exit(1 if cases.counts["different"] or cases.counts["partial folders"] else 0)


if __name__ == "__main__":
    main()
