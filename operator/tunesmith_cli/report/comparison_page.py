"""The page of a comparison: self-contained as a report, and in its style."""

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from tunesmith_cli.formats import moment
from tunesmith_cli.metrics import direction_of
from tunesmith_cli.report.charts import Interval, interval_chart, loss_chart
from tunesmith_cli.report.comparison import CURVES, Comparison, MeasureRow
from tunesmith_cli.report.components import Chart, Table, shown, table_of
from tunesmith_cli.report.page import page_templates


@dataclass(frozen=True)
class ComparisonContext:
    """What the template asks for."""

    comparison: Comparison
    now: datetime

    @property
    def names(self) -> tuple[str, str]:
        return self.comparison.names

    @property
    def phases(self) -> tuple[str, str]:
        return self.comparison.first.status.phase, self.comparison.second.status.phase

    @property
    def written(self) -> str:
        return moment(self.now)

    @cached_property
    def verdicts(self) -> list[str]:
        """The measures that differ beyond chance, in words."""
        _, second = self.names
        return [
            f"{second} is {row.verdict} in {row.label} ({row.named.split}): {row.cells[6]}, "
            f"interval {row.cells[7]}"
            for row in self.comparison.measures
            if row.verdict in {"better", "worse"}
        ]

    @cached_property
    def settings(self) -> Table | None:
        rows = [
            (path, shown(before), shown(after)) for path, before, after in self.comparison.settings
        ]
        return table_of("Settings that differ", ("setting", *self.names), rows, numeric=())

    @cached_property
    def curves(self) -> list[Chart]:
        """A chart for each kind of loss that either job has."""
        charts = []
        for kind, heading in CURVES:
            lines = self.comparison.lines(kind)
            if lines:
                caption = f"{heading} by optimizer step, in nats"
                charts.append(Chart(loss_chart(lines, best=None), caption))
        return charts

    @cached_property
    def intervals(self) -> list[Chart]:
        """A chart for each measure that both jobs have."""
        return [
            self._interval(row)
            for row in self.comparison.measures
            if row.first is not None and row.second is not None
        ]

    @cached_property
    def measures(self) -> Table | None:
        rows = [row.cells for row in self.comparison.measures]
        head = self.comparison.measure_head
        return table_of("Every measure of both jobs", head, rows, numeric=(2, 3, 4, 5, 6, 7))

    @cached_property
    def costs(self) -> Table | None:
        head = ("what", *self.names)
        return table_of("Size and speed", head, self.comparison.costs, numeric=(1, 2))

    def _interval(self, row: MeasureRow) -> Chart:
        sides = zip(self.names, (row.first, row.second), ("tuned", "compressed"), strict=True)
        drawn = [
            Interval(name, role, result.value, result.low, result.high)
            for name, result, role in sides
            if result is not None
        ]
        direction = direction_of(row.named)
        caption = f"{row.label}, {row.named.split}" + (f" ({direction})" if direction else "")
        return Chart(interval_chart(caption, drawn), caption)


def render_comparison(comparison: Comparison, *, now: datetime) -> str:
    """The page as text."""
    template = page_templates().get_template("comparison.html.jinja")
    return template.render(page=ComparisonContext(comparison, now))
