"""What `prepare` reported of the model and the rows, as estimates need it.

A report is what a stage says, and in a cluster what a pod says: what is not as it should be counts
as not told.
"""

from typing import Final

from pydantic import TypeAdapter, ValidationError
from pydantic.alias_generators import to_snake

from tunesmith_engine.sources.model_facts import ModelFacts
from tunesmith_engine.stages.contracts import StageResult

_FACTS: Final = TypeAdapter(ModelFacts)


def model_facts_of(prepared: StageResult) -> ModelFacts | None:
    """The size and shape of the base model."""
    reported = prepared.facts.get("modelFacts")
    if not isinstance(reported, dict):
        return None
    try:
        return _FACTS.validate_python({to_snake(name): each for name, each in reported.items()})
    except ValidationError:
        return None


def longest_row_of(prepared: StageResult) -> int | None:
    """Tokens of the longest row of either side."""
    reported = prepared.facts.get("longestRow")
    if isinstance(reported, int) and not isinstance(reported, bool) and reported > 0:
        return reported
    return None
