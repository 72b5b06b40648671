"""A page that draws several runs in one picture."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree.ElementTree import Element

from compressor.report import comparison
from compressor.report.charts import svg, trade_off
from compressor.report.charts.trade_off import Drawn
from compressor.report.comparison import Group
from compressor.report.markup import Child, element
from compressor.report.page import page, section, table

_LEGEND = (
    "Small markers are what a run began with, its baseline; a name that has no room is in the table, by its marker."
)


def document(groups: Sequence[Group]) -> str:
    """The page.

    Args:
        groups: What is compared, by task.
    """
    runs = len({entry.path for group in groups for entry in group.entries})
    lead = f"{runs} run{'' if runs == 1 else 's'}: what each began with, and what it came to."
    head = element("header", element("p", "bert-compressor", class_="kicker"), element("h1", "Runs side by side"))
    return page(
        "Runs side by side", [head, element("p", lead), *(_group(group, index) for index, group in enumerate(groups))]
    )


def _group(group: Group, index: int) -> Element:
    series = {run: number for number, run in enumerate(dict.fromkeys(entry.run for entry in group.entries))}
    drawn = [
        Drawn(
            f"{entry.run}, baseline" if entry.baseline else entry.run,
            series[entry.run],
            entry.measurements,
            named=not entry.baseline,
        )
        for entry in group.entries
    ]
    icons: dict[tuple[int, int], Child] = {
        (row, 0): element("span", svg.icon(series[entry.run], bool(entry.front)), entry.run, class_="run")
        for row, entry in enumerate(group.entries)
    }
    plots = trade_off.drawings(drawn, group.quality, f"task-{index}")
    return section(
        f"task-{index}",
        comparison.title(group),
        element("div", *plots, class_="plots") if plots else None,
        element("p", f"{_LEGEND} {trade_off.LEGEND}", class_="quiet"),
        table(comparison.table(group), f"Runs of {group.task}", icons),
        *(element("p", caveat, class_="quiet") for caveat in group.caveats),
    )
