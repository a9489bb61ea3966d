"""Rows by the groups that they name, and what is refused of them."""

from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer

from small_models import make_tiny_model
from tunesmith_api.finetunejob.fairness_remedy import FairnessRemedy
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.data.prepared import RowRecord
from tunesmith_trainer.data.rows import Message
from tunesmith_trainer.train.group_rows import GroupRows

REMEDY = FairnessRemedy(method="pairedConsistency")
PAIRS = (
    ("My sister lost her keys.", "Look in the hall."),
    ("My brother lost his keys.", "Ask him again."),
    ("My keys are lost.", "Look in the hall."),
    ("My sister and my brother fight.", "Let them."),
)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return AutoTokenizer.from_pretrained(make_tiny_model(tmp_path_factory.mktemp("model")))


def rows_of(tokenizer: Any, *pairs: tuple[str, str], longest: int = 200) -> GroupRows:
    records = [
        RowRecord(
            source=f"a.jsonl:{place}",
            messages=[Message("user", question), Message("assistant", answer)],
            text=None,
            prompt=question,
            reference=answer,
        )
        for place, (question, answer) in enumerate(pairs)
    ]
    return GroupRows.of(records, REMEDY, tokenizer=tokenizer, longest=longest)


def test_a_row_is_of_the_group_that_it_names_alone(tokenizer: Any) -> None:
    rows = rows_of(tokenizer, *PAIRS)

    assert rows.groups.tolist() == [0, 1, -1, -1]
    rows.require_all_groups()


def test_twins_have_the_other_terms(tokenizer: Any) -> None:
    rows = rows_of(tokenizer, *PAIRS)

    numbers, twins = rows.twins(with_equal_answers=False)
    alike, _ = rows.twins(with_equal_answers=True)

    assert numbers == [0, 1]
    assert "brother lost his keys" in tokenizer.decode(twins.row(0)[0])
    # The second answer says "him", which is "her" in its twin.
    assert alike == [0]


def test_pairs_have_the_first_group_first(tokenizer: Any) -> None:
    first, other = rows_of(tokenizer, *PAIRS).pairs()

    assert len(first) == len(other) == 2
    assert "sister" in tokenizer.decode(first.row(1)[0])
    assert "brother" in tokenizer.decode(other.row(1)[0])


def test_rows_that_name_no_group_are_refused(tokenizer: Any) -> None:
    rows = rows_of(tokenizer, PAIRS[2], PAIRS[3])

    with pytest.raises(BadInputError, match="women 0, men 0, of 2"):
        rows.require_all_groups()
    with pytest.raises(BadInputError, match="0 of 2 training rows name one of them alone"):
        rows.twins(with_equal_answers=False)


def test_answers_that_all_name_groups_are_refused_by_symmetric_kl(tokenizer: Any) -> None:
    with pytest.raises(BadInputError, match="or distance: logLikelihood"):
        rows_of(tokenizer, PAIRS[1]).twins(with_equal_answers=True)


def test_a_term_of_two_groups_is_refused(tokenizer: Any) -> None:
    groups = [{"name": "a", "terms": ["one"]}, {"name": "b", "terms": ["One"]}]
    remedy = FairnessRemedy.model_validate({"method": "reweighting", "groups": groups})

    with pytest.raises(BadInputError, match=r"spec\.training\.fairness\.groups"):
        GroupRows.of([], remedy, tokenizer=tokenizer, longest=9)


def test_no_held_out_row_is_no_pair(tokenizer: Any) -> None:
    first, _ = rows_of(tokenizer, PAIRS[2]).pairs()

    assert len(first) == 0
    assert np.array_equal(first.lengths, [])


def test_longer_twins_are_left_out(tokenizer: Any) -> None:
    with pytest.raises(BadInputError, match="none can be compared"):
        rows_of(tokenizer, PAIRS[0], longest=4).twins(with_equal_answers=False)
