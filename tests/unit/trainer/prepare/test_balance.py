"""Groups of training rows are brought to like sizes, and what cannot be is said."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tunesmith_api.finetunejob.balance import Balance
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.data.lacking_groups import LackingGroups
from tunesmith_trainer.data.loss_mask import TokenRow
from tunesmith_trainer.data.prepared import RowRecord
from tunesmith_trainer.data.rows import Generator, Message, Origin, Row
from tunesmith_trainer.data.stored_rows import StoredRows
from tunesmith_trainer.prepare.balance import BalancedRows, balance_rows
from tunesmith_trainer.prepare.tokenization import TokenizedRow
from tunesmith_trainer.prepare.topics import topics_of


def row(
    number: int, *, length: int = 4, generator: Generator = "none", **labels: str
) -> TokenizedRow:
    source, origin = f"rows.jsonl:{number}", Origin(generator)
    given = Row(source, (Message("assistant", "a"),), labels=labels, origin=origin)
    return TokenizedRow(
        row=given,
        tokens=TokenRow(ids=(1,) * length, trained=(False,) + (True,) * (length - 1)),
        record=RowRecord(source, None, "a", None, None),
    )


def rows(**sizes: int) -> list[TokenizedRow]:
    labels = [label for label, size in sizes.items() for _ in range(size)]
    return [row(number, topic=label) for number, label in enumerate(labels)]


def settings(**fields: Any) -> Balance:
    return Balance.model_validate({"columns": ["topic"], **fields})


def balanced_of(given: list[TokenizedRow], asked: Balance) -> BalancedRows:
    return balance_rows(StoredRows.of(given), asked)


def counted(kept: Iterable[TokenizedRow]) -> dict[str, int]:
    return dict(Counter(row.row.labels["topic"] for row in kept))


def test_what_groups_lack_is_left_to_synthesis(tmp_path: Path) -> None:
    given = rows(vpn=10, mail=30, fax=2)

    balanced = balanced_of(given, settings(method="synthesize"))

    assert [row.row.source for row in balanced.rows] == [row.row.source for row in given]
    assert balanced.lacking is not None
    assert balanced.lacking.lacks == {("vpn",): 20, ("mail",): 0, ("fax",): 0}
    (warning,) = balanced.warnings
    assert "1 group(s) have fewer rows than minGroupRows (5)" in warning
    balanced.lacking.save(tmp_path)
    assert LackingGroups.load(tmp_path) == balanced.lacking


def test_small_groups_are_repeated_up_to_the_largest() -> None:
    balanced = balanced_of(rows(vpn=10, mail=30), settings())

    assert counted(balanced.rows) == {"vpn": 30, "mail": 30}
    assert set(Counter(row.row.source for row in balanced.rows).values()) == {1, 3}
    assert balanced.note == (
        "balanced by topic: 2 groups of 10 to 30 rows have 30 to 30 now (40 rows before, 60 after)"
    )
    assert not balanced.warnings


def test_no_row_is_repeated_more_often_than_may_be() -> None:
    balanced = balanced_of(rows(vpn=5, mail=30), settings(maxRepeats=2))

    assert counted(balanced.rows) == {"vpn": 10, "mail": 30}
    assert "1 group(s) stay smaller than the largest" in balanced.warnings[0]


def test_large_groups_lose_rows_and_the_same_with_the_same_seed() -> None:
    given = rows(vpn=8, mail=30)

    balanced = [list(balanced_of(given, settings(method="undersample")).rows) for _ in range(2)]
    other = list(balanced_of(given, settings(method="undersample", seed=1)).rows)

    assert counted(balanced[0]) == {"vpn": 8, "mail": 8}
    assert balanced[0] == balanced[1] != other


def test_a_group_of_two_rows_stays_as_it_is_and_shrinks_no_other() -> None:
    given = rows(rare=2, vpn=6, mail=9)

    up = balanced_of(given, settings())
    down = balanced_of(given, settings(method="undersample"))

    assert counted(up.rows) == {"rare": 2, "vpn": 9, "mail": 9}
    assert counted(down.rows) == {"rare": 2, "vpn": 6, "mail": 6}
    assert "1 group(s) have fewer rows than minGroupRows (5)" in up.warnings[0]
    assert up.warnings == down.warnings


def test_groups_are_combinations_and_those_without_a_row_are_counted() -> None:
    given = [row(n, topic=topic, tier="a" if n % 2 else "b") for n in range(12) for topic in "xy"]
    given += [row(n, topic="z", tier="a") for n in range(20)]

    balanced = balanced_of(given, settings(columns=["topic", "tier"]))

    assert balanced.card["emptyGroups"] == 1
    assert balanced.card["groups"] == [
        {"values": ["x", "a"], "before": 6, "after": 20},
        {"values": ["x", "b"], "before": 6, "after": 20},
        {"values": ["y", "a"], "before": 6, "after": 20},
        {"values": ["y", "b"], "before": 6, "after": 20},
        {"values": ["z", "a"], "before": 20, "after": 20},
    ]


def test_lengths_are_binned_at_the_given_tokens() -> None:
    given = [row(n, length=length) for n in range(5) for length in (3, 8, 9, 40)]

    balanced = balanced_of(given, settings(columns=[], lengths=[32, 8]))

    assert balanced.card["by"] == ["tokens"]
    groups: Any = balanced.card["groups"]
    assert [(group["values"], group["before"], group["after"]) for group in groups] == [
        (["1-8"], 10, 10),
        (["33 and more"], 5, 10),
        (["9-32"], 5, 10),
    ]


def test_what_a_remedy_wrote_goes_before_what_was_given() -> None:
    given = [*rows(vpn=6, mail=6), *(row(n, topic="mail", generator="synonyms") for n in range(9))]

    balanced = balanced_of(given, settings(method="undersample"))

    assert {row.row.origin.generator for row in balanced.rows} == {"none"}


@pytest.mark.parametrize(
    ("given", "fields", "words"),
    [
        (rows(vpn=9), {}, "all of them are of one group"),
        (rows(**{f"t{n}": 2 for n in range(201)}), {}, "201 groups, and at most 200"),
        (rows(vpn=3, mail=2), {}, r"no group has as many rows as minGroupRows \(5\)"),
    ],
)
def test_rows_that_cannot_be_balanced_are_refused(
    given: list[TokenizedRow], fields: dict[str, Any], words: str
) -> None:
    with pytest.raises(BadInputError, match=words):
        balanced_of(given, settings(**fields))


def said(number: int, text: str) -> TokenizedRow:
    given = row(number)
    turns = (Message("user", "And?"), Message("assistant", text))
    return replace(given, row=replace(given.row, messages=turns))


def test_languages_are_guessed_and_balanced() -> None:
    english = "The printer is in the room that you have been in, and it is on."
    german = "Der Drucker ist in dem Raum, in dem du auch warst, und er ist an."
    given = [said(number, english) for number in range(20)]
    given += [said(20 + number, german) for number in range(5)]

    balanced = balance_rows(StoredRows.of(given), Balance(languages=True))

    told: Any = balanced.card["groups"]
    groups = {tuple(each["values"]): each["after"] for each in told}
    assert groups == {("en",): 20, ("de",): 20}
    assert balanced.note.startswith("balanced by language: 2 groups")


def test_topics_are_clusters_of_like_words_and_the_same_every_time() -> None:
    ships, ovens = ["ship mast anchor sail quay", "oven pan flour dough spoon"]
    given = [said(number, f"{ships} deck{number % 3}") for number in range(24)]
    given += [said(24 + number, f"{ovens} plate{number % 3}") for number in range(8)]

    asked = Balance(topics=2, seed=3)
    balanced, again = (balance_rows(StoredRows.of(given), asked) for _ in range(2))

    told = [each.row.messages[1].content.split()[0] for each in balanced.rows]
    assert Counter(told) == {"ship": 24, "oven": 24}
    assert list(balanced.rows) == list(again.rows)


def test_more_topics_than_rows_are_as_many_as_there_are() -> None:
    found = topics_of(["one two", "three four", "", "one two"], num=9, seed=0)

    assert found[0] == found[3]
    assert len({int(found[0]), int(found[1])}) == 2
