"""What the stage settles before there are workers, keeps, and says when memory runs out."""

from pathlib import Path
from typing import Any

import pytest

from manifests import a_job
from small_models import SMOL, as_told
from tunesmith_api.finetunejob.job import FineTuneJob
from tunesmith_api.reasons import Reason
from tunesmith_engine import capacity
from tunesmith_engine.stages.catalog import PREPARE, TRAIN
from tunesmith_engine.stages.contracts import GivenMemory, StageRequest, StageResult
from tunesmith_engine.stages.errors import TransientError
from tunesmith_trainer.train.memory_plan import advice_on_memory, memory_facts, settled_request

GIB = 1 << 30


def a_request(output: Path, *, memory: Any = None, **spec: Any) -> StageRequest:
    prepared = StageResult(
        stage=PREPARE.name,
        key="",
        attempt=1,
        outcome="Succeeded",
        reason=Reason.SUCCEEDED,
        facts={"modelFacts": as_told(SMOL), "longestRow": 1024},
    )
    output.mkdir(exist_ok=True)
    return StageRequest(
        job="helpdesk",
        stage=TRAIN.name,
        key="",
        attempt=1,
        spec=FineTuneJob.model_validate(a_job(**spec)).spec.with_defaults(),
        inputs={PREPARE.name: prepared},
        memory=memory,
        output=str(output),
        report="",
        result="",
        base="",
        cache="",
        secrets="",
        models="",
    )


def settled(request: StageRequest) -> tuple[int | None, str]:
    training = settled_request(request, precision="fp32").spec.training
    return training.batch.micro_batch_size, training.gradient_checkpointing


def test_this_machine_decides_and_a_resumed_run_keeps_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = a_request(tmp_path)
    monkeypatch.setattr(capacity, "memory_bytes", lambda: 3 * GIB)
    small = settled(request)
    monkeypatch.setattr(capacity, "memory_bytes", lambda: 64 * GIB)

    assert small[0] == 1
    assert small[1] != "none"
    assert settled(request) == small
    assert settled(a_request(tmp_path / "other")) == (4, "none")


def test_what_the_manifest_says_now_counts_before_what_was_settled_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capacity, "memory_bytes", lambda: 64 * GIB)
    settled(a_request(tmp_path))

    assert settled(a_request(tmp_path, training={"gradientCheckpointing": "all"})) == (4, "all")


def test_in_a_cluster_what_training_is_given_decides(tmp_path: Path) -> None:
    def with_memory(size: int) -> tuple[int | None, str]:
        given = {TRAIN.name: GivenMemory(size_bytes=size, given_by="resources.memory")}
        return settled(a_request(tmp_path / str(size), memory=given))

    assert with_memory(3 * GIB)[0] == 1
    assert with_memory(64 * GIB) == (4, "none")
    assert settled(a_request(tmp_path / "unknown", memory={})) == (4, "none")


def test_facts_tell_what_checkpointing_costs_and_saves(tmp_path: Path) -> None:
    request = a_request(tmp_path, training={"gradientCheckpointing": "every2"})
    settled_request(request, precision="fp32")

    facts = memory_facts(request)

    assert facts["gradientCheckpointing"] == "every2"
    assert (facts["microBatchSize"], facts["accumulated"]) == (4, 4)
    assert facts["recomputedShare"] == 0.5
    assert int(str(facts["savedBytes"])) > GIB
    assert int(str(facts["estimatedPeakBytes"])) > GIB


@pytest.mark.parametrize("reason", [Reason.OUT_OF_MEMORY, Reason.DEVICE_OUT_OF_MEMORY])
def test_where_memory_runs_out_it_is_said_what_takes_less(tmp_path: Path, reason: Reason) -> None:
    request = settled_request(a_request(tmp_path), precision="fp32")

    with pytest.raises(TransientError) as caught, advice_on_memory(request):
        raise TransientError(reason, "worker 0 failed with OutOfMemoryError: of 2 GiB")

    assert caught.value.reason is reason
    assert caught.value.message.startswith("worker 0 failed with OutOfMemoryError: of 2 GiB; ")
    assert "GiB were expected of a worker; less: training." in caught.value.message


def test_what_else_goes_wrong_is_told_as_it_is(tmp_path: Path) -> None:
    request = a_request(tmp_path)

    with pytest.raises(TransientError, match=r"^gone$"), advice_on_memory(request):
        raise TransientError(Reason.KILLED, "gone")
