"""What cleaning would find in a data set, before anything is trained, for `tunesmith data`.

`python -m tunesmith_trainer.prepare.cleaning_preview QUESTION`: the question is JSON with `dataset`
as the manifest has it, the folders `base`, `cache` and `secrets`, and `texts`, the number of rows
of each rule whose text is wanted. The answer is JSON on standard output. It reads and cleans as
prepare does; a model is not needed, so that nothing is known of rows that are too long for it.
"""

import json
import sys
from pathlib import Path
from typing import Any

from tunesmith_api.finetunejob.dataset import Dataset
from tunesmith_engine.stages.errors import StageError
from tunesmith_trainer.data.cleaning.findings import Finding
from tunesmith_trainer.data.rows import Problems
from tunesmith_trainer.prepare.loading import (
    Folders,
    LoadedData,
    RawData,
    clean_data,
    format_of,
    read_raw,
)


def preview(dataset: Dataset, folders: Folders, *, num_texts: int) -> dict[str, Any]:
    """Counts, findings with their rows, and of some rows the text.

    Raises:
        StageError: a source cannot be fetched, or its rows break a rule.
    """
    problems = Problems(max_bad_rows=dataset.max_bad_rows)
    silent = _Silent()
    raw = read_raw(dataset, folders, problems=problems, reporter=silent)
    form = format_of(raw, dataset)
    loaded = clean_data(raw, dataset, form=form, problems=problems, reporter=silent)
    return {
        "format": loaded.format,
        "read": {split: source.num_read for split, source in loaded.sources.items()},
        "left": {split: len(source.rows) for split, source in loaded.sources.items()},
        "findings": [
            *(
                {"rule": "maxBadRows", "row": row.source, "action": "removed"}
                for row in loaded.problems.bad_rows
            ),
            *(finding.as_json() for finding in loaded.findings),
        ],
        "texts": _texts(raw, loaded, number=num_texts) if num_texts else {},
    }


def _texts(raw: RawData, loaded: LoadedData, *, number: int) -> dict[str, str]:
    """The first rows of each rule as they stand in their files, and those that they are like."""
    wanted: dict[str, list[Finding]] = {}
    for finding in loaded.findings:
        wanted.setdefault(finding.rule, []).append(finding)
    shown = [finding for found in wanted.values() for finding in found[:number]]
    rows = {row for finding in shown for row in (finding.row, finding.of) if row is not None}
    given = {
        row.source: _as_text(row.value)
        for rows_of in (*(source.rows for source in raw.sources.values()), raw.benchmarks)
        for row in rows_of
        if row.source in rows
    }
    return {row: given[row] for row in rows if row in given}


class _Silent:
    """A reporter of a question that is answered at once."""

    def progress(self, message: str, **_: object) -> None:
        """Nobody looks on."""


def _as_text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def main(question: str) -> None:
    """Print the answer to a question."""
    asked = json.loads(question)
    folders = Folders(*(Path(asked[name]) for name in ("base", "cache", "secrets")))
    dataset = Dataset.model_validate(asked["dataset"])
    try:
        told = preview(dataset, folders, num_texts=asked["texts"])
    except StageError as error:
        told = {
            "error": {
                "reason": error.reason,
                "message": error.message,
                "isBadInput": error.bad_input,
            }
        }
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1])
