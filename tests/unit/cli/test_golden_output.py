"""What `plan`, `status` and the end of `run` print, word for word."""

from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path
from textwrap import dedent

import pytest
import yaml

from job_folders import STARTED, JobFolder, a_failed_job, a_finished_job, a_running_job, add_stage
from manifests import DEFAULT_STAGES, a_job
from small_models import write_model
from tunesmith_api.manifest import load_job
from tunesmith_api.reasons import Reason
from tunesmith_api.results import EvaluationResult
from tunesmith_cli.commands.plan import (
    Machine,
    PlanView,
    plan_as_json,
    plan_as_text,
    read_plan,
)
from tunesmith_cli.commands.run import Summary, summary_as_json, summary_as_text
from tunesmith_cli.commands.status import status_as_text
from tunesmith_cli.hints import hint_for
from tunesmith_cli.inputs import open_manifest
from tunesmith_cli.job_list import NamedStatus, jobs_as_text, status_as_json
from tunesmith_cli.main import main
from tunesmith_cli.metrics import evaluation_table
from tunesmith_cli.report.job_data import read_job_data
from tunesmith_cli.terminal.style import Style, paragraph
from tunesmith_engine.estimates import Estimate
from tunesmith_engine.local.data_description import DataDescription
from tunesmith_engine.local.environments import Environments
from tunesmith_engine.local.home_folder import HomeFolder
from tunesmith_engine.planning.defaults import describe
from tunesmith_engine.planning.plan import plan
from tunesmith_engine.stages.catalog import (
    COMPRESS,
    EVALUATE,
    PREPARE,
    PUBLISH,
    TRAIN,
    VERIFY,
)
from tunesmith_engine.stages.contracts import StageResult
from tunesmith_engine.stages.memory_fit import TrainingFit
from tunesmith_engine.stages.reporter import write_atomically
from tunesmith_engine.stages.training_memory import WorkerMemory

PLAIN = Style(has_colour=False)
GIB = 1 << 30
SPEED = (
    "tokens/s of W8A8 are measured beside the unquantized model: verify loads vLLM once more, "
    "45 to 120 s for a small model (verification.measureSpeed: false spares it)"
)


@pytest.fixture
def view() -> PlanView:
    """A plan of which prepare is done before, on a machine with too little memory to train."""
    job = load_job(yaml.safe_dump(a_job(training={"epochs": 2})))
    memory = {PREPARE.name: GIB, TRAIN.name: 20 * GIB}
    fit = TrainingFit(
        micro_batch_size=2,
        accumulated=8,
        gradient_checkpointing="every2",
        worker=WorkerMemory(GIB, 2 * GIB, GIB, 2 * GIB, 9 * GIB, GIB, 3 * GIB),
        ways=(),
        num_workers=1,
        on_accelerators=False,
    )
    return PlanView(
        plan=plan(job, fingerprints={"model": "m", "dataset.train": "d"}),
        is_cached={name: name == PREPARE.name for name in DEFAULT_STAGES},
        settings=describe(job.spec),
        estimate=Estimate(memory_bytes=memory, disk_bytes=2 * GIB, fit=fit),
        machine=Machine(memory_bytes=16 * GIB, free_disk_bytes=100 * GIB),
    )


def test_a_plan_says_which_settings_matter_in_a_cluster_only() -> None:
    job = load_job(yaml.safe_dump(a_job(queueName="team", resources={"spot": True})))
    settings = {setting.path: setting for setting in describe(job.spec)}

    assert settings["queueName"].is_for_clusters
    assert settings["resources.spot"].is_for_clusters
    assert not settings["resources.workers"].is_for_clusters


def test_a_plan_lists_stages_settings_and_needs(view: PlanView) -> None:
    keys = {stage.name: stage.short_key for stage in view.plan.stages}
    text = plan_as_text(view)

    assert text.startswith(
        dedent(f"""\
        helpdesk: 6 stages, 1 done before

        stage     environment  key               state
        prepare   trainer      {keys[PREPARE.name]}  done before
        train     trainer      {keys[TRAIN.name]}  to do
        evaluate  trainer      {keys[EVALUATE.name]}  to do
        compress  compressor   {keys[COMPRESS.name]}  to do
        verify    server       {keys[VERIFY.name]}  to do
        publish   trainer      {keys[PUBLISH.name]}  to do

        setting """)
    )
    assert text.endswith(
        dedent("""\
        needs              at most   this machine
        memory of prepare  1.0 GiB   16.0 GiB
        memory of train    20.0 GiB  16.0 GiB        too much
        disk               2.0 GiB   100.0 GiB free

        a step of training: 8 x 2 rows on each worker, gradientCheckpointing: every2

        memory of a worker  at its peak
        libraries           1.0 GiB
        weights             2.0 GiB
        gradients           1.0 GiB
        optimizer           2.0 GiB
        activations         9.0 GiB
        loss                1.0 GiB
        unused              3.0 GiB
        all                 19.0 GiB

        """)
        + SPEED
    )


def test_a_plan_says_of_every_setting_who_decides_it(view: PlanView) -> None:
    rows = {line.split()[0]: " ".join(line.split()[1:]) for line in _lines(plan_as_text(view))}

    assert rows["resources.spot"] == "default false in a cluster only"
    assert rows["training.epochs"] == "manifest 2.0"
    assert rows["training.lora.alpha"] == "default 32.0"
    assert rows["checkpoint.everySteps"] == "decided by the job a tenth of all steps"
    assert rows["model.chatTemplate"] == "decided by the job the model's own"


def test_a_plan_names_the_format_that_prepare_found(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": "a row"}\n')
    write_model(tmp_path / "model")
    job = a_job(model={"uri": "file://model"}, dataset={"train": {"uri": "file://rows.jsonl"}})
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
    manifest, home = open_manifest(tmp_path / "job.yaml"), HomeFolder(tmp_path / "home")
    nowhere = Environments(tmp_path, has_library=lambda _: False)
    before = read_plan(manifest, home=home, environments=nowhere)
    prepare = before.plan.stage(PREPARE.name)
    result = StageResult(
        stage=prepare.name,
        key=prepare.key,
        attempt=1,
        outcome="Succeeded",
        reason=Reason.SUCCEEDED,
        facts={"format": "text", "longestRow": 3},
    )
    path = home.stage("helpdesk", stage=prepare.name, key=prepare.key).result
    write_atomically(path, result.model_dump_json(by_alias=True))

    after = read_plan(manifest, home=home, environments=nowhere)

    formats = [
        setting.value
        for view in (before, after)
        for setting in view.settings
        if setting.path == "dataset.format"
    ]
    assert formats == ["auto", "auto: text"]


def test_a_plan_says_what_the_data_looks_like(view: PlanView) -> None:
    data = DataDescription("a.csv.gz", 2, "gzip", "csv", ";", "promptCompletion")
    unknown = DataDescription("a.csv", syntax="csv", separator="\t", problem="no such format")

    assert plan_as_json(replace(view, data=data))["data"] == asdict(data)
    assert list(_lines(plan_as_text(replace(view, data=data))))[1] == (
        "data: a.csv.gz: csv with ';', gzip; rows of promptCompletion, and 2 more files"
    )
    assert list(_lines(plan_as_text(replace(view, data=unknown))))[1] == (
        "data: a.csv: csv with tabs; rows of no known format"
    )


def test_a_plan_of_data_that_prepare_refuses_ends_as_a_run_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows.csv").write_text("question;answer\nOn?;Yes.\n")
    write_model(tmp_path / "model")
    job = a_job(model={"uri": "file://model"}, dataset={"train": {"uri": "file://rows.csv"}})
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
    python = tmp_path / "environments" / "trainer" / "bin" / "python"
    python.parent.mkdir(parents=True)
    # In the place of the trainer: what it answers is tested beside its formats.
    python.write_text('#!/bin/sh\necho \'{"syntax": "csv", "separator": ";", "problem": "no!"}\'\n')
    python.chmod(0o755)
    monkeypatch.setenv("TUNESMITH_ENVIRONMENTS", str(tmp_path / "environments"))

    code = main(["plan", str(tmp_path / "job.yaml"), "--home", str(tmp_path / "home")])

    said = capsys.readouterr()
    assert (code, said.err) == (2, "error: no!\n")
    assert "data: rows.csv: csv with ';'" in said.out


def test_a_plan_without_the_model_says_that_its_needs_are_not_known(view: PlanView) -> None:
    unknown = PlanView(
        plan=view.plan,
        is_cached=view.is_cached,
        settings=view.settings,
        estimate=None,
        machine=view.machine,
    )

    assert plan_as_text(unknown).endswith(
        "needs: not known before the model lies on this machine; prepare checks them\n\n" + SPEED
    )
    assert plan_as_json(unknown)["estimate"] is None


def test_a_plan_as_json_has_whole_keys_and_bytes(view: PlanView) -> None:
    printed = plan_as_json(view)

    assert printed["job"] == "helpdesk"
    assert isinstance(printed["stages"], list)
    assert printed["stages"][0] == {
        "name": "prepare",
        "environment": "trainer",
        "key": view.plan.stages[0].key,
        "cached": True,
    }
    assert printed["estimate"] == {
        "memoryBytes": {"prepare": GIB, "train": 20 * GIB},
        "diskBytes": 2 * GIB,
        "microBatchSize": 2,
        "accumulated": 8,
        "gradientCheckpointing": "every2",
        "workerBytes": asdict(view.estimate.fit.worker) if view.estimate else None,
        "speedSeconds": [45, 120],
        "draftShare": None,
    }


def test_a_plan_with_a_draft_says_what_has_to_be_guessed_before_it_pays(view: PlanView) -> None:
    assert view.estimate is not None
    pair = replace(view, estimate=replace(view.estimate, draft_share=0.3686))

    told = plan_as_text(pair).rpartition("\n\n")[2]
    assert told.startswith("the draft has 36.9 % of the parameters of its model")
    assert "more than 36.9 % of the guesses are taken" in told
    assert "the draft" not in plan_as_text(view)


def test_the_status_of_a_failed_job_says_why_and_what_to_do(tmp_path: Path) -> None:
    assert status_as_text(_named(a_failed_job(tmp_path)), style=PLAIN) == dedent("""\
        refused: Failed
          EvaluationGateFailed: heldOut loss is 3.1, 0.2 above the base's 2.9; the gate allows 0
          What to do: if the held-out loss rose, lower training.optimizer.learningRate or \
training.epochs; if it hardly fell, raise them or add rows; or change the bound in \
evaluation.gates

        stage     state   attempt  time
        prepare   done    1        6.2 s       Succeeded
        train     done    1        2 min 31 s  Succeeded
        evaluate  failed  1        20 s        heldOut loss is 3.1, 0.2 above the base's 2.9; \
the gate allows 0

        measure                 base  tuned  interval     as shipped  interval
        Held-out rows: loss     3.8   3.31   3 – 3.73
        Held-out rows: ROUGE-L  0.12  0.42   0.31 – 0.55
        General text: loss      2.98  3.92   3.85 – 4

        warning  3 held-out rows: the intervals are wide""")


def test_a_split_of_a_stage_of_its_own_gets_its_columns(tmp_path: Path) -> None:
    job = a_failed_job(tmp_path)
    add_stage(job, "sharpen", evaluation=[
        EvaluationResult(suite="heldOut", split="sharpened", metric="loss", value=2.6, n=3),
        EvaluationResult(suite="planted", split="sharpened", metric="recall", value=0.9,
                         base=0.4, n=40),
    ])  # fmt: skip

    assert evaluation_table(job.status.evaluation) == dedent("""\
        measure                 base  tuned  interval     as shipped  interval  sharpened  interval
        Held-out rows: loss     3.8   3.31   3 – 3.73                           2.6
        Held-out rows: ROUGE-L  0.12  0.42   0.31 – 0.55
        General text: loss      2.98  3.92   3.85 – 4
        planted: recall         0.4                                             0.9""")


def test_the_status_of_a_running_job_shows_its_progress(tmp_path: Path) -> None:
    job = _named(a_running_job(tmp_path), is_running=True)

    assert status_as_text(job, style=PLAIN) == dedent("""\
        running: Training

        stage    state    attempt  time
        prepare  done     1        6.2 s  Succeeded
        train    running  1        40 s   training 12/30 · 1 min 05 s left · loss 2.31 · \
held-out 2.4 · 310.2 tokens/s""")


def test_a_job_whose_run_died_says_that_no_run_is_going_on(tmp_path: Path) -> None:
    text = status_as_text(_named(a_running_job(tmp_path)), style=PLAIN)

    assert text.startswith("running: Training (no run is going on)\n")


def test_the_list_of_jobs_has_a_line_for_each(tmp_path: Path) -> None:
    jobs = [_named(a_finished_job(tmp_path)), _named(a_running_job(tmp_path), is_running=True)]

    assert jobs_as_text(jobs, now=STARTED + timedelta(hours=50)) == dedent("""\
        job       phase      progress  held-out loss  version                age
        helpdesk  Succeeded            2.41           helpdesk-1a2b3c4d5e6f  2 d
        running   Training   31 %                                            2 d""")


def test_a_status_as_json_is_the_status_with_the_name(tmp_path: Path) -> None:
    job = a_failed_job(tmp_path)

    printed = status_as_json(_named(job))

    assert printed["job"] == "refused"
    assert printed["running"] is False
    assert printed["phase"] == "Failed"
    assert printed["completionTime"] == "2026-11-24T11:08:00.700000Z"


def test_the_end_of_a_run_says_what_came_out_and_what_to_do_next(tmp_path: Path) -> None:
    job = a_finished_job(tmp_path)
    where = job.folder / "stages/publish" / f"{_key(job, 'publish')}/artifacts/helpdesk"

    assert summary_as_text(_summary(job), style=PLAIN) == dedent(f"""\
        helpdesk: Succeeded in 4 min 51 s

        measure                 base  tuned  interval     as shipped  interval
        Held-out rows: loss     3.8   2.41   2.1 – 2.83   2.42        2.11 – 2.84
        Held-out rows: ROUGE-L  0.12  0.42   0.31 – 0.55  0.42        0.31 – 0.55
        General text: loss      2.98  3.02   2.95 – 3.1   3.03        2.96 – 3.11

        warning  3 held-out rows: the intervals are wide

        model   {where}/1a2b3c4d5e6f (13 bytes)
        report  report.html
        next    tunesmith serve helpdesk --home here""")


def test_the_end_of_a_failed_run_says_why_and_where_the_log_is(tmp_path: Path) -> None:
    text = summary_as_text(_summary(a_failed_job(tmp_path), log=Path("log.txt")), style=PLAIN)

    assert text.startswith(
        "refused: Failed in 3 min 01 s\n"
        "  EvaluationGateFailed: heldOut loss is 3.1, 0.2 above the base's 2.9; the gate allows 0\n"
        f"  What to do: {hint_for(Reason.EVALUATION_GATE_FAILED)}\n"
    )
    assert text.endswith("log     log.txt\nreport  report.html")


def test_problems_of_the_data_stand_below_each_other() -> None:
    said = "rows.jsonl:1: given 'a\x1b[2J'; mend it\nrows.jsonl:7: given 'b'; mend it"

    assert paragraph(said, indent="    ") == (
        "rows.jsonl:1: given 'a [2J'; mend it\n    rows.jsonl:7: given 'b'; mend it"
    )


def test_the_one_object_of_a_run_has_the_promised_fields(tmp_path: Path) -> None:
    printed = summary_as_json(_summary(a_finished_job(tmp_path)))

    assert set(printed) == {
        "job", "phase", "reason", "message", "conditions", "evaluation", "artifacts", "stages",
        "warnings", "report", "modelVersion",
    }  # fmt: skip
    assert (printed["phase"], printed["reason"]) == ("Succeeded", "Succeeded")
    assert printed["modelVersion"] == "helpdesk-1a2b3c4d5e6f"


def test_text_from_a_model_cannot_steer_the_terminal(tmp_path: Path) -> None:
    job = a_failed_job(tmp_path)
    job.status = job.status.model_copy(update={"warnings": ["\x1b[2Jgone\nand more"]})

    assert "\x1b" not in summary_as_text(_summary(job), style=PLAIN)
    assert "\x1b" not in status_as_text(_named(job), style=PLAIN)


def _named(job: JobFolder, *, is_running: bool = False) -> NamedStatus:
    return NamedStatus(name=job.folder.name, status=job.status, is_running=is_running)


def _summary(job: JobFolder, *, log: Path | None = None) -> Summary:
    return Summary(
        job=read_job_data(job.folder, job.status),
        report=Path("report.html"),
        log=log,
        home_option=" --home here",
    )


def _key(job: JobFolder, stage: str) -> str:
    return next(status.key for status in job.status.stages if status.name == stage)[:16]


def _lines(text: str) -> Iterator[str]:
    return (line for line in text.splitlines() if line.strip())
