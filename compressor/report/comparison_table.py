"""The table of compared checkpoints: HTML, Markdown and the terminal show the same one."""

from __future__ import annotations

from compressor.report.charts import trade_off
from compressor.report.comparison import Entry, Group, row_counts
from compressor.report.model import Measurement
from compressor.report.numbers import SIGNS, bound, duration, score
from compressor.report.tables import Table


def title(group: Group) -> str:
    """The task, its metric and the number of rows."""
    rows = row_counts(group.quality, group.entries)
    return f"{group.task}: {group.quality} on {', '.join(f'{n:,}' for n in rows)} rows" if rows else group.task


def table(group: Group) -> Table:
    """The checkpoints of a group, a row each; brackets hold one-sided 95 % bounds."""
    header = ["run", "stage", "verdict", "Pareto front", group.quality, "kept", "p50 ms", "p95 ms", "MB", "peak MB"]
    return Table([*header, "parameters", "trained"], [_row(entry, group.quality) for entry in group.entries], 4)


def _row(entry: Entry, quality: str) -> list[str]:
    def show(metric: str, scale: float, form: str) -> str:
        found = entry.measurements.get(metric)
        return "–" if found is None else format(found.value / scale, form)

    return [
        entry.run,
        entry.stage,
        "–" if entry.baseline else SIGNS[entry.verdict],
        ", ".join(trade_off.COSTS[cost][0] for cost in entry.front) or "–",
        score(entry.measurements.get(quality)),
        "–" if entry.kept is None else f"{entry.kept:.1%}",
        _bounded(entry.measurements.get("latency_p50_ms")),
        show("latency_p95_ms", 1, ".2f"),
        show("size_bytes", 1e6, ".1f"),
        show("peak_rss_bytes", 1e6, ".0f"),
        f"{show('num_parameters', 1e6, '.2f')} M",
        duration(entry.training_seconds) if entry.training_seconds else "–",
    ]


def _bounded(found: Measurement | None) -> str:
    if found is None:
        return "–"
    return f"{found.value:.2f} [{bound(found.low)}, {bound(found.high)}]"
