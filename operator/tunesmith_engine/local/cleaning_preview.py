"""What cleaning would find in a data set, for `tunesmith data`: the trainer's Python is asked.

It reads and cleans as prepare does, and leaves nothing behind.
"""

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunesmith_api.finetunejob.dataset import Dataset
from tunesmith_api.reasons import Reason
from tunesmith_engine.local.environments import Environments
from tunesmith_engine.local.errors import LocalError
from tunesmith_engine.local.home_folder import HomeFolder
from tunesmith_engine.sources.errors import SourceError
from tunesmith_engine.stages.contracts import Environment


@dataclass(frozen=True, slots=True)
class CleaningPreview:
    """Rows before and after, by split, and the findings as the audit file has them.

    `texts` are rows as they stand in their files, by "file:line", where they were asked for.
    `not_judged` are rules of the job that only prepare can apply, for they take its base model.
    """

    read: Mapping[str, int]
    left: Mapping[str, int]
    findings: Sequence[Mapping[str, Any]]
    format: str | None = None
    texts: Mapping[str, str] = field(default_factory=dict)
    not_judged: Sequence[str] = ()


def preview_cleaning(
    dataset: Dataset, *, base: Path, home: HomeFolder, environments: Environments, num_texts: int
) -> CleaningPreview:
    """Clean the data set, and say what became of its rows.

    Raises:
        SourceError: the data breaks a rule, or cannot be fetched.
        LocalError: there is no environment of the trainer, or its process crashed.
    """
    question = {
        "dataset": dataset.model_dump(mode="json", by_alias=True, exclude_none=True),
        "base": str(base),
        "cache": str(home.cache),
        "secrets": str(home.secrets),
        "texts": num_texts,
    }
    told = _ask(environments.python(Environment.TRAINER), json.dumps(question))
    error = told.pop("error", None)
    if error is not None:
        reason = Reason(error["reason"])
        raise SourceError(reason, error["message"], retryable=not error["isBadInput"])
    asks_the_base = dataset.cleaning.unlikely_answers.policy != "keep"
    return CleaningPreview(**told, not_judged=["unlikelyAnswers"] if asks_the_base else [])


def _ask(python: Path, question: str) -> dict[str, Any]:
    # NB: -I, so that no PYTHONPATH of the shell leads that Python astray. Progress and tracebacks
    # go where those of the command go.
    answer = subprocess.run(
        [python, "-I", "-m", "tunesmith_trainer.prepare.cleaning_preview", question],
        stdout=subprocess.PIPE,
        check=False,
    )
    if answer.returncode != 0:
        raise LocalError(
            Reason.STAGE_CRASHED,
            f"the look at the data ended with exit code {answer.returncode}; what it said stands "
            "above",
        )
    told: dict[str, Any] = json.loads(answer.stdout)
    return told
