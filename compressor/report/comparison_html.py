"""A page that draws several runs in one picture: the values of `templates/comparison.html.j2`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from compressor.report import comparison_table, pages
from compressor.report.charts import marker, trade_off
from compressor.report.charts.trade_off import Drawn
from compressor.report.comparison import Group


def document(groups: Sequence[Group]) -> str:
    """The page's text.

    Args:
        groups: The compared checkpoints, by task.
    """
    return pages.render(
        "comparison.html.j2",
        runs=len({entry.path for group in groups for entry in group.entries}),
        groups=[_group(group, f"task-{index}") for index, group in enumerate(groups)],
        trade_off_legend=trade_off.LEGEND,
    )


def _group(group: Group, ident: str) -> Mapping[str, Any]:
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
    return {
        "id": ident,
        "title": comparison_table.title(group),
        "task": group.task,
        "plots": trade_off.drawings(drawn, group.quality, ident),
        "table": comparison_table.table(group),
        "icons": [marker.icon(series[entry.run], bool(entry.front)) for entry in group.entries],
        "caveats": group.caveats,
    }
