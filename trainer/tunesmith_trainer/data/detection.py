"""What a data file looks like, told from its first rows, for `tunesmith plan` and `init`.

`python -m tunesmith_trainer.data.detection QUESTION`: the question is JSON with `path`, `label`,
`format`, `columns` and `maxBadRows`, the answer JSON on standard output. The command knows no data
formats, so it asks here; prepare reads all of the data and has the last word.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.data.column_names import propose_columns
from tunesmith_trainer.data.file_formats import (
    compression_of,
    head_of,
    opened,
    separator_of,
    syntax_of,
)
from tunesmith_trainer.data.formats import detect_first_format, unused_fields
from tunesmith_trainer.data.readers import add_empty, rows_in
from tunesmith_trainer.data.rows import Problems, RawRow


def describe_file(
    path: Path, *, label: str, name: str, columns: Mapping[str, str], max_bad_rows: int
) -> dict[str, Any]:
    """Compression, syntax, separator, fields and format; `problem` where one cannot be told.

    `name` is the format that the job names, or auto. `fields` are those of the first row that are
    read, `unused` the others. Where no format has its fields, `proposed` is what they may be.

    Raises:
        OSError: the file cannot be read.
    """
    problems = Problems(max_bad_rows=max_bad_rows)
    with path.open("rb") as raw:
        told: dict[str, Any] = {"compression": compression_of(raw.read(4))}
    head, syntax = b"", None
    rows: list[RawRow] = []
    with opened(path, label=label, problems=problems) as file:
        head, is_whole = head_of(file)
        syntax = syntax_of(head, name=path.name, is_whole=is_whole)
    try:
        problems.refuse()
        if syntax is None:
            return told
        told["syntax"] = syntax
        if syntax == "csv":
            told["separator"] = separator_of(head.decode("utf-8-sig", errors="replace"))
        with opened(path, label=label, problems=problems) as file:
            all_rows = rows_in(file, syntax, label=label, problems=problems)
            rows = list(islice(all_rows, max_bad_rows + 1))
        if not rows and not problems.count:
            add_empty(label, problems)
        problems.refuse()
        told |= _names_in(rows)
        if name == "auto":
            name = detect_first_format(rows, columns=columns, max_bad_rows=max_bad_rows)
    except BadInputError as error:
        return told | {"problem": error.message}
    return told | {"format": name, "unused": unused_fields(told.get("fields", ()), name, columns)}


def _names_in(rows: Sequence[RawRow]) -> dict[str, Any]:
    """The fields of the first row that has some, and what they may be."""
    first = next((row.value for row in rows if isinstance(row.value, dict)), None)
    if first is None:
        return {}
    names = [str(name) for name in first]
    proposal = propose_columns(names)
    return {"fields": names, "proposed": None if proposal is None else asdict(proposal)}


def main(question: str) -> None:
    """Print the answer to a question."""
    asked = json.loads(question)
    told = describe_file(
        Path(asked["path"]),
        label=asked["label"],
        name=asked["format"],
        columns=asked["columns"],
        max_bad_rows=asked["maxBadRows"],
    )
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1])
