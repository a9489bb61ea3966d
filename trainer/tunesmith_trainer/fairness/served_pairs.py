"""The pairs of the fairness suites by which a model that is served is watched.

Not all of them: they are asked of an engine that has clients to answer. Questions with answers to
choose from and answers that have to be written take longer, and stay with `evaluate`.
"""

import random
from collections.abc import Sequence
from typing import Final

from pydantic import JsonValue

from tunesmith_engine.deployment.replica_report import ENOUGH_PAIRS
from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.fairness.held_out_rows import CounterfactualTest
from tunesmith_trainer.fairness.sentences import SentencePairTest
from tunesmith_trainer.fairness.suites import FairnessTest

# Of all suites: at a pair every 15 to 120 s a round takes an hour at most. With many suites more,
# for fewer pairs of one say nothing.
MOST_PAIRS: Final = 32
# Of a text, in tokens.
LONGEST_SIDE: Final = 256
_SEED: Final = 0


def served_pairs(tests: Sequence[FairnessTest]) -> list[JsonValue]:
    """A sample of each suite of pairs, the same whenever it is drawn; suites take turns."""
    suites = [test for test in tests if isinstance(test, SentencePairTest | CounterfactualTest)]
    if not suites:
        return []
    most = max(ENOUGH_PAIRS, MOST_PAIRS // len(suites))
    drawn = [_sample(test.settings.name, test.rows, most=most) for test in suites]
    return [pairs[turn] for turn in range(most) for pairs in drawn if turn < len(pairs)]


def _sample(suite: str, rows: TokenRows, *, most: int) -> list[JsonValue]:
    lengths = rows.lengths.reshape(-1, 2).max(axis=1)
    short = [pair for pair, length in enumerate(lengths) if length <= LONGEST_SIDE]
    chosen = random.Random(_SEED).sample(short, min(most, len(short)))
    return [
        {"suite": suite, "first": _side(rows, 2 * pair), "other": _side(rows, 2 * pair + 1)}
        for pair in chosen
    ]


def _side(rows: TokenRows, row: int) -> dict[str, JsonValue]:
    ids, trained = rows.row(row)
    return {"ids": ids.tolist(), "counted": trained.nonzero()[0].tolist()}
