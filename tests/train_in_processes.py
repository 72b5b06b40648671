"""What the tests of several processes run in each that torchrun starts: `train_in_processes.py PART FOLDER`."""

from __future__ import annotations

import io
import os
import signal
import sys
from pathlib import Path
from typing import Any

import click
import torch
from kinds import make_model
from rich.console import Console
from training_rows import batches, schedule, tagged_batches

from compressor.commands.main import Commands
from compressor.errors import StageError
from compressor.progress import Progress
from compressor.tasks import text_classification, token_classification
from compressor.training import processes, trainer
from compressor.training.objectives import Labels

STEPS, KILLED = 20, 11  # in the second epoch


def train_tags(work: Path, batch_size: int, accumulated: int = 1) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Trains on rows with unequal numbers of labels, nothing being drawn; the facts and the weights."""
    plan = schedule(batch_size=batch_size, gradient_accumulation_steps=accumulated, dropout=0.0, epochs=1)
    return _train(
        make_model("bert", "TokenClassification"), tagged_batches(64), Labels(token_classification), plan, work
    )


def train_drawing(work: Path, killed_after: int = 0) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Trains with dropout; every process kills itself after so many steps."""

    class Killed(Labels):
        calls = 0

        def terms(self, *arguments: Any) -> trainer.Terms:
            self.calls += 1
            if self.calls == killed_after + 1:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().terms(*arguments)

    objective = Killed(text_classification) if killed_after else Labels(text_classification)
    plan = schedule(batch_size=4, dropout=0.2, max_steps=STEPS)
    return _train(make_model("bert"), batches(64), objective, plan, work)


def _train(
    model: Any, data: Any, objective: Any, plan: trainer.Schedule, work: Path
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    with Progress(Console(file=io.StringIO())) as progress, progress.step("test") as step:
        facts = trainer.train(model, data, objective, plan, seed=0, work=work, step=step)
    return facts, model.state_dict()


def main(part: str, folder: Path) -> None:
    """Leaves facts and weights of each training in the folder, as the process with each number has them."""
    results = {}
    if part == "killed":
        results["tags"] = train_tags(folder / "tags", 4)
        results["straight"] = train_drawing(folder / "straight")
    else:
        results["resumed"] = train_drawing(folder / "killed")
    torch.save(results, folder / f"{part}.{processes.rank()}.pt")
    if part == "killed":
        train_drawing(folder / "killed", killed_after=KILLED)
    else:
        fail(folder)


def fail(folder: Path) -> None:
    """Process 1 finds nothing to read, while process 0 waits for it."""

    def work() -> None:
        with processes.watched(sys.stderr):
            if processes.rank() == 1:
                raise StageError("process 1 has nothing to read")
            processes.wait_until(lambda: False)

    group = Commands("fails", commands=[click.Command("work", callback=work)])
    assert processes.decided("told", lambda: "by process 0") == "by process 0"
    try:
        group.main(["work"])
    except SystemExit as ended:
        (folder / f"ended.{processes.rank()}").write_text(str(ended.code))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
