"""How many tokens a conversation with a format for LiteRT has room for."""

from typing import Any

import numpy as np
import pytest

from tunesmith_api.finetunejob.export import Export
from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.evaluate.log_likelihood import RowLosses
from tunesmith_trainer.export.reference import Answered, Reference
from tunesmith_trainer.export.stage import ExportRun, room_of

NOTHING: Any = None


def reference(*, prompt: int = 10, row: int = 10) -> Reference:
    return Reference(
        answers=[Answered("a", [1] * prompt, [1], [1.0])],
        rows=TokenRows.of([([1] * row, [True] * row)]),
        losses=RowLosses(sums=np.ones(1), weights=np.ones(1)),
    )


@pytest.mark.parametrize(
    ("asked", "context", "asked_by", "room"),
    [
        (None, 8192, reference(), 2048),
        (None, 500, reference(), 512),
        (300, 8192, reference(), 384),
        (128, 8192, reference(prompt=100), 256),
        (128, 8192, reference(row=129), 256),
    ],
    ids=["default", "of-the-model", "given", "longer-prompt", "longer-row"],
)
def test_room_is_in_whole_chunks_and_enough_for_what_is_proven(
    asked: int | None, context: int, asked_by: Reference, room: int
) -> None:
    litert = {"format": "litert", "precision": "int8"}
    settings = Export.model_validate({"formats": [litert], "contextLength": asked})
    run = ExportRun(NOTHING, NOTHING, settings, NOTHING, NOTHING, context_length=context)

    assert room_of(run, asked_by) == room
