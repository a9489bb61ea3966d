"""The teacher of `training.distillation`: fetched as the base is, and compared with it.

A teacher says how likely each token is. That tells a student something only if both mean the same
tokens, and if the teacher can read as many of them as the longest row has.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tunesmith_api.reasons import Reason
from tunesmith_engine.sources.errors import SourceError, as_stage_error
from tunesmith_engine.sources.model_facts import ModelFacts, read_model_facts
from tunesmith_engine.sources.published_model import is_quantized, quantized
from tunesmith_engine.sources.resolver import fetch_model
from tunesmith_engine.stages.contracts import StageRequest
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.models import load_tokenizer
from tunesmith_trainer.prepare.gguf import converted_model

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FIELD: Final = "training.distillation.teacher.model"
# Tokens of one tokenizer that the other has not; more in a message help nobody.
_SHOWN: Final = 3


@dataclass(frozen=True, slots=True)
class TeacherModel:
    """Where the teacher lies, and its shape."""

    folder: Path
    facts: ModelFacts


def prepare_teacher(
    request: StageRequest, tokenizer: "PreTrainedTokenizerBase"
) -> TeacherModel | None:
    """Fetch the teacher, if the job has one; `tokenizer` is that of the model that is trained.

    Raises:
        StageError: it cannot be fetched or used, or has another tokenizer.
    """
    distillation = request.spec.training.distillation
    if distillation is None:
        return None
    source, cache = distillation.teacher.model, Path(request.cache)
    try:
        found = fetch_model(
            source, base=Path(request.base), cache=cache, secrets=Path(request.secrets)
        )
        if found.is_dir() and is_quantized(found):
            raise quantized(found, uri=source.uri)
        facts = read_model_facts(found)
    except SourceError as error:
        raise as_stage_error(error) from error
    folder = found if found.is_dir() else converted_model(found, cache=cache)
    refuse_other_tokenizer(load_tokenizer(folder), tokenizer, uri=source.uri)
    return TeacherModel(folder, facts)


def refuse_other_tokenizer(
    teacher: "PreTrainedTokenizerBase", student: "PreTrainedTokenizerBase", *, uri: str
) -> None:
    """Return if both tokenizers give the same ids to the same tokens.

    Raises:
        BadInputError: they do not.
    """
    theirs, ours = teacher.get_vocab(), student.get_vocab()
    if theirs == ours:
        return
    other = sorted(token for token, number in ours.items() if theirs.get(token) != number)
    shown = ", ".join(repr(token) for token in other[:_SHOWN])
    raise BadInputError(
        Reason.INVALID_SPEC,
        f"{FIELD}: {uri} has a vocabulary of {len(theirs):,} tokens, the model that is trained one "
        f"of {len(ours):,}, and {len(other):,} of these are not the same there"
        f"{f', {shown} among them' if shown else ''}; choose a teacher of the same family, or have "
        "it write answers: dataset.synthesis with generator.model",
    )


def refuse_short_context(teacher: TeacherModel | None, *, longest_row: int) -> None:
    """Return if the teacher can read the longest row.

    Raises:
        BadInputError: it cannot.
    """
    if teacher is not None and teacher.facts.context_length < longest_row:
        raise BadInputError(
            Reason.INVALID_SPEC,
            f"{FIELD}: its context has {teacher.facts.context_length:,} tokens, and the longest "
            f"row {longest_row:,}; lower training.sequenceLength, or choose another teacher",
        )
