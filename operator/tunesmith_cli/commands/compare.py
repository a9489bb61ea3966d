"""`tunesmith compare`: two jobs side by side, on the terminal, as JSON, and as one HTML page."""

import argparse
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from pydantic import JsonValue

from tunesmith_cli.errors import EXIT_DONE
from tunesmith_cli.formats import number
from tunesmith_cli.inputs import find_job
from tunesmith_cli.report.charts import Line
from tunesmith_cli.report.comparison import CURVES, Comparison, MeasureRow
from tunesmith_cli.report.comparison_page import render_comparison
from tunesmith_cli.report.job_data import read_job_data
from tunesmith_cli.terminal.style import plain, table
from tunesmith_engine.stages.reporter import write_atomically

_BARS: Final = "▁▂▃▄▅▆▇█"
_LONGEST_CELL: Final = 60


def run(options: argparse.Namespace) -> int:
    """Compare, and write the page where one was asked for."""
    first, second = (
        read_job_data(job.folder, job.status)
        for job in (find_job(name, root=options.home) for name in (options.first, options.second))
    )
    comparison = Comparison(first, second)
    if options.html is not None:
        write_atomically(options.html, render_comparison(comparison, now=datetime.now(UTC)))
    if options.output == "json":
        print(json.dumps(comparison_as_json(comparison), indent=1, ensure_ascii=False))
    else:
        print(comparison_as_text(comparison))
        if options.html is not None:
            print(f"\npage  {options.html}")
    return EXIT_DONE


def comparison_as_text(comparison: Comparison) -> str:
    """What differs, section by section; one without anything to say is left out."""
    first, second = comparison.names
    phases = f"{comparison.first.status.phase}, {comparison.second.status.phase}"
    blocks = [f"{first} and {second} ({phases}); differences are {second} less {first}"]
    if comparison.settings:
        differ = [(path, _cut(before), _cut(after)) for path, before, after in comparison.settings]
        blocks.append(table([("setting that differs", first, second), *differ]))
    else:
        blocks.append("no setting differs")
    if curves := list(_curve_rows(comparison)):
        blocks.append(table([("curve", "job", "from", "lowest", "to", ""), *curves]))
    if comparison.measures:
        rows = [row.cells for row in comparison.measures]
        blocks.append(table([comparison.measure_head, *rows]))
    blocks += comparison.notes
    if comparison.costs:
        blocks.append(table([("size and speed", first, second), *comparison.costs]))
    return "\n\n".join(blocks)


def comparison_as_json(comparison: Comparison) -> dict[str, JsonValue]:
    """The one object of `compare --output json`."""
    first, second = comparison.names
    return {
        "first": first,
        "second": second,
        "settings": [
            {"path": path, "first": before, "second": after}
            for path, before, after in comparison.settings
        ],
        "curves": {
            kind: {
                line.label: [[point.step, point.loss] for point in line.points]
                for line in comparison.lines(kind)
            }
            for kind, _ in CURVES
        },
        "evaluation": [_measure_as_json(row) for row in comparison.measures],
        "costs": [
            {"name": name, "first": before, "second": after}
            for name, before, after in comparison.costs
        ],
        "notes": list[JsonValue](comparison.notes),
    }


def _measure_as_json(row: MeasureRow) -> dict[str, JsonValue]:
    paired = row.difference
    return {
        "suite": row.named.suite,
        "metric": row.named.metric,
        "split": row.named.split,
        "first": row.first.model_dump(mode="json", by_alias=True) if row.first else None,
        "second": row.second.model_dump(mode="json", by_alias=True) if row.second else None,
        "difference": paired.value if paired else row.plain_difference,
        "paired": {"low": paired.low, "high": paired.high, "rows": paired.num_rows}
        if paired
        else None,
        "shows": row.verdict,
    }


def _curve_rows(comparison: Comparison) -> Iterator[tuple[str, ...]]:
    for kind, heading in CURVES:
        lines = comparison.lines(kind)
        losses = [point.loss for line in lines for point in line.points]
        for line in lines:
            of_line = [point.loss for point in line.points]
            yield (
                heading,
                line.label,
                *(number(value) for value in (of_line[0], min(of_line), of_line[-1])),
                _bars(line, low=min(losses), high=max(losses)),
            )


def _bars(line: Line, *, low: float, high: float) -> str:
    """The losses as bars of eight heights, on the scale that both jobs share."""
    span = (high - low) or 1.0
    return "".join(
        _BARS[round((point.loss - low) / span * (len(_BARS) - 1))] for point in line.points
    )


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_CELL else f"{plain(text)[:_LONGEST_CELL]}…"
