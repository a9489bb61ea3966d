"""The report's section about formats for devices, and their place among the measures."""

from exported import exported_format
from tunesmith_api.finetunejob.status import FineTuneJobStatus
from tunesmith_api.results import EvaluationResult
from tunesmith_cli.metrics import evaluation_table
from tunesmith_cli.report.exports import ExportsSection
from tunesmith_cli.report.job_data import JobData
from tunesmith_cli.report.measurements import Measurements
from tunesmith_engine.stages.contracts import StageResult

LOSSES = [
    EvaluationResult(suite="heldOut", split=split, metric="loss", value=value, base=base, n=4)
    for split, value, base in (("tuned", 2.0, 3.0), ("onnx-int4", 2.1, 2.0))
]


def job() -> JobData:
    result = StageResult(
        stage="export", key="1" * 64, attempt=1, outcome="Succeeded", reason="Succeeded",
        facts={"formats": [exported_format().model_dump(mode="json", by_alias=True)]},
        evaluation=LOSSES,
    )  # fmt: skip
    return JobData(name="helpdesk", status=FineTuneJobStatus(), results={"export": result})


def test_each_format_has_a_row_with_all_that_was_measured() -> None:
    section = ExportsSection(job())

    table = section.formats
    assert table is not None
    assert table.rows == [
        (
            "onnx int4", "90.0 MiB", "2.1", "+0.1000", "0.2", "100 of 256", "50", "400",
            "300.0 MiB", "onnxruntime-genai 0.18.0",
        )
    ]  # fmt: skip
    assert "64 held-out rows" in section.about
    assert "2 threads" in section.about


def test_a_job_without_formats_has_no_such_section() -> None:
    assert ExportsSection(JobData(name="a", status=FineTuneJobStatus())).formats is None


def test_formats_stand_beside_the_tuned_model_and_in_no_column_of_their_own() -> None:
    measured = Measurements(job())

    table = measured.evaluation
    assert table is not None
    assert [(row[1], row[4]) for row in table.rows] == [("tuned", "base"), ("onnx-int4", "tuned")]
    assert len(measured.intervals) == 1
    assert "onnx-int4" not in evaluation_table(LOSSES)
