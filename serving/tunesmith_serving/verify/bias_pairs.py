"""Pairs of texts that differ in a group of people alone, and the gap that an engine has there.

`compress` chooses them from the job's fairness suites, `verify` asks vLLM, and a replica asks again
for as long as it runs.
"""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field, model_validator

from tunesmith_api.base import ApiModel


class PairSide(ApiModel):
    """A text in token ids; `counted` are the places of those whose likelihood counts."""

    ids: Annotated[list[int], Field(min_length=2)]
    counted: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1)]

    @model_validator(mode="after")
    def _within(self) -> "PairSide":
        if max(self.counted) >= len(self.ids):
            raise ValueError(f"place {max(self.counted)} of {len(self.ids)} tokens is counted")
        return self


class BiasPair(ApiModel):
    """The first group's text, or the stereotyped one, and the other.

    `released` is the gap that vLLM had between them when the version was verified.
    """

    suite: str
    first: PairSide
    other: PairSide
    released: float | None = None

    @property
    def sides(self) -> tuple[PairSide, PairSide]:
        return self.first, self.other

    @property
    def num_tokens(self) -> int:
        """What it takes to ask for it: both sides, and the token that each has to make."""
        return sum(len(side.ids) + 1 for side in self.sides)

    def fits(self, longest: int) -> bool:
        """Whether an engine of that length takes both, and the one token that it has to make."""
        return max(len(side.ids) for side in self.sides) < longest

    def gap(self, first: Sequence[float], other: Sequence[float]) -> float:
        """How much likelier the first is, in nats a token, by the likelihoods of what counts.

        NB: both by the first one's number. By its own, the side whose terms are split into more
        tokens would seem the likelier.
        """
        return (sum(first) - sum(other)) / len(self.first.counted)
