"""What only later stages need is missed by prepare, before anything is paid for."""

from pathlib import Path

import pytest

from prepare_stage import prepare_request
from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.evaluate import harness
from tunesmith_trainer.prepare.preflight import refuse_missing

SECRET = {"secretRef": {"name": "large"}}
ENDPOINT = {"endpoint": {"url": "https://api.example.com/v1", "model": "large", **SECRET}}
SUITE = {"name": "arc", "uri": "s3://tasks/arc", "task": "arc_local", **SECRET}
ASKED = [{"judge": ENDPOINT}, {"reference": ENDPOINT}, {"suites": [SUITE]}]


@pytest.mark.parametrize("evaluation", ASKED, ids=["judge", "reference", "suites"])
def test_a_secret_that_only_evaluate_needs(tmp_path: Path, evaluation: dict[str, object]) -> None:
    request = prepare_request(tmp_path, model="file://model", evaluation=evaluation)

    with pytest.raises(BadInputError, match="'large'") as caught:
        refuse_missing(request)

    assert caught.value.reason == Reason.SECRET_NOT_FOUND


def test_the_extra_that_only_suites_need(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "_PACKAGE", "lm_eval_that_nobody_has")
    request = prepare_request(tmp_path, model="file://model", evaluation={"suites": [SUITE]})

    with pytest.raises(BadInputError, match=r"tunesmith\[eval\]"):
        refuse_missing(request)
