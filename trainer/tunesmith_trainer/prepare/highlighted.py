"""What became of the highlights of the rows that were prepared, told before anything is trained."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tunesmith_api.finetunejob.spec import FineTuneJobSpec
from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.data.prepared import Split
from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.explain.highlighted_rows import highlighted_rows
from tunesmith_trainer.prepare.splits import Splits

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def warnings_of_highlights(
    spec: FineTuneJobSpec,
    splits: Splits,
    tokens: Mapping[Split, TokenRows],
    tokenizer: "PreTrainedTokenizerBase",
) -> list[str]:
    """Of how many rows the highlights are of no use, and why.

    Raises:
        BadInputError: the job trains on highlights, and no training row has some of use.
    """
    column = spec.dataset.highlights
    if column is None:
        return []
    train, held_out = (
        highlighted_rows((row.record for row in rows), of_rows, tokenizer)
        for rows, of_rows in (
            (splits.train, tokens["train"]),
            (splits.validation, tokens["validation"]),
        )
    )
    told = [train.in_words("train"), held_out.in_words("validation")]
    if spec.holds_to_highlights and not train.rows:
        raise BadInputError(
            Reason.DATASET_INVALID,
            f"dataset.highlights: given {column}; of {len(splits.train)} training rows "
            f"{train.num_given} have highlights, and none has them on a part of its prompt; name "
            "the column that has them, raise training.sequenceLength, or leave "
            "training.explanation out",
        )
    return [each for each in told if each]
