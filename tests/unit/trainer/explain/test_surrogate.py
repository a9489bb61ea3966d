"""Simpler models of what the model decides find a planted rule, and say when there is none."""

import json
import random
from typing import Any

import numpy as np
import pytest

from tunesmith_api.finetunejob.explain import Surrogate
from tunesmith_trainer.data.prepared import RowRecord
from tunesmith_trainer.data.rows import Message
from tunesmith_trainer.explain.surrogate import Decided, surrogates, without_words

FILLERS = (
    "please",
    "today",
    "again",
    "screen",
    "mouse",
    "quickly",
    "help",
    "slow",
    "office",
    "new",
)


def a_record(number: int, words: list[str]) -> RowRecord:
    turns = [Message("user", f"{' '.join(words)} case {number}"), Message("assistant", "a")]
    return RowRecord(
        source=f"rows.jsonl:{number}", messages=turns, text=None, prompt="x", reference="a"
    )


def rows(number: int, *, seed: int = 0) -> tuple[list[RowRecord], list[bool]]:
    """Rows of random words, and which of them have the trigger."""
    rng, records, triggers = random.Random(seed), [], []
    for row in range(number):
        words = rng.sample(FILLERS, 4)
        triggers.append(rng.random() < 0.5)
        if triggers[-1]:
            words.insert(rng.randrange(4), "printer")
        records.append(a_record(row, words))
    return records, triggers


def by_name(found: dict[str, Any]) -> dict[str, Any]:
    return {told["model"]: told for told in found["models"]}


@pytest.mark.parametrize("seed", range(5))
def test_the_word_that_decides_is_found_by_both(seed: int) -> None:
    records, triggers = rows(80, seed=seed)
    decided = Decided(list(range(80)), np.array(triggers, dtype=float), ["no", "yes"])

    found = by_name(surrogates(decided, records, settings=Surrogate(), effects={}))

    for told in found.values():
        assert told["fidelity"] == 1.0
        assert told["interval"][0] > told["constant"]
        assert told["words"][0]["word"] == "printer"
    assert (found["tree"]["leaves"], found["tree"]["numWords"]) == (2, 1)
    assert "printer" in found["tree"]["rules"]


def test_likelihoods_are_foretold_and_judged_by_occlusion() -> None:
    records, triggers = rows(120)
    slow = np.array(["slow" in (record.messages or [])[0].content for record in records])
    likely = -2.0 + 1.5 * np.array(triggers) - 0.5 * slow
    likely += np.random.default_rng(0).normal(0, 0.05, 120)
    effects = dict.fromkeys(FILLERS, 0.01) | {"printer": 1.5, "slow": -0.5, "new": 0.02}

    found = surrogates(
        Decided(list(range(120)), likely, None), records, settings=Surrogate(), effects=effects
    )

    assert (found["metric"], found["fittedRows"] + found["judgedRows"]) == ("r2", 120)
    linear = by_name(found)["sparseLinear"]
    assert linear["fidelity"] > 0.95
    assert abs(linear["constant"]) < 0.1
    assert [told["word"] for told in linear["words"][:2]] == ["printer", "slow"]
    assert linear["occlusionRank"] > 0


def test_decisions_without_a_rule_are_told_as_such() -> None:
    records, _ = rows(80)
    chance = np.random.default_rng(1).integers(2, size=80).astype(float)

    found = surrogates(
        Decided(list(range(80)), chance, ["a", "b"]), records, settings=Surrogate(), effects={}
    )

    for told in found["models"]:
        assert told["interval"][0] <= told["constant"] + 0.1


@pytest.mark.parametrize(
    ("number", "values", "told"),
    [
        (6, [0.0, 1.0] * 3, "fewer than 8 rows"),
        (40, [1.0] * 40, "decides alike of all rows"),
    ],
)
def test_what_cannot_be_fitted_says_why(number: int, values: list[float], told: str) -> None:
    records, _ = rows(number)
    decided = Decided(list(range(number)), np.array(values), ["a", "b"])

    found = surrogates(decided, records, settings=Surrogate(), effects={})

    assert told in found["reason"]
    assert not found["models"]


def test_a_copy_of_a_row_is_not_on_both_sides() -> None:
    records, _ = rows(2)
    decided = Decided(list(range(40)), np.array([0.0, 1.0] * 20), ["a", "b"])

    found = surrogates(decided, records * 20, settings=Surrogate(), effects={})

    assert {found["fittedRows"], found["judgedRows"]} == {20}


def test_no_word_of_a_row_is_published() -> None:
    records, triggers = rows(40)
    decided = Decided(list(range(40)), np.array(triggers, dtype=float), ["no", "yes"])

    found = surrogates(decided, records, settings=Surrogate(), effects={})

    assert "printer" in json.dumps(found)
    assert "printer" not in json.dumps(without_words(found))
