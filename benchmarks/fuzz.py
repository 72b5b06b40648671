"""Mutates recipes, data files and checkpoints by seed, and counts how `compress validate` and `compress run` take them.

Every case has to end in a clear message or a success, within its time: a traceback, a hang, a wrong input that passes
and a valid input that is refused are faults. `python benchmarks/fuzz.py --cases 600 --runs 40 --seed 0`
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import fuzz_files  # noqa: F401 -- adds its mutations to the list
import fuzz_mutations
import yaml
from click.testing import CliRunner
from fuzz_mutations import HARMLESS, MUTATIONS, WRONG, Mutation

from compressor.commands.main import main as compress
from compressor.measure.client import Client

LIMIT_S = {"validate": 20, "run": 120}
CLEAR, PASSED = "clear message", "passed"
FAULTS = ("traceback", "hang", "riddle", "passed though wrong", "refused though valid")
RECIPE: dict[str, Any] = {
    "schema_version": 1,
    "name": "fuzz",
    "task": "text-classification",
    "model": "model",
    "data": {"train": "train.tsv", "validation": "dev.tsv", "text": "sentence", "label": "label"},
    "measure": {"sequence_length": 16, "runs": 60},
    "stages": [
        {
            "stage": "finetune",
            "max_steps": 2,
            "batch_size": 8,
            "learning_rate": 1e-3,
            "max_sequence_length": 16,
            "gates": {"accuracy": {"min": 0.01}},
        },
        {"stage": "quantize"},
    ],
}


@dataclass(frozen=True)
class Case:
    """A mutated input and what became of it.

    Attributes:
        seed: Seed of the case.
        mutation: The kind of mutation.
        command: `validate` or `run`.
        outcome: `CLEAR`, `PASSED`, or one of `FAULTS`.
        output: What the command printed.
    """

    seed: str
    mutation: Mutation
    command: str
    outcome: str
    output: str


FewProcesses = partial(Client, timing_processes=1, memory_processes=1)
"""A client whose measurements take little time, and say as little."""


class _TimeUp(BaseException):
    """Raised in a case that takes too long; no handler of errors takes it for one."""


@contextlib.contextmanager
def _limited(seconds: int) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise _TimeUp

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def try_case(world: Path, mutation: Mutation, seed: str, command: str, work: Path) -> Case:
    """Mutates a copy of a small world of recipe, rows and checkpoint, and gives it to a command.

    Args:
        world: A folder with recipe.yaml, train.tsv, dev.tsv and model/.
        mutation: The kind of mutation.
        seed: Seed of this case.
        command: `validate` or `run`.
        work: Folder for the copy.
    """
    folder = work / "case"
    shutil.copytree(world, folder, symlinks=True)
    more = mutation.apply(Random(seed), folder) or []
    arguments = [command, "recipe.yaml", *more, *(["--artifacts", str(work / "artifacts")] if command == "run" else [])]
    environment, handlers = dict(os.environ), [(n, signal.getsignal(n)) for n in (signal.SIGINT, signal.SIGTERM)]
    try:
        with contextlib.chdir(folder), _limited(LIMIT_S[command]):
            result = CliRunner().invoke(compress, arguments)
            outcome, output = (
                _outcome(mutation, command, result.exit_code, result.output, result.exception),
                result.output,
            )
    except _TimeUp:
        outcome, output = "hang", ""
    finally:
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
        for number, handler in handlers:
            signal.signal(number, handler)
        shutil.rmtree(folder)
    return Case(seed, mutation, command, outcome, output)


def _outcome(mutation: Mutation, command: str, code: int, output: str, error: BaseException | None) -> str:
    if not isinstance(error, SystemExit | None) or "raceback" in output or code == 3:
        return "traceback"
    if code in (0, 1, 4):
        seen = command == "run" or not mutation.runs
        return "passed though wrong" if mutation.is_ == WRONG and seen else PASSED
    if mutation.is_ == HARMLESS:
        return "refused though valid"
    lines = output.splitlines()
    hostile = any(not character.isprintable() and character not in "\n\r" for character in output)
    long = any(len(line) > 3000 for line in lines)
    return CLEAR if code == 2 and lines and not hostile and not long and ": " in output else "riddle"


def fuzz(world: Path, cases: int, runs: int, seed: int) -> Iterator[Case]:
    """Tries mutations in turn, each with a seed of its own.

    Args:
        world: A folder with recipe.yaml, train.tsv, dev.tsv and model/.
        cases: Cases for `validate`.
        runs: Cases for `run`, of mutations that `validate` cannot see first.
        seed: Seed of all.
    """
    alive = [mutation for mutation in MUTATIONS if not mutation.runs]
    rows = [mutation for mutation in MUTATIONS if mutation.runs]
    others = [mutation for mutation in alive if mutation.is_ != fuzz_mutations.EITHER]
    with tempfile.TemporaryDirectory(prefix="fuzz-") as temporary:
        for index in range(cases + runs):
            command = "validate" if index < cases else "run"
            kinds = alive + rows if command == "validate" else rows * 3 + others
            mutation = kinds[index % len(kinds)]
            yield try_case(world, mutation, f"{seed}-{index}", command, Path(temporary))


def make_world(folder: Path) -> Path:
    """A recipe that is right, 60 rows for training, 60 for validation, and a tiny checkpoint."""
    import torch
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece
    from tokenizers.normalizers import BertNormalizer
    from tokenizers.pre_tokenizers import BertPreTokenizer
    from tokenizers.processors import BertProcessing
    from transformers import BertConfig, BertModel, BertTokenizerFast

    words = "good fine bad poor a the film plot was so end".split()
    vocabulary = {word: index for index, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words])}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = BertNormalizer(), BertPreTokenizer()
    tokenizer.post_processor = BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    BertTokenizerFast(tokenizer_object=tokenizer, model_max_length=32).save_pretrained(folder / "model")
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 64}
    config = BertConfig(vocab_size=len(vocabulary), max_position_embeddings=32, **sizes)
    BertModel(config).save_pretrained(folder / "model")
    random = Random(0)
    for name in ("train", "dev"):
        lines = ["sentence\tlabel"]
        for index in range(60):
            word, label = (("good", "positive"), ("bad", "negative"))[index % 2]
            lines.append(f"{' '.join([*random.choices(words[4:], k=6), word])} {name} {index}\t{label}")
        (folder / f"{name}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "recipe.yaml").write_text(yaml.safe_dump(RECIPE, sort_keys=False), encoding="utf-8")
    return folder


def main() -> None:
    """Prints the counts, and each fault with the seed that finds it again."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=600)
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--all", action="store_true", help="print the message of every case")
    arguments = parser.parse_args()
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    import compressor.measure.client as client

    client.Client = FewProcesses  # type: ignore[assignment,misc]
    with tempfile.TemporaryDirectory(prefix="fuzz-world-") as temporary:
        for case in fuzz(make_world(Path(temporary)), arguments.cases, arguments.runs, arguments.seed):
            counts[f"{case.command} {case.mutation.what}"][case.outcome] += 1
            if case.outcome in FAULTS or arguments.all:
                print(
                    f"{case.outcome}: {case.command} {case.mutation.name} {case.seed}: {case.output[:700]!a}",
                    flush=True,
                )
    total = sum(counts.values(), Counter())
    for name, found in sorted([*counts.items(), ("all", total)]):
        print(f"{name:20} " + ", ".join(f"{found[outcome]} {outcome}" for outcome in (CLEAR, PASSED, *FAULTS)))
    sys.exit(any(total[fault] for fault in FAULTS))


if __name__ == "__main__":
    main()
