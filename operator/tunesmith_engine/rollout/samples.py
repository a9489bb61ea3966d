"""What is observed of one request: a few numbers, and no text of anybody.

Whoever runs the rollout makes a `Sample` of every request that is over or was given up, and hands
them to `judge` in the order in which the requests arrived.
"""

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from tunesmith_api.base import ApiModel

Seconds = Annotated[float, Field(ge=0)]
# A reason is a word and a cluster a digest, so that neither can carry what somebody wrote.
ReasonWord = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,39}$")]
ClusterDigest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{8,64}$")]


class Arm(StrEnum):
    """Which version answered."""

    STABLE = "stable"
    CANDIDATE = "candidate"


class Sample(ApiModel):
    """One request. What was not observed is None, and then counts for no metric that needs it.

    Attributes:
        arm: the version that the request was routed to.
        time_seconds: when it arrived, since the rollout began. NB: not when it ended. Slow answers
            end later, so that by their ends one arm would be seen before the other.
        error: it was answered with an error.
        incomplete: why the answer broke off (`abort`, `noFinishReason`, `timeout`); None: it did
            not. An error that came in place of an answer is no incomplete answer.
        ttft_seconds: time to the first token. A request that was given up before that has the time
            it has waited; left out, a hanging version would look fast. Of an answer in one piece,
            the time until it was there: its client gets the first token with the last.
        itl_seconds: mean time between the tokens of the answer; of one in one piece, its time
            divided by its tokens. Both arms get such requests alike.
        output_tokens: tokens of a complete answer.
        refusal: whether the answer refuses.
        quality_loss: by how much the candidate answers the same prompt worse than stable does, in
            any unit; the difference of negative log-likelihoods per token of one fixed answer, for
            example. Only the candidate's samples have it.
        fixed_prompt: a digest of the prompt that candidate and stable were compared on, where
            clients asked too little. Then it is no client's request: only its `quality_loss`
            counts, once for each prompt, and a warm-up is nothing to it.
        cluster: a digest of the conversation or API key that the request belongs to.
    """

    arm: Arm
    time_seconds: Seconds
    error: bool = False
    incomplete: ReasonWord | None = None
    ttft_seconds: Seconds | None = None
    itl_seconds: Seconds | None = None
    output_tokens: Annotated[int, Field(ge=0, le=2**31)] | None = None
    refusal: bool | None = None
    quality_loss: float | None = None
    fixed_prompt: ClusterDigest | None = None
    cluster: ClusterDigest | None = None
