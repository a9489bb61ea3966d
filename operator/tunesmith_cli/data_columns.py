"""What `init` writes of the data: its format and columns, as the first rows of its file show them.

A format's own names are taken as they are, the usual ones of others proposed and shown. Where
neither helps, a person is asked, or told which names to give.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tunesmith_api.finetunejob.dataset import Dataset
from tunesmith_cli.errors import CommandError
from tunesmith_cli.options import default_home
from tunesmith_engine.local.data_description import DataDescription, describe_data
from tunesmith_engine.local.environments import Environments
from tunesmith_engine.local.home_folder import HomeFolder

# Reads the first file of the data; None where it does not lie here, or nothing can read it.
Look = Callable[[Dataset], DataDescription | None]

_ANY: Final = "--columns prompt=COLUMN,completion=COLUMN, or messages=COLUMN, or text=COLUMN"
_TABLES: Final = frozenset({"csv", "parquet"})
_MOST_NAMES: Final = 12


@dataclass(frozen=True, slots=True)
class DataColumns:
    """The format, which columns its fields are, and what was seen; nothing of what was not."""

    format: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    seen: DataDescription | None = None


def look_from(base: Path) -> Look:
    """Looks at data of a manifest in the folder `base`."""
    home = HomeFolder(default_home())

    def look(dataset: Dataset) -> DataDescription | None:
        return describe_data(
            dataset,
            base=base,
            cache=home.cache,
            secrets=home.secrets,
            environments=Environments.discover(),
        )

    return look


def columns_in(
    dataset: Dataset, *, look: Look, ask: Callable[[str, str], str] | None
) -> DataColumns:
    """Format and columns of the data; what `dataset` names already stays.

    Raises:
        CommandError: its columns are those of no format, and nobody can be asked.
        SourceError: there is no such data.
    """
    seen = look(dataset)
    # Rows of other files may have fields that the first of them lacks.
    if seen is not None and seen.syntax in _TABLES:
        _refuse_unknown(dataset.columns, seen)
    if seen is None or seen.format is not None or not seen.fields or dataset.columns:
        return DataColumns(seen.format if seen else None, dataset.columns, seen)
    proposed = seen.proposed
    columns = proposed["columns"] if proposed else _asked(seen, ask=ask)
    named = dataset.model_copy(
        update={"columns": columns, "format": proposed["format"] if proposed else "auto"}
    )
    seen = look(named)
    return DataColumns(seen.format if seen else None, columns, seen)


def _asked(seen: DataDescription, *, ask: Callable[[str, str], str] | None) -> Mapping[str, str]:
    if ask is None:
        raise CommandError(f"{_names(seen)}; no format has these. Name them: {_ANY}")
    columns = {
        "prompt": ask(f"{_names(seen)}. Which of them holds the question", ""),
        "completion": ask("Which holds the answer", ""),
    }
    _refuse_unknown(columns, seen)
    return columns


def _refuse_unknown(columns: Mapping[str, str], seen: DataDescription) -> None:
    unknown = [column for column in columns.values() if column not in seen.fields]
    if unknown:
        raise CommandError(f"there is no column '{unknown[0]}': {_names(seen)}")


def _names(seen: DataDescription) -> str:
    return f"{seen.file} has the columns {listed(seen.fields)}"


def listed(names: Sequence[str]) -> str:
    """`id, date and 3 more`: a table may have a hundred columns."""
    shown = names[:_MOST_NAMES]
    rest = len(names) - len(shown)
    return ", ".join(shown) + (f" and {rest} more" if rest else "")
