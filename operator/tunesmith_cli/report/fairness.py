"""The tables about bias: every measure of either model, the general loss beside it."""

from dataclasses import dataclass

from tunesmith_cli.formats import number
from tunesmith_cli.report.artifacts import FairnessNumber, FairnessRecord
from tunesmith_cli.report.components import Table, table_of

_HEAD = (
    "measure", "value", "interval", "no bias is", "before", "change", "corrected p", "rows",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class FairnessTables:
    """What the job's suites of fairness said of each model."""

    tuned: FairnessRecord | None
    compressed: FairnessRecord | None

    @property
    def tables(self) -> list[Table]:
        """One for each model that was measured."""
        named = (("tuned", "the base", self.tuned), ("compressed", "the tuned", self.compressed))
        tables = [
            table_of(
                _caption(name, before, record),
                _HEAD,
                [_row(one) for one in record.numbers],
                numeric=(1, 4, 6, 7),
            )
            for name, before, record in named
            if record is not None
        ]
        return [table for table in tables if table is not None]

    @property
    def licences(self) -> str:
        """The licence of each set, as the job states it."""
        numbers = self.tuned.numbers if self.tuned else []
        stated = {one.suite: one.licence for one in numbers if one.licence is not None}
        return "; ".join(f"{suite}: {licence}" for suite, licence in stated.items())


def _caption(name: str, before: str, record: FairnessRecord) -> str:
    losses = list(record.general_loss.values())
    general = f"; general loss {' to '.join(map(number, losses))}" if losses else ""
    return f"The {name} model beside {before} model{general}"


def _row(one: FairnessNumber) -> tuple[str, ...]:
    return (
        f"{one.suite}: {one.metric}" + (f" ({one.part})" if one.part else ""),
        number(one.value),
        _ends(one.interval),
        "" if one.neutral is None else number(one.neutral),
        "" if one.base is None else number(one.base),
        _ends(one.change),
        "" if one.p_adjusted is None else number(one.p_adjusted) + (" bias" * one.flagged),
        f"{one.rows:,}",
    )


def _ends(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f"{number(interval[0])} – {number(interval[1])}"
