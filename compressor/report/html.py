"""report.html: a run on one page, the verdict first."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Mapping
from xml.etree.ElementTree import Element

from compressor.report import sentences, tables
from compressor.report.charts import svg, trade_off
from compressor.report.charts.trade_off import Drawn
from compressor.report.markup import Child, element
from compressor.report.model import Report
from compressor.report.numbers import gate_unit, number, quality_metric
from compressor.report.page import page, section, table, verdict_badge


def document(report: Report, lock: str | None) -> str:
    """The page.

    Args:
        report: The run.
        lock: Text of recipe.lock.yaml; None where there is none.
    """
    parts = [
        _head(report),
        _stages(report),
        _trade_off(report),
        _gates(report),
        _other_scores(report),
        _parity(report),
        _kept_in_float(report),
        _curves(report),
        _notes(report),
        _environment(report),
        _reproduce(report, lock),
    ]
    return page(f"{report.recipe}: {report.verdict}", parts)


def _head(report: Report) -> Element:
    told = [
        element("li", verdict_badge(entry.result.verdict), " ", sentences.told(entry))
        for entry in sentences.open_gates(report)
    ]
    banner = element(
        "div",
        element("strong", sentences.badge(report.verdict)),
        element("p", sentences.headline(report)),
        element("p", sentences.result(report)) if sentences.result(report) else None,
        element("ul", *told) if told else None,
        class_=f"verdict {report.verdict}",
    )
    when = f", {report.started.replace('T', ' ')[:16]} UTC" if report.started else ""
    kicker = f"bert-compressor, {report.task}{when}, {report.seconds:.0f} s"
    return element("header", element("p", kicker, class_="kicker"), element("h1", report.recipe), banner)


def _stages(report: Report) -> Element:
    shown = table(tables.stages(report), "What was measured of each stage")
    told = f"{sentences.conditions(report)} {tables.BOUNDS}".strip()
    return section("stages", "Stages", shown, element("p", told, class_="quiet"))


def _other_scores(report: Report) -> Element | None:
    found = tables.other_scores(report)
    return section("scores", "Other scores", table(found, "Other scores of each stage")) if found else None


def _trade_off(report: Report) -> Element | None:
    quality = quality_metric(report)
    stages = [stage for stage in report.stages if stage.task == report.task]
    drawn = [Drawn(stage.name, 1 if stage.stage == "baseline" else 0, stage.measurements) for stage in stages]
    plots = trade_off.drawings(drawn, quality, "trade-off")
    if not plots:
        return None
    left_out = "" if len(stages) == len(report.stages) else " Stages that pretrain are scored otherwise, and left out."
    return section(
        "trade-off",
        f"{quality} against latency and size",
        element("div", *plots, class_="plots"),
        element("p", trade_off.LEGEND + left_out, class_="quiet"),
    )


def _gates(report: Report) -> Element | None:
    if not report.gates:
        return None
    rows = [[entry.stage, entry.result.verdict, ""] for entry in report.gates]
    shown = tables.Table(["stage", "verdict", "what was seen, and what was asked"], rows, 3)
    seen: dict[tuple[int, int], Child] = {}
    for row, entry in enumerate(report.gates):
        told = sentences.told(entry)
        limit = number(entry.result.limit, gate_unit(entry.result))
        drawing = svg.interval(entry.result, f"gate-{row}", told, limit)
        text = element("span", told.removeprefix(f"{entry.stage}: "))
        seen[row, 2] = element("div", text, drawing, class_="seen")
    legend = (
        "The bar goes from bound to bound, the dot is what was seen; the vertical line is the limit, and the shaded "
        "side is allowed. A gate passes if the whole bar lies there, fails if none of it does, and is inconclusive "
        "otherwise. An arrow stands for a bound that is not known."
    )
    return section("gates", "Gates", table(shown, "What each gate saw", seen), element("p", legend, class_="quiet"))


def _parity(report: Report) -> Element | None:
    found = tables.parity(report)
    if found is None:
        return None
    shown, asked = found
    return section(
        "parity",
        "Formats against each other",
        table(shown, "How far each exported format is from what it is held against"),
        element("p", asked, class_="quiet"),
    )


def _kept_in_float(report: Report) -> Element | None:
    children: list[Child] = []
    for stage in report.stages:
        if (found := tables.kept_in_float(stage)) is not None:
            told, shown = found
            children += [element("p", told), table(shown, "What stays in float") if shown else None]
    return section("float", "What stays in float", *children) if children else None


def _curves(report: Report) -> Element | None:
    drawn = []
    for index, stage in enumerate(report.stages):
        for term, (name, curve) in enumerate(tables.loss_curves(stage).items()):
            title = f"{stage.name}: {name}"
            drawing = svg.curve(curve, f"curve-{index}-{term}", title)
            drawn.append(element("figure", element("figcaption", title), drawing))
    return section("curves", "Loss", element("div", *drawn, class_="curves")) if drawn else None


def _notes(report: Report) -> Element | None:
    found = tables.notes(report)
    return section("notes", "Notes", *(element("p", note) for note in found)) if found else None


def _environment(report: Report) -> Element:
    return section("environment", "Environment", _pairs(report.environment))


def _pairs(values: Mapping[str, str | int]) -> Element:
    pairs = [part for name, value in values.items() for part in (element("dt", name), element("dd", str(value)))]
    return element("dl", *pairs)


def _reproduce(report: Report, lock: str | None) -> Element:
    digests = {
        "SHA-256 of recipe.lock.yaml": None if lock is None else hashlib.sha256(lock.encode()).hexdigest(),
        "SHA-256 of model/manifest.json": report.manifest_sha256,
    }
    known = {name: digest for name, digest in digests.items() if digest is not None}
    told = (
        "--locked refuses to run if values, data, versions or code differ from the recipe.lock.yaml beside this page. "
        "The manifest holds the SHA-256 of every file that ships; compress verify looks at them, and at their answers."
    )
    locked = None
    if lock is not None:
        text = element("pre", element("code", lock), tabindex="0", role="region", aria_label="recipe.lock.yaml")
        locked = element("details", element("summary", "recipe.lock.yaml"), text)
    return section(
        "reproduce",
        "How to reproduce",
        element("pre", element("code", _commands(report)), tabindex="0", role="region", aria_label="Commands"),
        element("p", told, class_="quiet"),
        _pairs(known) if known else None,
        locked,
    )


def _commands(report: Report) -> str:
    command = report.command or "compress run RECIPE"
    run = command if "--locked" in shlex.split(command) else f"{command} --locked"
    return f"{run}\ncompress verify .  # in this page's folder" if report.manifest_sha256 else run
