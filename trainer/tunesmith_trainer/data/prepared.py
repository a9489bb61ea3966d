"""What later stages take from prepare: the base model, both splits as tokens and as records."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from tunesmith_engine.stages.catalog import PREPARE
from tunesmith_engine.stages.contracts import StageRequest
from tunesmith_engine.stages.digests import local_path
from tunesmith_trainer.data.records import RowRecord, read_records
from tunesmith_trainer.data.tokens import TokenRows

Split = Literal["train", "validation"]
SPLITS: Final[tuple[Split, ...]] = ("train", "validation")

MODEL: Final = "model"
DATA: Final = "data"
CARD: Final = "card"


@dataclass(frozen=True, slots=True)
class Prepared:
    """The artifacts of prepare.

    Attributes:
        model: folder of the base model: safetensors, tokenizer, chat template.
        train: rows to learn from.
        validation: held-out rows.
        folder: where the splits lie.
    """

    model: Path
    train: TokenRows
    validation: TokenRows
    folder: Path

    def records(self, split: Split) -> list[RowRecord]:
        """The rows of a split as people read them, in the order of its tokens."""
        return read_records(self.folder / f"{split}.jsonl")


def load_prepared(request: StageRequest) -> Prepared:
    """Read what the job's prepare stage left.

    Raises:
        KeyError: the request carries no result of prepare, or one without its artifacts.
        OSError: an artifact is gone.
    """
    result = request.inputs[PREPARE.name]
    folder = local_path(result.artifact(DATA))
    return Prepared(
        model=local_path(result.artifact(MODEL)),
        train=TokenRows.load(folder / "train.safetensors"),
        validation=TokenRows.load(folder / "validation.safetensors"),
        folder=folder,
    )
