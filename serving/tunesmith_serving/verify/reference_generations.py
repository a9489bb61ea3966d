"""What verify reads from compress: prompts with the greedy answers that transformers gave."""

from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field, model_validator

from tunesmith_api.base import ApiModel

TokenIds = Annotated[list[int], Field(min_length=1)]


class ReferencePrompt(ApiModel):
    """A prompt, the greedy answer, and the log-probability (nats) of each of its tokens."""

    prompt_ids: TokenIds
    answer_ids: TokenIds
    logprobs: list[float]
    kind: str

    @model_validator(mode="after")
    def _one_logprob_per_token(self) -> "ReferencePrompt":
        if len(self.logprobs) != len(self.answer_ids):
            raise ValueError(
                f"{len(self.answer_ids)} answer tokens with {len(self.logprobs)} log-probabilities"
            )
        return self

    def __len__(self) -> int:
        """Tokens of prompt and answer together."""
        return len(self.prompt_ids) + len(self.answer_ids)


class Reference(ApiModel):
    """The content of `reference.json`."""

    model_config = ConfigDict(extra="ignore")

    dtype: str
    prompts: Annotated[list[ReferencePrompt], Field(min_length=1)]


def read_reference(path: Path) -> Reference:
    """The reference answers in `path`.

    Raises:
        pydantic.ValidationError: the file is not what compress writes.
    """
    return Reference.model_validate_json(path.read_text(encoding="utf-8"))
