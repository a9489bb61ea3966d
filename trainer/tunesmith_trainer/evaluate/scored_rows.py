"""What models of a job are scored on: the same rows in every stage, one by one."""

from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from tunesmith_engine.stages.contracts import StageRequest
from tunesmith_trainer.data.held_out_roles import load_rows_of_stage
from tunesmith_trainer.data.prepared import Prepared
from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.evaluate.general_text import load_general_text
from tunesmith_trainer.evaluate.suites import GENERAL, HELD_OUT
from tunesmith_trainer.models import load_tokenizer


@dataclass(frozen=True, slots=True)
class ScoredRows:
    """The rows by suite; of two stages that score, the losses of one model are equal row by row."""

    prepared: Prepared
    tokenizer: PreTrainedTokenizerBase
    suites: dict[str, TokenRows]
    warnings: list[str]

    @classmethod
    def load(cls, request: StageRequest) -> "ScoredRows":
        """Read the rows and tokenize the general text; no weights are loaded.

        Raises:
            StageError: the general text is unusable.
        """
        prepared = load_rows_of_stage(request)
        tokenizer = load_tokenizer(prepared.model)
        general = load_general_text(
            request, tokenizer, context_length=request.spec.training.sequence_length
        )
        suites = {HELD_OUT: prepared.validation, GENERAL: general.rows}
        return cls(prepared, tokenizer, suites, general.warnings)
