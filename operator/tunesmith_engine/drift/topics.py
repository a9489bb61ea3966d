"""What a reference knows of its rows' words: which topics there are, and which words are new.

A mixture of unigram models over hashed words (Nigam et al., "Text Classification from Labeled and
Unlabeled Documents using EM", 2000), fitted by the trainer. A request belongs to the topic under
which its words are least surprising, and is as novel as they are even then.
"""

from bisect import bisect_right
from collections.abc import Collection
from struct import calcsize, pack, unpack
from typing import Annotated, Any, Final

from pydantic import Field, PrivateAttr

from tunesmith_api.base import ApiModel
from tunesmith_engine.drift.words import hashed

NUM_TOPICS: Final = 12
NUM_NOVELTIES: Final = 12
# One of its 512 numbers says of many words at once how frequent they are together.
NUM_WORD_BUCKETS: Final = 512
LARGEST_SURPRISE: Final = 255
_LAYOUT: Final = f"<{NUM_TOPICS}I"
_REST: Final = (0,) * NUM_TOPICS

Surprise = Annotated[int, Field(ge=0, le=LARGEST_SURPRISE)]
Topic = Annotated[
    tuple[Surprise, ...], Field(min_length=NUM_WORD_BUCKETS, max_length=NUM_WORD_BUCKETS)
]


class Topics(ApiModel):
    """The topics of a reference.

    Attributes:
        surprises: of each topic, minus the logarithm of every bucket's probability, in 1/16 nats.
        novelties: mean surprises per word, ascending, between the bins of novelty: quantiles of
            rows that were not fitted.
    """

    surprises: Annotated[tuple[Topic, ...], Field(min_length=1, max_length=NUM_TOPICS)]
    novelties: Annotated[tuple[float, ...], Field(max_length=NUM_NOVELTIES - 1)]

    _columns: tuple[int, ...] = PrivateAttr()

    def model_post_init(self, _: Any) -> None:
        # One long number a bucket, with 32 bits for each topic: adding up those of a text's words
        # adds up all topics at once.
        self._columns = tuple(
            int.from_bytes(pack(_LAYOUT, *surprises, *_REST[len(surprises) :]), "little")
            for surprises in zip(*self.surprises, strict=True)
        )

    def place(self, words: Collection[str]) -> tuple[int, int] | None:
        """Topic and bin of novelty of a text; None without words."""
        measured = self.surprise(words)
        if measured is None:
            return None
        topic, surprise = measured
        return topic, bisect_right(self.novelties, surprise)

    def surprise(self, words: Collection[str]) -> tuple[int, float] | None:
        """The topic of a text, and the mean surprise of its words there, in 1/16 nats."""
        buckets = word_buckets(words)
        if not buckets:
            return None
        packed = sum(map(self._columns.__getitem__, buckets))
        sums = unpack(_LAYOUT, packed.to_bytes(calcsize(_LAYOUT), "little"))[: len(self.surprises)]
        least = min(sums)
        return sums.index(least), least / len(buckets)


def word_buckets(words: Collection[str]) -> list[int]:
    """The bucket of every different word."""
    return [hashed(word) % NUM_WORD_BUCKETS for word in dict.fromkeys(words)]
