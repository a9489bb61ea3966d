"""The judge and the managed model in the stage: what they are asked, and where it is told."""

import json
from pathlib import Path
from typing import Any

import pytest

from chat_server import ChatServer, Messages, chat_server
from tuned_job import QUESTIONS, SilentReporter, make_tuned_job, request_for
from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.catalog import EVALUATE
from tunesmith_engine.stages.contracts import StageOutcome
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.evaluate.stage import evaluate

ANSWERS = dict(QUESTIONS)
PRICES = {"input": 1.0, "output": 2.0}


def knowing(messages: Messages) -> str:
    """Judge for the first answer; as a managed model, know every answer."""
    if messages[0]["role"] == "system":
        return '{"winner": "tie"}'
    return ANSWERS[messages[-1]["content"]]


def evaluated(job: Path, output: Path, server: ChatServer, **endpoint: Any) -> StageOutcome:
    given = {"url": server.url, "model": "large", "pricePerMillionTokens": PRICES, **endpoint}
    evaluation = {
        "generation": {"maxNewTokens": 6},
        "bootstrap": {"resamples": 200},
        "judge": {"endpoint": given, "maxSamples": 3},
        "reference": {"endpoint": given},
        "gates": [{"suite": "judge", "metric": "winRate", "minDelta": 0.0}],
    }
    request = request_for(job, EVALUATE.name, output=output, evaluation=evaluation)
    return evaluate(request, SilentReporter())


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tuned by so much that its answers are others than the base's."""
    return make_tuned_job(tmp_path_factory.mktemp("strongly"), scale=0.5)


@pytest.fixture(scope="module")
def outcome(tuned: Path, tmp_path_factory: pytest.TempPathFactory) -> StageOutcome:
    secret = tuned / "secrets" / "large"
    secret.mkdir(parents=True)
    (secret / "api-key").write_text("sesame\n")
    with chat_server(knowing) as server:
        found = evaluated(
            tuned, tmp_path_factory.mktemp("asked"), server, secretRef={"name": "large"}
        )
    assert {one["authorization"] for one in server.headers} == {"Bearer sesame"}
    # Four questions, and three pairs in both orders.
    assert len(server.requests) == 4 + 6
    return found


def test_the_win_rate_is_a_result_that_a_gate_may_be_about(outcome: StageOutcome) -> None:
    (rate,) = (one for one in outcome.evaluation if one.suite == "judge")

    assert (rate.split, rate.metric, rate.value, rate.base, rate.n) == (
        "tuned",
        "winRate",
        0.5,
        0.5,
        3,
    )


def test_the_managed_model_is_scored_as_the_others_are(outcome: StageOutcome) -> None:
    by_split = {one.split: one for one in outcome.evaluation if one.metric == "rougeL"}

    assert by_split["reference"].value == 1.0
    assert by_split["tuned"].value < 1.0


def test_make_or_buy_is_told_in_tokens_and_money(outcome: StageOutcome) -> None:
    record: Any = outcome.facts["reference"]

    bought = record["perThousandRequests"]["reference"]
    tokens = bought["promptTokens"], bought["completionTokens"]
    assert bought["price"] == pytest.approx((tokens[0] + 2 * tokens[1]) / 1e6, rel=0.01)
    assert record["perThousandRequests"]["tuned"]["price"] is None
    assert record["perThousandRequests"]["tuned"]["promptTokens"] > 0


def test_the_record_holds_all_three_answers(outcome: StageOutcome) -> None:
    record = json.loads(Path(outcome.artifacts[0].uri.removeprefix("file://")).read_text())

    assert all(one["managed"] == one["reference"] for one in record["samples"])
    assert record["judge"]["tie"] == 3
    assert record["judge"]["cost"] > 0
    assert "sesame" not in json.dumps(record)


def test_a_managed_model_that_refuses_is_told_before_a_weight_is_loaded(
    tuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunesmith_trainer.evaluate.stage.load_for_scoring", None)
    with chat_server(knowing) as server:
        server.faults = [404]
        with pytest.raises(BadInputError, match=r"evaluation\.reference\.endpoint") as caught:
            evaluated(tuned, tmp_path, server)

    assert caught.value.reason == Reason.ENDPOINT_UNUSABLE


def test_a_missing_key_is_told_by_the_name_of_its_secret(tuned: Path, tmp_path: Path) -> None:
    with chat_server(knowing) as server, pytest.raises(BadInputError, match="'nobody'") as caught:
        evaluated(tuned, tmp_path, server, secretRef={"name": "nobody"})

    assert caught.value.reason == Reason.SECRET_NOT_FOUND
    assert server.requests == []
