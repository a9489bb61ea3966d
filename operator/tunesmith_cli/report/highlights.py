"""The table about highlights: how much of what moves the answers people held to be the reason."""

from dataclasses import dataclass
from typing import Final

from tunesmith_cli.formats import percent
from tunesmith_cli.report.artifacts import HighlightsRecord
from tunesmith_cli.report.components import Table, table_of

_HEAD: Final = ("model", "on highlights", "interval", "before", "change", "by chance", "rows")


@dataclass(frozen=True, slots=True)
class HighlightsTable:
    """What was measured of each model."""

    tuned: HighlightsRecord | None
    compressed: HighlightsRecord | None

    @property
    def table(self) -> Table | None:
        """A row for each model that was measured."""
        named = (
            ("tuned, before: the base", self.tuned),
            ("compressed, before: the tuned", self.compressed),
        )
        rows = [_row(name, record) for name, record in named if record is not None]
        return table_of("On highlights", _HEAD, rows, numeric=(1, 3, 5, 6))


def _row(name: str, record: HighlightsRecord) -> tuple[str, ...]:
    interval = record.interval
    return (
        name,
        percent(record.share),
        "" if interval is None else f"{percent(interval[0])} – {percent(interval[1])}",
        "" if record.base is None else percent(record.base),
        _change(record.change),
        "" if record.chance is None else percent(record.chance),
        f"{record.rows:,}",
    )


def _change(change: tuple[float, float] | None) -> str:
    if change is None:
        return "too few rows to tell"
    low, high = change
    shows = "more" if low > 0 else "less" if high < 0 else "no difference beyond chance"
    return f"{low:+.3f} – {high:+.3f}: {shows}"
