"""One look at a job: what is stored, what is started, in which order, and what comes after."""

import asyncio
import json
from typing import Any

import pytest
from kubernetes.aio.client.exceptions import ApiException

from job_double import KEY, READS, REPORT, SETTINGS, WRITES, JobDouble
from tunesmith_operator.controller.controller import Controller
from tunesmith_operator.finetunejob.attempts import attempts_of
from tunesmith_operator.finetunejob.controller import finetunejob_controller
from tunesmith_operator.finetunejob.parsing import parse_status
from tunesmith_operator.finetunejob.report import Report
from tunesmith_operator.finetunejob.step import AGAIN_S, RESYNC_S, STOPPING_S
from tunesmith_operator.kube.api_errors import CONFLICT, FORBIDDEN, NOT_FOUND

QUOTA = '{"message": "exceeded quota: small"}'
GOING = '{"message": "no", "details": {"causes": [{"reason": "NamespaceTerminating"}]}}'


class Refusing(JobDouble):
    """A server that refuses to create Jobs, for as long as it is told to."""

    refusal: ApiException | None = None

    async def create(self, manifest: dict[str, Any]) -> bool:
        if manifest["kind"] == "Job" and self.refusal is not None:
            self.requests.append("refused")
            raise self.refusal
        return await super().create(manifest)


def forbidden(text: str) -> ApiException:
    return ApiException(status=FORBIDDEN, reason=f"POST /x: {text}")


def told_of(double: JobDouble) -> Controller:
    """A controller that has watched the creation of the job."""
    controller = finetunejob_controller(double, SETTINGS, double.recorder)
    controller.objects.note(KEY, double.job, is_created=True)
    return controller


def look(double: JobDouble, controller: Controller | None = None) -> float | None:
    """One look, by an operator that knows nothing yet unless one is given."""
    controller = controller or finetunejob_controller(double, SETTINGS, double.recorder)
    return asyncio.run(double.look(controller))


def started(**spec: Any) -> JobDouble:
    double = JobDouble(**spec)
    look(double)
    double.requests.clear()
    return double


def reasons(double: JobDouble) -> set[str]:
    return {condition["reason"] for condition in double.status["conditions"]}


def test_the_status_is_stored_before_anything_is_made_and_told_afterwards() -> None:
    double = JobDouble()
    look(double)
    first, *_, made, told = [request.split()[:2] for request in double.asked(*WRITES)]

    assert first == ["patch_status", "FineTuneJob"]
    assert (made, told) == (["create", "Job"], ["create", "Event"])
    assert double.status["phase"] == "Preparing"


def test_for_a_job_whose_creation_was_watched_no_child_is_looked_for() -> None:
    double = JobDouble()
    look(double, told_of(double))
    reads = double.asked(*READS)

    assert not any(request.startswith(("get Job", "list", "get FineTuneJob")) for request in reads)
    assert len(double.names("Job")) == 1


def test_a_job_whose_creation_was_watched_and_has_a_child_all_the_same_is_observed() -> None:
    """A start of another operator came late."""
    double = JobDouble()
    controller = told_of(double)
    late = {"metadata": {"name": "helpdesk--prepare-1-aaaaa"}}
    controller.children.note(KEY, "Job", late, is_gone=False)
    look(double, controller)

    assert any(request.startswith("list Job") for request in double.asked("list"))


def test_nothing_is_done_for_a_job_that_is_gone_or_going() -> None:
    going, gone = JobDouble(), JobDouble()
    going.job["metadata"]["deletionTimestamp"] = "2026-11-26T00:00:00Z"
    del gone.objects[KEY]

    assert (look(going), look(gone)) == (None, None)
    assert going.asked(*WRITES) == gone.asked(*WRITES) == []


def test_of_two_operators_that_look_at_once_one_is_refused_and_starts_nothing() -> None:
    double = JobDouble()
    first, second = told_of(double), told_of(double)
    look(double, first)
    double.requests.clear()
    with pytest.raises(ApiException) as refused:
        look(double, second)

    assert refused.value.status == CONFLICT
    assert [request.split()[0] for request in double.asked(*WRITES)] == ["patch_status"]


def test_after_a_look_that_failed_the_job_is_read_as_it_is_stored() -> None:
    double = JobDouble()
    controller = told_of(double)
    look(double)
    double.requests.clear()
    with pytest.raises(ApiException):
        look(double, controller)
    from_the_copy = double.asked("get")
    look(double, controller)

    assert "get FineTuneJob helpdesk" not in from_the_copy
    assert double.asked("get")[0] == "get FineTuneJob helpdesk"


def test_a_start_that_is_repeated_is_confirmed_to_be_of_the_present_first() -> None:
    """A crash came between the status and the child; the status has nothing new to say."""
    double = started()
    (job,) = double.names("Job")
    del double.objects["Job", "ns", job]
    look(double)
    writes = [request.split()[:2] for request in double.asked(*WRITES)]

    assert writes[0] == ["patch_status", "FineTuneJob"]
    assert writes[-1] == ["create", "Job"]
    assert double.names("Job") == [job]


def test_a_start_that_is_repeated_from_a_past_version_is_not_made() -> None:
    double = started()
    (job,) = double.names("Job")
    del double.objects["Job", "ns", job]
    controller = finetunejob_controller(double, SETTINGS, double.recorder)
    controller.objects.note(KEY, double.job, is_created=False)
    double.change(*KEY, {"spec": {"suspend": True}})
    with pytest.raises(ApiException) as refused:
        look(double, controller)

    assert refused.value.status == CONFLICT
    assert double.names("Job") == []


def test_a_spec_that_this_release_cannot_read_is_refused_once_for_each_generation() -> None:
    double = JobDouble()
    double.change(*KEY, {"spec": {"ofALaterRelease": 1}})
    double.requests.clear()
    waits = [look(double), look(double)]
    writes = [request.split()[:2] for request in double.asked(*WRITES)]

    assert waits == [None, None]
    assert double.status["phase"] == "Failed"
    assert reasons(double) >= {"InvalidSpec"}
    assert writes == [["patch_status", "FineTuneJob"], ["create", "Event"]]


def test_a_step_that_the_server_forbids_is_said_in_the_job_and_tried_again() -> None:
    double = Refusing()
    double.refusal = forbidden(QUOTA)
    with pytest.raises(ApiException):
        look(double)
    ready = next(c for c in double.status["conditions"] if c["type"] == "Ready")

    assert ready["reason"] == "Forbidden"
    assert "exceeded quota: small" in ready["message"]


def test_while_a_step_stays_forbidden_nothing_new_is_said_and_afterwards_it_is_taken_back() -> None:
    double = Refusing()
    double.refusal = forbidden(QUOTA)
    for _ in range(2):
        with pytest.raises(ApiException):
            look(double)
    version = double.job["metadata"]["resourceVersion"]
    double.requests.clear()
    with pytest.raises(ApiException):
        look(double)
    unchanged = double.job["metadata"]["resourceVersion"]
    double.refusal = None
    double.requests.clear()
    look(double)
    writes = [request.split()[:2] for request in double.asked(*WRITES)]

    assert unchanged == version
    assert "Forbidden" not in reasons(double)
    # First it has to work, then it is said.
    assert writes.index(["create", "Job"]) < len(writes) - 1
    assert writes[-1] == ["patch_status", "FineTuneJob"]


@pytest.mark.parametrize("status", [400, 413, 422])
def test_what_the_server_finds_invalid_fails_the_job_at_once_with_its_words(status: int) -> None:
    double = Refusing()
    said = 'Job.batch "x" is invalid: spec.template.spec.nodeSelector: Invalid value: "a..b/x"'
    double.refusal = ApiException(status=status, reason=f"POST /x: {json.dumps({'message': said})}")

    assert look(double) is None
    failed = next(c for c in double.status["conditions"] if c["type"] == "Failed")
    assert (failed["status"], failed["reason"]) == ("True", "InvalidSpec")
    assert "a..b/x" in failed["message"]
    double.requests.clear()
    look(double)
    assert double.asked(*WRITES) == []


def test_a_job_that_could_not_start_is_taken_up_again_once_it_is_corrected() -> None:
    double = Refusing()
    double.refusal = ApiException(status=422, reason="POST /x: no")
    look(double)
    double.refusal = None
    double.change(*KEY, {"spec": {"resources": {"nodeSelector": {"a": "b"}}}})
    look(double)

    assert len(double.names("Job")) == 1
    assert "InvalidSpec" not in reasons(double)


@pytest.mark.parametrize("status", [FORBIDDEN, NOT_FOUND])
def test_what_a_person_can_mend_elsewhere_is_told_and_tried_again(status: int) -> None:
    double = Refusing()
    double.refusal = ApiException(status=status, reason='POST /x: {"message": "no such thing"}')
    with pytest.raises(ApiException):
        look(double)

    ready = next(c for c in double.status["conditions"] if c["type"] == "Ready")
    assert ready["reason"] == "Forbidden"
    assert "no such thing" in ready["message"]


def test_a_name_that_somebody_else_has_taken_is_told() -> None:
    double = JobDouble()
    kind, namespace, name = REPORT
    metadata = {"name": name, "namespace": namespace}
    double.put({"apiVersion": "v1", "kind": kind, "metadata": metadata})
    with pytest.raises(ApiException):
        look(double)

    ready = next(c for c in double.status["conditions"] if c["type"] == "Ready")
    assert "ConfigMap helpdesk-tunesmith is there already" in ready["message"]


def test_a_namespace_that_is_going_takes_its_jobs_along_and_nothing_is_said() -> None:
    double = Refusing()
    double.refusal = forbidden(GOING)

    assert look(double) is None
    assert "Forbidden" not in reasons(double)


def test_an_event_that_cannot_be_written_is_lost_and_holds_nothing_up() -> None:
    class Mute(JobDouble):
        async def create(self, manifest: dict[str, Any]) -> bool:
            if manifest["kind"] == "Event":
                raise ApiException(status=FORBIDDEN, reason="no")
            return await super().create(manifest)

    double = Mute()
    look(double)

    assert len(double.names("Job")) == 1


def test_an_attempt_that_is_stopped_is_looked_at_again_soon_although_nothing_is_heard() -> None:
    double = started()
    double.change(*KEY, {"spec": {"suspend": True}})
    after_s = look(double)

    assert after_s is not None
    assert after_s <= STOPPING_S
    assert double.names("Job") == []


def test_what_earlier_attempts_told_is_taken_from_the_report_once_another_was_started() -> None:
    """A job that is stopped and taken up for months would else outgrow its ConfigMap."""
    double = started()
    told = double.request_of(*double.names("Job")).report.rsplit("/", 1)[1]
    theirs = "prepare-1-zzzzz.progress"
    double.change(*REPORT, {"data": {told: "{}", theirs: "?"}})
    for is_suspended in (True, True, False, False):
        double.change(*KEY, {"spec": {"suspend": is_suspended}})
        look(double)
    (job,) = double.names("Job")
    new = double.request_of(job)
    double.report(new)
    double.end(job)
    look(double)
    double.requests.clear()
    look(double)

    assert double.asked("patch") == []
    assert set(double.objects[REPORT]["data"]) == {theirs, new.result.rsplit("/", 1)[1]}
    assert double.status["stages"][0]["state"] == "Succeeded"


@pytest.mark.parametrize("status", [NOT_FOUND, 422])
def test_a_report_that_goes_before_it_is_cleaned_is_no_fault_of_the_job(
    monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    double = started()
    told = double.request_of(*double.names("Job")).report.rsplit("/", 1)[1]
    double.change(*REPORT, {"data": {told: "{}"}})

    async def gone(*_: object) -> None:
        double.requests.append("patch")
        raise ApiException(status=status, reason="gone")

    monkeypatch.setattr(double, "patch", gone)
    for is_suspended in (True, True, False, False):
        double.change(*KEY, {"spec": {"suspend": is_suspended}})
        look(double)

    assert "patch" in double.requests
    assert double.status["phase"] == "Preparing"


def test_a_look_from_the_past_takes_nothing_from_the_report_that_counts() -> None:
    double = started()
    past = parse_status(double.job)
    for is_suspended in (True, True, False):
        double.change(*KEY, {"spec": {"suspend": is_suspended}})
        look(double)
    (job,) = double.names("Job")
    double.report(double.request_of(job))
    report = Report.of(double.objects[REPORT], uid=double.owner.uid)

    assert report.removal_of_outdated(attempts_of(double.plan, past)) is None


def test_a_start_that_finds_its_child_there_is_looked_at_again_at_once() -> None:
    double = started()
    double.job["status"] = {}
    first = look(double)

    assert first == AGAIN_S


def test_a_job_that_is_over_long_enough_is_deleted_as_it_was_seen() -> None:
    double = JobDouble(ttlSecondsAfterFinished=0)
    for _ in range(20):
        look(double)
        for name in double.names("Job"):
            if "status" not in double.objects["Job", "ns", name]:
                double.report(double.request_of(name))
                double.end(name)
        if KEY not in double.objects:
            break

    assert double.asked("delete")[-1] == "delete FineTuneJob helpdesk"
    assert KEY not in double.objects


def test_what_the_operator_wrote_itself_is_not_read_again_when_it_is_told() -> None:
    double = JobDouble()
    controller = told_of(double)
    look(double, controller)
    controller.objects.note(KEY, double.job, is_created=False)
    double.requests.clear()
    look(double, controller)

    assert "get FineTuneJob helpdesk" not in double.asked("get")


LOST = [{"operation": "Apply", "fieldsV1": {"f:spec": {"f:training": {"f:novelty": {}}}}}]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"metadata": {"managedFields": LOST}}, "spec.training was given under another"),
        (
            {"status": {"stages": [{"name": "prepare", "key": "k", "state": "New"}]}},
            "status.stages",
        ),
    ],
)
def test_what_another_release_has_written_is_left_alone_and_told_of_once(
    change: dict[str, Any], said: str
) -> None:
    """A write would make final what the definitions installed now have dropped."""
    double = started()
    double.change(*KEY, change)
    controller = finetunejob_controller(double, SETTINGS, double.recorder)
    controller.objects.note(KEY, double.job, is_created=False)
    before = double.job
    told = set(double.names("Event"))
    first, second = look(double, controller), look(double)
    (event,) = set(double.names("Event")) - told

    assert first == second == RESYNC_S
    assert double.job == before
    assert double.objects["Event", "ns", event]["message"].startswith(said)
    assert {request.split()[1] for request in double.asked(*WRITES)} == {"Event"}


def test_a_job_that_is_over_does_not_mind_what_was_dropped_since() -> None:
    double = JobDouble(ttlSecondsAfterFinished=0)
    double.change(*KEY, {"status": {"phase": "Failed", "observedGeneration": 1}})
    double.change(*KEY, {"metadata": {"managedFields": LOST}})
    look(double)

    assert "OtherRelease" not in str(double.objects)
