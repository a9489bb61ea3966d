"""What the training data looks like before `prepare` has read it, for `tunesmith plan` and `init`.

The trainer's environment knows the formats of data, so its Python is asked about the first file.
"""

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypedDict

from tunesmith_api.finetunejob.dataset import Dataset
from tunesmith_engine.local.environments import Environments
from tunesmith_engine.local.errors import EnvironmentMissing
from tunesmith_engine.sources.local_paths import is_local
from tunesmith_engine.sources.resolver import fetch_files
from tunesmith_engine.stages.contracts import Environment

# A look at a plan must not take the memory or the minutes that a larger file would.
_LARGEST_FILE_BYTES: Final = 1 << 30
_TIMEOUT_S: Final = 120.0


class Proposal(TypedDict):
    """A value for `dataset.format` and one for `dataset.columns`."""

    format: str
    columns: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class DataDescription:
    """The first file of the training data as its first rows show it.

    Attributes:
        file: its name.
        more_files: how many others the URI names.
        compression: gzip or Zstandard; None for neither.
        syntax: csv, json, jsonl, parquet or yaml; None where nothing tells.
        separator: of a csv file.
        format: of the rows, a value of `dataset.format`; None where nothing tells.
        problem: why prepare would refuse the file, as far as its first rows tell.
        fields: names in the first row; none of a row that has none.
        unused: those of them that the format does not read.
        proposed: a format, and which of the fields its own may be, told by their names alone.
    """

    file: str
    more_files: int = 0
    compression: str | None = None
    syntax: str | None = None
    separator: str | None = None
    format: str | None = None
    problem: str | None = None
    fields: Sequence[str] = ()
    unused: Sequence[str] = ()
    proposed: Proposal | None = None


def describe_data(
    dataset: Dataset, *, base: Path, cache: Path, secrets: Path, environments: Environments
) -> DataDescription | None:
    """What the first file of `dataset.train` is; None for what does not lie here, or is too large.

    Raises:
        SourceError: no file is there.
        OSError: it cannot be read.
    """
    if not is_local(dataset.train.uri):
        return None
    first, *others = fetch_files(dataset.train, base=base, cache=cache, secrets=secrets)
    if first.stat().st_size > _LARGEST_FILE_BYTES:
        return None
    try:
        python = environments.python(Environment.TRAINER)
    except EnvironmentMissing:
        return None
    question = {
        "path": str(first),
        "label": first.name,
        "format": dataset.format,
        "columns": dict(dataset.columns),
        "maxBadRows": dataset.max_bad_rows,
    }
    told = _ask(python, json.dumps(question))
    return None if told is None else DataDescription(first.name, len(others), **told)


def _ask(python: Path, question: str) -> Mapping[str, Any] | None:
    try:
        # NB: -I, so that no PYTHONPATH of the shell leads that Python astray.
        answer = subprocess.run(
            [python, "-I", "-m", "tunesmith_trainer.data.detection", question],
            capture_output=True,
            check=True,
            timeout=_TIMEOUT_S,
        )
    # Prepare has the last word: what goes wrong in a look ahead is no reason to show no plan.
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        return None
    told: Mapping[str, Any] = json.loads(answer.stdout)
    return told
