"""What stands in the columns by which a job divides its rows: splits and balancing ask for it.

`loading` calls `with_labels` behind `formats`, which passes over columns that no format has. A
value is kept as text. Rows without one have the label "", a value like any other for all but the
time of a row.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, date, datetime
from math import isfinite
from typing import Any, Final

from tunesmith_api.finetunejob.dataset import Dataset
from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.data.rows import Problems, RawRow, Row, described, names_of

# No group has a name of more characters; what is longer is text, and belongs into no report.
LONGEST_LABEL: Final = 64


def label_columns(dataset: Dataset) -> dict[str, str]:
    """The columns that the job divides rows by, by path below `spec`."""
    split, balance = dataset.split, dataset.balance
    given = {
        "dataset.split.stratifyBy": split.stratify_by if split else None,
        "dataset.split.timeColumn": split.time_column if split else None,
    }
    given |= {
        f"dataset.balance.columns[{place}]": column
        for place, column in enumerate(balance.columns if balance else ())
    }
    return {path: column for path, column in given.items() if column is not None}


def with_labels(
    rows: Iterable[Row], *, raw: Iterable[RawRow], columns: Mapping[str, str], problems: Problems
) -> Iterator[Row]:
    """The rows with their values in `columns`, which are given by field; others go to `problems`.

    `raw` is what the rows were made of, in the same order, those that became none among them.

    Raises:
        BadInputError: no row has such a column.
    """
    if not columns:
        yield from rows
        return
    for path, column in columns.items():
        require_column(column, raw, path=path)
    for row, found in with_raw(rows, raw):
        fields = fields_of(found)
        values = {column: fields.get(column) for column in columns.values()}
        if all(_is_label(value, column, row.source, problems) for column, value in values.items()):
            labels = {column: _as_text(value) for column, value in values.items()}
            yield replace(row, labels=labels)


def with_raw(rows: Iterable[Row], raw: Iterable[RawRow]) -> Iterator[tuple[Row, RawRow]]:
    """Each row with what it was made of: `raw` in the same order, what became none among it."""
    given = iter(raw)
    for row in rows:
        yield row, next(each for each in given if each.source == row.source)


def times_of(rows: Iterable[Row], *, column: str) -> list[float]:
    """When each row is from: seconds since 1970, or whatever unit numbers have.

    Raises:
        BadInputError: a row has none, or one that is no time, or some are numbers and some dates.
    """
    problems = Problems()
    times = [_time_of(row, column, problems) for row in rows]
    problems.refuse()
    kinds = {is_number for is_number, _ in times}
    if len(kinds) > 1:
        raise BadInputError(
            Reason.DATASET_INVALID,
            f"dataset.split.timeColumn: given {column}, where some rows have numbers and some "
            "dates; write all of them in one way",
        )
    return [time for _, time in times]


def fields_of(row: RawRow) -> Mapping[str, Any]:
    """The columns of a row; none of a bare list of turns."""
    return row.value if isinstance(row.value, Mapping) else {}


def require_column(column: str, rows: Iterable[RawRow], *, path: str) -> None:
    """Return if some row has the column, which the field at `path` names.

    Raises:
        BadInputError: none has.
    """
    names: set[str] = set()
    for fields in map(fields_of, rows):
        if column in fields:
            return
        names |= set(fields)
    raise BadInputError(
        Reason.DATASET_INVALID,
        f"{path}: given {column}, which no row of dataset.train has; the columns are "
        f"{names_of(names)}; name one of them",
    )


def _is_label(value: Any, column: str, source: str, problems: Problems) -> bool:
    if not isinstance(value, list | dict) and len(_as_text(value)) <= LONGEST_LABEL:
        return True
    problems.add(
        source,
        given=f"{column}: {described(value)}",
        rule=f"a column that rows are divided by holds one value of at most {LONGEST_LABEL} "
        "characters",
        remedy="name a column of labels",
    )
    return False


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    return value.isoformat() if isinstance(value, date) else str(value).strip()


def _time_of(row: Row, column: str, problems: Problems) -> tuple[bool, float]:
    given = row.labels[column]
    with suppress(ValueError):
        if isfinite(number := float(given)):
            return True, number
    try:
        time = datetime.fromisoformat(given)
    except ValueError:
        problems.add(
            row.source,
            given=f"{column}: {described(given)}",
            rule="a split by time needs the time of every row, as ISO 8601 has it or as a number",
            remedy="mend it, or leave the row out",
        )
        return False, 0.0
    # What has no zone is taken for UTC: a laptop's own zone would change the split.
    return False, (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
