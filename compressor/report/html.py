"""report.html: a run on one page, the verdict first. The page is `templates/run.html.j2`; here are its values."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree.ElementTree import Element

from compressor.report import pages, sentences, tables
from compressor.report.charts import curve, interval, trade_off
from compressor.report.charts.trade_off import Drawn
from compressor.report.model import Report
from compressor.report.numbers import gate_unit, number, quality_metric


def document(report: Report, lock: str | None) -> str:
    """The page's text.

    Args:
        report: The run.
        lock: Text of recipe.lock.yaml; None where there is none.
    """
    return pages.render(
        "run.html.j2",
        report=report,
        started=(report.started or "").replace("T", " ")[:16],
        headline=sentences.headline(report),
        result=sentences.result(report),
        open_gates=[
            {"verdict": entry.result.verdict, "sentence": sentences.gate(entry)}
            for entry in sentences.open_gates(report)
        ],
        stages=tables.stages(report),
        conditions=f"{sentences.conditions(report)} {tables.BOUNDS}".strip(),
        quality=quality_metric(report),
        trade_off=_trade_off(report),
        trade_off_legend=trade_off.LEGEND,
        pretraining_left_out=any(stage.task != report.task for stage in report.stages),
        gates=_gates(report),
        gates_table=_gates_table(report),
        other_scores=tables.other_scores(report),
        formats=tables.formats(report),
        devices=tables.devices(report),
        parity=tables.parity(report),
        smaller_vectors=tables.smaller_vectors(report),
        thresholds=tables.thresholds(report),
        kept_in_float=[found for stage in report.stages if (found := tables.kept_in_float(stage)) is not None],
        curves=_curves(report),
        notes=tables.notes(report),
        commands=_commands(report),
        digests=_digests(report, lock),
        lock=lock,
    )


def _trade_off(report: Report) -> dict[str, Element]:
    drawn = [
        Drawn(stage.name, 1 if stage.stage == "baseline" else 0, stage.measurements)
        for stage in report.stages
        if stage.task == report.task
    ]
    return trade_off.drawings(drawn, quality_metric(report), "trade-off")


def _gates_table(report: Report) -> tables.Table:
    """The gates; the template fills the last column."""
    rows = [[entry.stage, entry.result.verdict, ""] for entry in report.gates]
    return tables.Table(["stage", "verdict", "observed value and limit"], rows, 3)


def _gates(report: Report) -> Sequence[Mapping[str, Any]]:
    """For each gate, its sentence and its drawing."""
    found = []
    for row, entry in enumerate(report.gates):
        sentence = sentences.gate(entry)
        limit = number(entry.result.limit, gate_unit(entry.result))
        drawing = interval.draw(entry.result, f"gate-{row}", sentence, limit)
        found.append({"sentence": sentence.removeprefix(f"{entry.stage}: "), "drawing": drawing})
    return found


def _curves(report: Report) -> list[tuple[str, Element]]:
    """For each loss term of each training stage, its title and its drawing."""
    drawn = []
    for index, stage in enumerate(report.stages):
        for term, (name, points) in enumerate(tables.loss_curves(stage).items()):
            title = f"{stage.name}: {name}"
            drawn.append((title, curve.draw(points, f"curve-{index}-{term}", title)))
    return drawn


def _digests(report: Report, lock: str | None) -> dict[str, str]:
    digests = {
        "SHA-256 of recipe.lock.yaml": None if lock is None else hashlib.sha256(lock.encode()).hexdigest(),
        "SHA-256 of model/manifest.json": report.manifest_sha256,
    }
    return {name: digest for name, digest in digests.items() if digest is not None}


def _commands(report: Report) -> str:
    command = report.command or "compress run RECIPE"
    run = command if "--locked" in shlex.split(command) else f"{command} --locked"
    return f"{run}\ncompress verify .  # in this page's folder" if report.manifest_sha256 else run
