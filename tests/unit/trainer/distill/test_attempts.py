"""A ladder of ratios: the first that keeps the gate goes on, and none is tried twice."""

from pathlib import Path
from typing import Any

import pytest

from prepare_stage import SilentReporter
from tunesmith_api.finetunejob.spec import FineTuneJobSpec
from tunesmith_engine.stages.contracts import Reporter, StageOutcome, StageRequest
from tunesmith_trainer.distill.attempts import first_kept, ratios_of


def request_for(output: Path, *, fallback: str = "fail") -> StageRequest:
    spec = {
        "model": {"uri": "file://model"},
        "dataset": {"train": {"uri": "file://rows.jsonl"}},
        "output": {"model": "tiny"},
        "compression": {
            "prune": {"ratio": 0.6, "gate": {"fallback": fallback}},
            "ladder": {"ratios": [0.4, 0.2]},
        },
    }
    folder = str(output)
    return StageRequest(
        job="tiny", stage="distill", key="0" * 64, attempt=1, inputs={},
        spec=FineTuneJobSpec.model_validate(spec).with_defaults(), output=folder,
        report=folder, result=folder, base=folder, cache=folder, secrets=folder, models=folder,
    )  # fmt: skip


class Attempts:
    """Accepts every ratio up to `most`."""

    def __init__(self, *, most: float) -> None:
        self.most = most
        self.asked: list[tuple[float, str]] = []

    def __call__(self, request: StageRequest, _reporter: Reporter) -> StageOutcome:
        prune = request.spec.compression.prune
        assert prune is not None
        ratio = prune.ratio
        assert ratio is not None
        assert Path(request.output).is_dir()
        self.asked.append((ratio, prune.gate.fallback))
        rung: dict[str, Any] = {
            "parameters": int(1000 * (1 - ratio)), "bytes": int(2000 * (1 - ratio)),
            "losses": {"heldOut": 2.0 + ratio}, "kl": ratio,
        }  # fmt: skip
        facts: dict[str, Any] = {
            "accepted": ratio <= self.most, "ladder": [rung], "recovery": {"heldOut": 1 - ratio},
        }  # fmt: skip
        return StageOutcome(f"{ratio}", facts=facts)


def tried(outcome: StageOutcome) -> list[tuple[float, bool]]:
    told: Any = outcome.facts["tried"]
    return [(each["ratio"], each["accepted"]) for each in told]


def test_the_largest_cut_that_holds_is_taken_and_none_behind_it_is_tried(tmp_path: Path) -> None:
    attempts = Attempts(most=0.5)

    outcome = first_kept(request_for(tmp_path), SilentReporter(), attempt=attempts)

    assert outcome.message == "0.4"
    assert tried(outcome) == [(0.6, False), (0.4, True)]
    # Only the last may end the job.
    assert attempts.asked == [(0.6, "unpruned"), (0.4, "unpruned")]
    (warning,) = outcome.warnings
    assert "ratio 0.6 lost too much" in warning
    assert "0.4 was tried instead" in warning


def test_the_last_ratio_has_the_fallback_of_the_job(tmp_path: Path) -> None:
    attempts = Attempts(most=0.1)

    outcome = first_kept(request_for(tmp_path), SilentReporter(), attempt=attempts)

    assert attempts.asked[-1] == (0.2, "fail")
    assert tried(outcome) == [(0.6, False), (0.4, False), (0.2, False)]


def test_an_attempt_that_goes_on_tries_no_ratio_again_that_was_refused(tmp_path: Path) -> None:
    def killed(request: StageRequest, reporter: Reporter) -> StageOutcome:
        if request.output.endswith("0.4"):
            raise OSError("killed")
        return Attempts(most=0.5)(request, reporter)

    with pytest.raises(OSError, match="killed"):
        first_kept(request_for(tmp_path), SilentReporter(), attempt=killed)
    attempts = Attempts(most=0.5)

    outcome = first_kept(request_for(tmp_path), SilentReporter(), attempt=attempts)

    assert [ratio for ratio, _ in attempts.asked] == [0.4]
    assert tried(outcome) == [(0.6, False), (0.4, True)]
    assert len(outcome.warnings) == 1


def test_without_a_ladder_there_is_nothing_to_try(tmp_path: Path) -> None:
    request = request_for(tmp_path)
    compression = request.spec.compression.model_copy(update={"ladder": None})
    spec = request.spec.model_copy(update={"compression": compression})

    assert ratios_of(request) == [0.6, 0.4, 0.2]
    assert ratios_of(request.model_copy(update={"spec": spec})) == []
