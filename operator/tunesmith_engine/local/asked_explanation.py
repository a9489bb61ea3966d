"""One text explained on a model of this machine, for `tunesmith explain`: the trainer is asked."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith_api.finetunejob.explain import Explain
from tunesmith_api.reasons import Reason
from tunesmith_engine.local.environments import Environments
from tunesmith_engine.local.errors import LocalError
from tunesmith_engine.stages.contracts import Environment


@dataclass(frozen=True, slots=True)
class ModelFolders:
    """A model in a folder, and the adapter that belongs on it, if any."""

    base: Path
    adapter: Path | None = None


def explain_text(
    model: ModelFolders,
    text: str,
    *,
    answer: str | None,
    settings: Explain,
    environments: Environments,
) -> dict[str, Any]:
    """An explained row, as `explanations.json` has them; how far it is goes to standard error.

    Raises:
        LocalError: the text cannot be explained, there is no environment of the trainer, or its
            process crashed.
    """
    question = {
        "base": str(model.base),
        "adapter": str(model.adapter) if model.adapter else None,
        "text": text,
        "answer": answer,
        "settings": settings.model_dump(mode="json", by_alias=True),
    }
    python = environments.python(Environment.TRAINER)
    # NB: -I, so that no PYTHONPATH of the shell leads that Python astray.
    asked = subprocess.run(
        [python, "-I", "-m", "tunesmith_trainer.explain.asked_text", json.dumps(question)],
        stdout=subprocess.PIPE,
        check=False,
    )
    if asked.returncode != 0:
        raise LocalError(
            Reason.STAGE_CRASHED,
            f"the explanation ended with exit code {asked.returncode}; what it said stands above",
        )
    told: dict[str, Any] = json.loads(asked.stdout)
    if "error" in told:
        raise LocalError(Reason(told["error"]["reason"]), told["error"]["message"])
    return told
