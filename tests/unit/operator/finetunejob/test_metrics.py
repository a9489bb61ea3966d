"""Seconds of accelerators, counted once whatever happens to the status."""

from prometheus_client import CollectorRegistry

from tunesmith_api.finetunejob.status import FineTuneJobStatus
from tunesmith_operator.controller.work_queue import Key
from tunesmith_operator.finetunejob.metrics import JobMetrics

JOB = Key("FineTuneJob", "ml", "helpdesk-7")


def after(seconds: float) -> FineTuneJobStatus:
    return FineTuneJobStatus(gpu_seconds=seconds)


def test_what_a_job_used_since_the_last_status_is_counted_for_its_model() -> None:
    metrics, registry = JobMetrics(), CollectorRegistry()
    for collector in metrics.collectors:
        registry.register(collector)

    metrics.note(JOB, "helpdesk", before=None, after=after(2))
    metrics.note(JOB, "helpdesk", before=after(2), after=after(5))
    metrics.note(JOB, "helpdesk", before=after(5), after=after(0))

    labels = {"namespace": "ml", "model": "helpdesk"}
    assert registry.get_sample_value("tunesmith_job_gpu_seconds_total", labels) == 5
