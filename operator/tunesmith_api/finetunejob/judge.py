"""`spec.evaluation.judge` and `.reference`: other models that judge the answers, or give theirs."""

from typing import Annotated

from pydantic import Field, StringConstraints

from tunesmith_api.base import ApiModel
from tunesmith_api.endpoint import Endpoint

Criteria = Annotated[str, StringConstraints(min_length=1, max_length=2000)]


class Judge(ApiModel):
    """A model that says which of two answers is better (arXiv 2306.05685), in both orders."""

    endpoint: Endpoint
    criteria: Criteria = Field(
        "The better answer is correct, does what was asked, and wastes no words.",
        description="What makes an answer better than another.",
    )
    max_samples: Annotated[int, Field(ge=1, le=10_000)] = Field(
        32, description="At most so many of the prompts that `generation` answers are judged."
    )


class ReferenceModel(ApiModel):
    """A managed model that answers the same prompts: make or buy."""

    endpoint: Endpoint
