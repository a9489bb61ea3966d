"""A changed field runs again what follows from it, and nothing else."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from pydantic import BaseModel

from manifests import DEFAULT_STAGES, a_job
from tunesmith_api.field_paths import records_in
from tunesmith_api.finetunejob.job import FineTuneJob
from tunesmith_api.finetunejob.spec import FineTuneJobSpec
from tunesmith_engine.planning.keys import WITHOUT_INFLUENCE, spec_digests
from tunesmith_engine.planning.plan import plan
from tunesmith_engine.stages.catalog import (
    CATALOG,
    COMPRESS,
    EVALUATE,
    PREPARE,
    PUBLISH,
    TRAIN,
    VERIFY,
)
from tunesmith_engine.stages.contracts import StageName

FINGERPRINTS = {
    "model": "m",
    "dataset.train": "t",
    "dataset.validation": "v",
    "evaluation.generalText": "g",
}
ALL = DEFAULT_STAGES

ROWS = {"uri": "s3://tickets/2026-11.jsonl"}
TASKS = {"name": "arc", "uri": "s3://tasks", "task": "arc_local"}
ENDPOINT = {"url": "https://api.example.com/v1", "model": "large"}
REMOTE = {"model": "helpdesk", "uri": "s3://models"}
HUB = "hf://HuggingFaceTB/SmolLM2-135M-Instruct"

# A change of the spec, and the first stage that has to run again; None: no stage.
CHANGES: list[tuple[dict[str, Any], StageName | None]] = [
    ({"model": {"uri": HUB, "revision": "v2"}}, PREPARE.name),
    ({"dataset": {"train": ROWS, "seed": 1}}, PREPARE.name),
    ({"dataset": {"train": ROWS, "columns": {"prompt": "q"}}}, PREPARE.name),
    ({"training": {"sequenceLength": 512}}, PREPARE.name),
    # It decides which rows are refused.
    ({"training": {"objective": "dpo"}}, PREPARE.name),
    ({"training": {"dpo": {"beta": 0.5}}}, TRAIN.name),
    ({"training": {"lora": {"rank": 8}}}, TRAIN.name),
    ({"training": {"seed": 1}}, TRAIN.name),
    ({"resources": {"workers": 2}}, TRAIN.name),
    ({"resources": {"minWorkers": 1}}, TRAIN.name),
    ({"resources": {"accelerator": "amd.com/gpu"}}, TRAIN.name),
    ({"resources": {"nodeSelector": {"pool": "gpu"}, "spot": True, "memory": "8Gi"}}, None),
    ({"workspace": {"size": "10Gi"}, "queueName": "team"}, None),
    # A workspace in a store needs such an output, which is what counts.
    ({"workspace": {"uri": "s3://jobs"}, "output": REMOTE}, PUBLISH.name),
    ({"evaluation": {"gates": []}}, EVALUATE.name),
    ({"evaluation": {"generation": {"maxSamples": 8}}}, EVALUATE.name),
    ({"evaluation": {"judge": {"endpoint": ENDPOINT}}}, EVALUATE.name),
    ({"evaluation": {"suites": [TASKS]}}, EVALUATE.name),
    ({"compression": {"quantize": {"scheme": "W4A16"}}}, COMPRESS.name),
    ({"compression": {"gate": {"fallback": "fail"}}}, COMPRESS.name),
    # A stage more, which compress reads.
    ({"compression": {"prune": {}}}, COMPRESS.name),
    # The reference that verify compares with is written by compress.
    ({"verification": {"prompts": 5}}, COMPRESS.name),
    ({"serving": {"maxModelLength": 512}}, COMPRESS.name),
    ({"verification": {"minAgreement": 0.8}}, VERIFY.name),
    ({"verification": {"measureSpeed": False}}, VERIFY.name),
    ({"serving": {"enforceEager": False}}, VERIFY.name),
    ({"output": {"model": "other"}}, PUBLISH.name),
    ({"output": {"model": "helpdesk", "version": "v1"}}, PUBLISH.name),
    ({"model": {"uri": HUB, "secretRef": {"name": "hub"}}}, None),
    ({"dataset": {"train": {**ROWS, "secretRef": {"name": "bucket"}}}}, None),
    ({"checkpoint": {"everySteps": 7, "keep": 5}}, None),
    ({"tracking": {"tensorboard": True, "wandb": {"mode": "offline"}}}, None),
    ({"suspend": True, "backoffLimit": 9, "activeDeadlineSeconds": 60}, None),
    # A default written out is the same job.
    ({"training": {"epochs": 3, "lora": {"rank": 16, "alpha": 32}}}, None),
    ({"training": {"optimizer": {"learningRate": 0.0002}}}, None),
    ({"compression": {"gate": {"minRecovery": 0.99}}}, None),
]


def keys_of(*, fingerprints: dict[str, str] = FINGERPRINTS, **spec: Any) -> dict[StageName, str]:
    job = FineTuneJob.model_validate(a_job(**spec))
    return {stage.name: stage.key for stage in plan(job, fingerprints=fingerprints).stages}


def changed(before: dict[StageName, str], after: dict[StageName, str]) -> tuple[StageName, ...]:
    return tuple(stage for stage in ALL if before[stage] != after[stage])


def from_stage(first: StageName | None) -> tuple[StageName, ...]:
    return ALL[ALL.index(first) :] if first else ()


@pytest.mark.parametrize(("spec", "first"), CHANGES, ids=[str(change) for change, _ in CHANGES])
def test_a_changed_field_changes_its_stage_and_what_follows(
    spec: dict[str, Any], first: StageName | None
) -> None:
    assert changed(keys_of(), keys_of(**spec)) == from_stage(first)


@pytest.mark.parametrize(
    ("source", "first"),
    [
        ("model", PREPARE.name),
        ("dataset.train", PREPARE.name),
        ("dataset.validation", PREPARE.name),
        # It is measured in training, too.
        ("evaluation.generalText", TRAIN.name),
    ],
)
def test_another_content_of_a_source_changes_what_reads_it(source: str, first: StageName) -> None:
    after = keys_of(fingerprints={**FINGERPRINTS, source: "other"})

    assert changed(keys_of(), after) == from_stage(first)


def test_another_content_of_a_suite_runs_evaluate_again() -> None:
    spec = {"evaluation": {"suites": [TASKS, TASKS | {"name": "other"}]}}
    marks = {**FINGERPRINTS, "evaluation.suites[0]": "a", "evaluation.suites[1]": "b"}
    before = keys_of(fingerprints=marks, **spec)

    after = keys_of(fingerprints={**marks, "evaluation.suites[1]": "c"}, **spec)

    assert changed(before, after) == from_stage(EVALUATE.name)


def test_who_may_ask_a_judge_and_how_often_changes_nothing() -> None:
    slow = {**ENDPOINT, "secretRef": {"name": "judge"}, "maxRequestsPerMinute": 60}
    before = keys_of(evaluation={"judge": {"endpoint": ENDPOINT}})

    assert keys_of(evaluation={"judge": {"endpoint": slow}}) == before


def test_who_may_read_a_suite_changes_nothing() -> None:
    with_secret = TASKS | {"secretRef": {"name": "bucket"}}

    assert keys_of(evaluation={"suites": [with_secret]}) == keys_of(evaluation={"suites": [TASKS]})


def test_only_publish_depends_on_the_name_of_the_job() -> None:
    job = FineTuneJob.model_validate({**a_job(), "metadata": {"name": "other"}})

    after = {stage.name: stage.key for stage in plan(job, fingerprints=FINGERPRINTS).stages}

    assert changed(keys_of(), after) == (PUBLISH.name,)


def test_keys_are_distinct_and_made_of_64_hexadecimal_digits() -> None:
    keys = keys_of().values()

    assert len(set(keys)) == len(ALL)
    assert all(len(key) == 64 and set(key) <= set("0123456789abcdef") for key in keys)


def spec_digests_of(**spec: Any) -> dict[StageName, str]:
    stages = plan(FineTuneJob.model_validate(a_job(**spec)), fingerprints=FINGERPRINTS).stages
    return {planned.name: planned.spec_digest for planned in stages}


def test_the_digest_of_what_a_stage_reads_of_the_spec_tells_that_stage_alone() -> None:
    before, after = spec_digests_of(), spec_digests_of(training={"lora": {"rank": 8}})

    assert changed(before, after) == (TRAIN.name,)


def test_a_default_that_is_written_out_and_who_may_read_change_no_such_digest() -> None:
    """A field that a release adds comes with its default, and must repeat nothing."""
    written = {"training": {"seed": FineTuneJobSpec.model_fields["training"].default.seed}}
    resources = {"resources": {"memory": "8Gi"}}

    assert spec_digests_of(**written, **resources) == spec_digests_of()


def leaves(record: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for field in record.model_fields.values():
        inner = [child for child, suffix in records_in(field.annotation) if not suffix]
        if inner:
            yield from leaves(inner[0], f"{prefix}{field.alias}.")
        else:
            yield f"{prefix}{field.alias}"


@pytest.mark.parametrize("leaf", list(leaves(FineTuneJobSpec)))
def test_every_field_belongs_to_one_stage_or_is_known_to_change_nothing(leaf: str) -> None:
    rows = [field for stage in CATALOG for field in stage.fields]

    found = [row for row in (*rows, *WITHOUT_INFLUENCE) if f"{leaf}.".startswith(f"{row}.")]

    assert len(found) == 1


def test_every_row_of_the_table_names_a_field() -> None:
    known = list(leaves(FineTuneJobSpec))
    rows = [field for stage in CATALOG for field in stage.fields]

    strangers = [
        row
        for row in (*rows, *WITHOUT_INFLUENCE)
        if not any(f"{leaf}.".startswith(f"{row}.") for leaf in known)
    ]

    assert strangers == []


SEARCH = {"parameters": [{"field": "training.lora.rank", "values": [8, 16]}]}


def test_a_search_runs_again_with_what_its_trials_depend_on() -> None:
    before = keys_of(search=SEARCH)
    other_training = keys_of(search=SEARCH, training={"optimizer": {"weightDecay": 0.1}})
    other_budget = keys_of(search={**SEARCH, "budget": {"maxTrials": 5}})
    other_gates = keys_of(search=SEARCH, evaluation={"gates": []})

    assert "search" not in keys_of()
    assert keys_of()["train"] != before["train"]
    for after in (other_training, other_budget):
        assert {"search", "train"} <= {name for name in before if before[name] != after[name]}
    assert before["search"] == other_gates["search"]


def test_a_path_that_a_release_adds_to_a_row_changes_no_digest_of_a_spec_without_it() -> None:
    """An upgrade between failure and retry would else repeat what is done."""
    spec = FineTuneJob.model_validate(a_job()).spec
    stages = CATALOG.applying(spec)
    older = [replace(stage, fields=stage.fields[:1]) for stage in stages]
    more = [replace(stage, fields=(*stage.fields[:1], "export")) for stage in stages]

    assert spec_digests(spec, more) == spec_digests(spec, older)
