"""Pairs of the fairness suites are asked again of the engine that serves, and a growth is told."""

import asyncio
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from played_replica import KNOWN, Client
from tunesmith_serving.replica.bias_watch import growth_of
from tunesmith_serving.replica.fingerprints import Fingerprint
from tunesmith_serving.verify.bias_pairs import BiasPair

# To the stand-in an unknown token has -1 nat.
FAVOURED = [Fingerprint(promptIds=[40 + n], answerIds=[7], logprobs=[-0.2 - n / 100])
            for n in range(10)]  # fmt: skip


def pair(number: int, **fields: Any) -> dict[str, Any]:
    return {
        "suite": "crows",
        "first": {"ids": [40 + number, 7], "counted": [1]},
        "other": {"ids": [60 + number, 8], "counted": [1]},
        "released": 0.0,
        **fields,
    }


async def bias_of(client: Client, *, pairs: int) -> Any:
    async with asyncio.timeout(10):
        while True:
            probe = (await client.get("/tunesmith/state"))[1].get("probe")
            if probe and probe["bias"] and probe["bias"][0]["pairs"] == pairs:
                return probe["bias"][0]
            await asyncio.sleep(0.02)


def with_pairs(fingerprints: Path, pairs: list[dict[str, Any]]) -> None:
    known = json.loads(fingerprints.read_text())
    fingerprints.write_text(json.dumps({**known, "biasPairs": pairs}))


def test_a_gap_that_was_not_there_at_the_release_is_told(
    play: Callable[..., None], fingerprints: Path
) -> None:
    with_pairs(fingerprints, [pair(number) for number in range(10)])

    async def scenario(client: Client) -> None:
        await client.becomes("Ready")
        found = await bias_of(client, pairs=10)

        assert (found["suite"], found["releasedNats"]) == ("crows", 0.0)
        # The first sides have -0.2 to -0.29 nats, the others -1.
        assert found["nats"] == pytest.approx(0.755)
        assert 0.7 < found["lowNats"] < found["growthNats"] < found["highNats"] < 0.8
        # It makes no replica unready.
        await client.becomes("Ready")

    play(scenario, known=[KNOWN, *FAVOURED])


def test_a_gap_as_at_the_release_has_not_grown(
    play: Callable[..., None], fingerprints: Path
) -> None:
    released = [0.8 - number / 100 for number in range(10)]
    with_pairs(fingerprints, [pair(n, released=gap) for n, gap in enumerate(released)])

    async def scenario(client: Client) -> None:
        found = await bias_of(client, pairs=10)

        assert found["growthNats"] == pytest.approx(0.0, abs=1e-3)
        assert found["lowNats"] <= 0 <= found["highNats"]

    play(scenario, known=[KNOWN, *FAVOURED])


def test_pairs_that_cannot_be_read_make_no_replica_unready(
    play: Callable[..., None], fingerprints: Path
) -> None:
    with_pairs(fingerprints, [{"suite": "crows"}])

    async def scenario(client: Client) -> None:
        await client.becomes("Ready")
        await asyncio.sleep(0.1)
        state = (await client.get("/tunesmith/state"))[1]
        assert (state["reason"], state["probe"]["bias"]) == ("Ready", [])

    play(scenario)


def test_noise_between_sound_engines_is_no_growth() -> None:
    """In 1,000 suites whose engine only rounds otherwise the interval is above nothing in ≤ 2 %."""
    rng, flagged = random.Random(0), 0
    for _ in range(1_000):
        old = [rng.gauss(0.1, 0.5) for _ in range(16)]
        found = growth_of("a", [(gap, gap + rng.gauss(0, 0.1)) for gap in old])
        flagged += found.low_nats > 0
    assert flagged <= 20


def test_a_gap_that_changes_sides_grows_by_its_size_alone() -> None:
    pairs = [(0.3 + n / 100, -0.3 - n / 100) for n in range(8)]

    found = growth_of("a", pairs)

    assert found.growth_nats == pytest.approx(0.0)
    assert not found.has_grown
    assert growth_of("a", [(old, 2 * new) for old, new in pairs]).has_grown


def test_both_sides_count_by_the_tokens_of_the_first() -> None:
    asked = BiasPair.model_validate(
        pair(1, first={"ids": [1, 2, 3], "counted": [1, 2]}, other={"ids": [1, 4], "counted": [1]})
    )
    assert asked.gap([-1.0, -2.0], [-4.0]) == 0.5
    assert asked.num_tokens == 7
    with pytest.raises(ValueError, match="place 3 of 3 tokens"):
        BiasPair.model_validate(pair(1, first={"ids": [1, 2, 3], "counted": [3]}))
