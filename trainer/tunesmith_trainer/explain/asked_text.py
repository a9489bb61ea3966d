"""Explain one text on a model, for `tunesmith explain NAME TEXT`.

`python -m tunesmith_trainer.explain.asked_text QUESTION`: the question is JSON with the folders
`base`, which holds the model and its tokenizer, and `adapter` or null; `text`; `answer`, or null
for what the model says by itself; and `settings`, as `spec.evaluation.explain` has them. The answer
is JSON on standard output: an explained row, or `error`; how far it is, on standard error.
"""

import json
import logging
import sys
from pathlib import Path
from typing import Any

import torch

from tunesmith_api.finetunejob.explain import Explain
from tunesmith_api.reasons import Reason
from tunesmith_trainer.explain.explained_model import ExplainedModel, UnexplainableError
from tunesmith_trainer.explain.explained_row import explain_row
from tunesmith_trainer.explain.game import UndefinedValueError
from tunesmith_trainer.explain.told_progress import ToldProgress
from tunesmith_trainer.models import load_model, load_tokenizer, merged_model


def answer(asked: dict[str, Any], progress: ToldProgress) -> dict[str, Any]:
    """What the text's units add, or why that cannot be said."""
    base, adapter = Path(asked["base"]), asked["adapter"]
    try:
        progress.phase("loading the model")
        weights = (
            merged_model(base, adapter=Path(adapter))
            if adapter
            else load_model(base, dtype=torch.float32)
        )
        settings = Explain.model_validate(asked["settings"])
        model = ExplainedModel.of(weights, load_tokenizer(base), settings)
        progress.phase("reading the text" if asked["answer"] else "answering the text")
        kind, game = model.game_of_text(asked["text"], answer=asked["answer"])
        game.on_scored = progress.passes
        row = explain_row(game, kind=kind, settings=settings, on_phase=progress.phase)
        return row.as_json()
    except OSError as error:
        return _refused(Reason.BASE_MODEL_NOT_FOUND, f"no model can be loaded: {error}")
    except (UnexplainableError, UndefinedValueError) as error:
        return _refused(Reason.INVALID_SPEC, str(error))
    finally:
        progress.close()


def _refused(reason: Reason, message: str) -> dict[str, Any]:
    return {"error": {"reason": reason, "message": message}}


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    told = answer(json.loads(sys.argv[1]), ToldProgress(sys.stderr))
    sys.stdout.write(json.dumps(told))
