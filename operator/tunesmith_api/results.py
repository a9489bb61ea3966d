"""What a job leaves behind and a version keeps: artifacts, and measured numbers."""

from typing import Annotated

from pydantic import StringConstraints

from tunesmith_api.base import ApiModel
from tunesmith_api.conditions import Name

# Twice what a URI in a spec may have: a published file lies below it.
Address = Annotated[str, StringConstraints(max_length=2048)]


class EvaluationResult(ApiModel):
    """One number about the model.

    Its value, its bootstrap interval, the base model's value, and the rows behind it.

    `split` says what was measured: `tuned` is the tuned model before compression, `pruned` and
    `distilled` what was left of it before and after its recovery, `compressed` the model that
    ships. The base of the last three is the tuned model.
    """

    suite: Name
    split: Name
    metric: Name
    value: float
    low: float | None = None
    high: float | None = None
    base: float | None = None
    n: int


class Artifact(ApiModel):
    """Something a stage made: a file, or a folder whose digest covers every file in it."""

    name: Name
    uri: Address
    digest: Name
    bytes: int
