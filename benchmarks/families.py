"""Compares, for each family at the size of its base model, this project's files with a plain export and its int8.

The weights are random: the table is about files, times and integers, not about quality. Nothing is downloaded. For each
family: the largest difference from transformers' logits of the model that is taken apart and put together again, and of
the float ONNX file; the share of weight matrices that run as integers; and times, of this project's float and int8
files and of `torch.onnx.export` with onnxruntime's `quantize_dynamic`, in turn in one process, batch 1, one thread. To
write docs/families.md:

    python benchmarks/families.py --make                      # the files, once: several minutes and 10 GB
    python benchmarks/families.py > docs/families.md          # on a machine that does nothing else

Files that are there are taken as they are; delete the folder to make them anew.
"""

from __future__ import annotations

import gc
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import kernels
import numpy as np
import peers
import side_by_side
from given import Given
from rich.console import Console

from compressor.host import machine
from compressor.models import loading
from compressor.models.convert import from_parts, to_parts
from compressor.pipeline.log_capture import quiet, stream
from compressor.progress import Progress
from compressor.quantization import SCHEMES, Settings
from compressor.runtimes import RUNTIMES
from compressor.runtimes.onnx.coverage import quantized_coverage

LENGTH, RUNS = 128, 60
_BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
_ROBERTA = {**_BASE, "max_position_embeddings": 514, "type_vocab_size": 1, "pad_token_id": 1}
_DISTIL = {"dim": 768, "n_layers": 6, "n_heads": 12, "hidden_dim": 3072, "vocab_size": 30522}
_DISTANCES = {"relative_attention": True, "position_buckets": 256, "pos_att_type": ["p2c", "c2p"]}
_DEBERTA = {**_DISTANCES, "norm_rel_ebd": "layer_norm", "share_att_key": True, "position_biased_input": False}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "BERT-base": ("Bert", {**_BASE, "vocab_size": 30522}),
    "DistilBERT-base": ("DistilBert", _DISTIL),
    "ALBERT-base": ("Albert", {**_BASE, "vocab_size": 30000, "embedding_size": 128}),
    "RoBERTa-base": ("Roberta", {**_ROBERTA, "vocab_size": 50265}),
    "XLM-R-base": ("XLMRoberta", {**_ROBERTA, "vocab_size": 250002}),
    "ELECTRA-base": ("Electra", {**_BASE, "vocab_size": 30522, "embedding_size": 768}),
    "MPNet-base": ("MPNet", {**_BASE, "vocab_size": 30527, "max_position_embeddings": 514}),
    "DeBERTa-v3-small": ("DebertaV2", {**_BASE, "num_hidden_layers": 6, "vocab_size": 128100, **_DEBERTA}),
    "ModernBERT-base": ("ModernBert", {"classifier_pooling": "mean"}),
}
"""Beginnings of the classes' names, and what their configs say."""
FLOAT, INT8, PLAIN = "float", "int8", "plain int8"
FILES = {FLOAT: "onnx/model.onnx", INT8: "onnx/model_quantized.onnx", PLAIN: "plain_int8/model.onnx"}
_FACTS = "facts.json"


def differences(folder: Path, model: Any) -> dict[str, float]:
    """Largest differences from transformers' logits, of rows that are whole, padded, and of several lengths."""
    import torch

    session = RUNTIMES["onnxruntime"].session(folder / FILES[FLOAT], 1)
    again = from_parts(to_parts(model)).eval()
    found = {"again": 0.0, "onnx": 0.0}
    random = np.random.default_rng(0)
    for length, padded in ((1, 0), (16, 5), (LENGTH, 0), (200, 60)):
        ids = random.integers(5, 20000, (1, length))
        mask = np.ones_like(ids)
        mask[:, length - padded :] = 0 if padded else 1
        ids[mask == 0] = model.config.pad_token_id
        row = {"input_ids": ids, "attention_mask": mask}
        with torch.inference_mode():
            theirs = model(**{name: torch.from_numpy(value) for name, value in row.items()}).logits.numpy()
            ours = again(**{name: torch.from_numpy(value) for name, value in row.items()}).logits.numpy()
        given = session.predict({**row, "token_type_ids": np.zeros_like(ids)})["logits"]
        found["again"] = max(found["again"], float(np.abs(ours - theirs).max()))
        found["onnx"] = max(found["onnx"], float(np.abs(given - theirs).max()))
    return found


def make(name: str, folder: Path) -> None:
    """Makes a family's files, if they are not there."""
    import torch
    import transformers

    if (folder / _FACTS).is_file():
        return
    shutil.rmtree(folder, ignore_errors=True)
    prefix, sizes = FAMILIES[name]
    torch.manual_seed(0)
    config = getattr(transformers, f"{prefix}Config")(**sizes)
    model = getattr(transformers, f"{prefix}ForSequenceClassification")(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.02)
    model.save_pretrained(folder)
    RUNTIMES["onnxruntime"].export(folder, folder / FILES[FLOAT])
    SCHEMES["dynamic_int8"].write(folder / FILES[FLOAT], folder / FILES[INT8], Settings(), None)
    model = loading.load_model(folder).eval()
    facts: dict[str, Any] = {"parameters": model.num_parameters(), **differences(folder, model)}
    del model
    gc.collect()
    plain, scratch = folder / FILES[PLAIN], folder / "plain"
    for place in (plain.parent, scratch):
        place.mkdir()
    given = Given(folder, *(Path(),) * 2, "", "", 0, folder, Path())
    try:
        peers.plain_int8(given, plain.parent, peers.plain(given, scratch, None))
    except Exception as error:  # whatever a library raises, the other files are of use
        facts["plain_fault"] = f"{type(error).__name__}: {error}".splitlines()[0]
    shutil.rmtree(scratch)
    there = [file for file in FILES if (folder / FILES[file]).is_file()]
    facts["coverage"] = {file: quantized_coverage(folder / FILES[file]) for file in there if file != FLOAT}
    facts["bytes"] = {file: (folder / FILES[file]).stat().st_size for file in there}
    (folder / _FACTS).write_text(json.dumps(facts), encoding="utf-8")


def measured(folder: Path, runs: int, progress: Progress) -> dict[str, float]:
    """Median milliseconds of each file, in turn."""
    facts = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
    sessions = {name: RUNTIMES["onnxruntime"].session(folder / FILES[name], 1) for name in facts["bytes"]}
    conditions = side_by_side.Conditions(runs, 0, "wall")
    samples = side_by_side.timed(sessions, kernels.full_batch(LENGTH, kernels.FEW_TOKENS), conditions, progress)
    return {name: float(np.median(values)) for name, values in samples.items()}


def page(folder: Path, names: tuple[str, ...], runs: int, progress: Progress) -> Iterator[str]:
    """The lines of the page."""
    command = "python benchmarks/families.py" + (f" --runs {runs}" if runs != RUNS else "")
    yield from (
        "# Every family at the size of its base model",
        "",
        f"Written by `{command} > docs/families.md`, with random weights.",
        f"Milliseconds are medians of {runs} calls at {LENGTH} tokens, batch 1, one thread, files in turn. `again` is",
        "the largest difference from transformers' logits of the model that was taken apart and put together, `ONNX`",
        "that of the float file. `int8` is the share of weight matrices that run as integers. Plain int8 is",
        "`torch.onnx.export` and onnxruntime's `quantize_dynamic` as they are; all speed-ups are over this project's",
        "float file.",
        "",
        "| family | parameters | again | ONNX | float ms | int8 ms | speed-up | int8 | MB | plain int8 ms "
        "| speed-up | int8 | MB |",
        "|---" * 13 + "|",
    )
    faults = []
    for name in names:
        facts = json.loads((folder / name / _FACTS).read_text(encoding="utf-8"))
        times = measured(folder / name, runs, progress)
        cells = [name, f"{facts['parameters'] / 1e6:.0f} M", f"{facts['again']:.0e}", f"{facts['onnx']:.0e}"]
        cells.append(f"{times[FLOAT]:.1f}")
        for file in (INT8, PLAIN):
            if file not in times:
                cells += ["–"] * 4
                continue
            cells += [f"{times[file]:.1f}", f"{times[FLOAT] / times[file]:.2f}x"]
            cells += [f"{facts['coverage'][file]:.2f}", f"{facts['bytes'][file] / 1e6:.1f}"]
        if "plain_fault" in facts:
            faults.append(f"Plain export of {name}: {facts['plain_fault']}")
        yield f"| {' | '.join(cells)} |"
    yield from ("", *(line for fault in faults for line in (fault, "")))
    load, here = os.getloadavg()[0], machine.host()
    yield f"{here['cpu']}, {here['cores']} cores, {here['cpu_features']}."
    yield f"Processes at work at the end: {load:.1f}."


@click.command()
@click.option("--family", "names", type=click.Choice(list(FAMILIES)), multiple=True, default=tuple(FAMILIES))
@click.option("--make", "only_make", is_flag=True, help="Make the files, and measure nothing.")
@click.option("--runs", type=click.IntRange(min=1), default=RUNS, show_default=True, help="Timed calls of each file.")
@click.option("--folder", type=click.Path(path_type=Path), default=Path("artifacts/families"), show_default=True)
def main(names: tuple[str, ...], only_make: bool, runs: int, folder: Path) -> None:
    """Compare the files of every family at the size of its base model."""
    folder.mkdir(parents=True, exist_ok=True)
    with quiet(folder / "families.log"), Progress(Console(file=stream(sys.stderr))) as progress:
        for name in names:
            with progress.step(f"making {name}"):
                make(name, folder / name)
        lines = [] if only_make else list(page(folder, names, runs, progress))
    click.echo("\n".join(lines))


if __name__ == "__main__":
    main()
