"""The chain on a tiny model: measured of base and tuned, judged, told, and bad input refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from bbq_lines import bbq_line
from tuned_job import SilentReporter, request_for
from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.catalog import EVALUATE
from tunesmith_engine.stages.contracts import StageOutcome
from tunesmith_engine.stages.digests import local_path
from tunesmith_engine.stages.errors import BadInputError, VerdictError
from tunesmith_trainer.evaluate.stage import evaluate
from tunesmith_trainer.publish.fairness import fairness_section

SHORT = {"generation": {"maxNewTokens": 4}, "bootstrap": {"resamples": 200}, "gates": []}
CROWS = "\n".join(
    [",sent_more,sent_less,bias_type"]
    + [f"{n},The old man {n} is slow.,The young man {n} is slow.,age" for n in range(8)]
)
DEVICES = [
    {"name": "screens", "terms": ["screen", "mouse"]},
    {"name": "printers", "terms": ["printer", "password"]},
]
SUITES: list[dict[str, Any]] = [
    {"name": "crows", "kind": "crowsPairs", "source": {"uri": "file://crows.csv"}},
    {"name": "questions", "kind": "bbq", "source": {"uri": "file://bbq.jsonl"}, "licence": "CC"},
    {"name": "swaps", "kind": "counterfactual", "groups": DEVICES},
    {"name": "refused", "kind": "refusals", "groups": DEVICES},
    {
        "name": "first",
        "kind": "classification",
        "groups": DEVICES,
        "positive": "Open the lower tray and put in a new pack.",
    },
]


@pytest.fixture(scope="module")
def files(job: Path) -> Path:
    (job / "crows.csv").write_text(CROWS)
    other = bbq_line(context_condition="disambig", label=0)
    (job / "bbq.jsonl").write_text((bbq_line() + other) * 2)
    return job


def evaluated(job: Path, output: Path, *suites: dict[str, Any], **spec: Any) -> StageOutcome:
    asked = {**SHORT, "fairness": {"suites": list(suites)}, **spec}
    return evaluate(
        request_for(job, EVALUATE.name, output=output, evaluation=asked), SilentReporter()
    )


@pytest.fixture(scope="module")
def outcome(files: Path, tmp_path_factory: pytest.TempPathFactory) -> StageOutcome:
    return evaluated(files, tmp_path_factory.mktemp("fair"), *SUITES)


def test_every_suite_has_its_numbers_of_both_models(outcome: StageOutcome) -> None:
    measured = {(one.suite, one.metric) for one in outcome.evaluation}

    assert {(str(suite["name"]), "gap") for suite in SUITES} <= measured
    assert ("first", "equalizedOddsDifference") in measured
    crows = next(one for one in outcome.evaluation if one.metric == "logprobGap")
    assert crows.base is not None
    assert crows.base != crows.value
    assert crows.n == 8


def test_the_record_has_p_values_and_the_general_loss(outcome: StageOutcome) -> None:
    written = json.loads(local_path(outcome.artifacts[0]).read_text())["fairness"]

    assert written == outcome.facts["fairness"]
    assert set(written["generalLoss"]) == {"base", "tuned"}
    for number in written["numbers"]:
        assert number["p"] is None or 0 < number["p"] <= number["pAdjusted"] <= 1


def test_a_missing_licence_and_few_rows_are_told(outcome: StageOutcome) -> None:
    told = "\n".join(outcome.warnings)

    assert "crows states no licence" in told
    assert "questions states no licence" not in told
    assert "crows has 8 rows" in told


def test_the_card_tells_of_bias_and_limits(outcome: StageOutcome) -> None:
    text = fairness_section({"fairness": outcome.facts["fairness"]}, {})

    assert "## Bias and its limits" in text
    assert "questions: licence CC" in text
    assert "| swaps | lossGap |" in text
    assert "was not measured" in fairness_section({}, {})


def test_a_gate_on_a_gap_fails_the_job(files: Path, tmp_path: Path) -> None:
    gates = [{"suite": "crows", "metric": "gap", "max": -1.0}]

    with pytest.raises(VerdictError, match="crows gap is") as refused:
        evaluated(files, tmp_path, SUITES[0], gates=gates)

    assert refused.value.reason is Reason.EVALUATION_GATE_FAILED
    assert refused.value.findings is not None


@pytest.mark.parametrize(
    ("suite", "told"),
    [
        ({"name": "a", "kind": "counterfactual"}, "no row one alone"),
        (
            {
                "name": "a",
                "kind": "counterfactual",
                "groups": [{"name": "a", "terms": ["the"]}, {"name": "b", "terms": ["The"]}],
            },
            "the term 'The' stands there twice",
        ),
        (SUITES[4] | {"positive": "yes"}, "an answer that no held-out row has"),
        (
            SUITES[4]
            | {"groups": [{"name": "a", "terms": ["screen"]}, {"name": "b", "terms": ["none"]}]},
            "a 3, b 0|a 1, b 0",
        ),
        (SUITES[0] | {"kind": "bbq"}, "crows.csv:1"),
        (SUITES[0] | {"source": {"uri": "file://none.csv"}}, "none.csv"),
    ],
)
def test_bad_input_is_refused(
    files: Path, tmp_path: Path, suite: dict[str, Any], told: str
) -> None:
    with pytest.raises(BadInputError, match=told):
        evaluated(files, tmp_path, suite)
