"""Defaults that need no data are filled in; the others say by which rule they will be."""

from typing import Any

import pytest
from hypothesis import given, settings

from manifests import Manifest, a_job, jobs
from tunesmith_api.finetunejob.job import FineTuneJob
from tunesmith_api.finetunejob.rules import broken_rules
from tunesmith_api.finetunejob.spec import FineTuneJobSpec
from tunesmith_engine.planning.defaults import (
    OPEN_SETTINGS,
    SETTLED_PATHS,
    describe,
    settled,
    with_defaults,
)

TRAIN = {"uri": "s3://tickets/2026-11.jsonl"}


def spec_of(**spec: Any) -> FineTuneJobSpec:
    return FineTuneJob.model_validate(a_job(**spec)).spec


def values(**spec: Any) -> dict[str, tuple[str, str]]:
    return {each.path: (each.value, each.origin) for each in describe(spec_of(**spec))}


@pytest.mark.parametrize(
    ("spec", "path", "value"),
    [
        ({}, "training.lora.alpha", "32.0"),
        ({"training": {"lora": {"rank": 4}}}, "training.lora.alpha", "8.0"),
        ({"training": {"lora": {"alpha": 1}}}, "training.lora.alpha", "1.0"),
        ({}, "training.optimizer.learningRate", "0.0002"),
        ({"training": {"method": "full"}}, "training.optimizer.learningRate", "2e-05"),
        ({}, "training.epochs", "3.0"),
        ({"training": {"maxSteps": 9}}, "training.epochs", None),
        ({}, "dataset.validationFraction", "0.1"),
        ({"dataset": {"train": TRAIN, "validation": TRAIN}}, "dataset.validationFraction", None),
        ({}, "compression.gate.minRecovery", "0.99"),
        (
            {"compression": {"quantize": {"scheme": "W4A16"}}},
            "compression.gate.minRecovery",
            "0.97",
        ),
    ],
)
def test_a_default_follows_its_rule(spec: dict[str, Any], path: str, value: str | None) -> None:
    assert settled(spec_of(**spec)).get(path) == value


@settings(max_examples=12, deadline=None)
@given(manifest=jobs())
def test_filling_in_keeps_the_rules_and_is_done_once(manifest: Manifest) -> None:
    spec = FineTuneJobSpec.model_validate(manifest["spec"])

    filled = with_defaults(spec)

    assert {each.rule.name for each in broken_rules(filled)} <= {
        each.rule.name for each in broken_rules(spec)
    }
    assert with_defaults(filled) == filled


def test_what_was_given_is_told_from_what_was_not() -> None:
    told = values(training={"lora": {"rank": 16}})

    assert told["training.lora.rank"] == ("16", "given")
    assert told["training.lora.alpha"] == ("32.0", "default")
    assert told["training.evaluateEverySteps"] == ("a tenth of all steps", "open")


def test_a_given_value_of_an_open_field_is_shown_instead_of_its_rule() -> None:
    told = values(output={"model": "helpdesk", "version": "v1"})

    assert told["output.version"] == ("v1", "given")


@pytest.mark.parametrize("scheme", ["W4A16", "W8A8"])
def test_a_question_that_the_job_does_not_have_is_not_shown(scheme: str) -> None:
    told = values(compression={"quantize": {"scheme": scheme}})

    assert ("compression.quantize.groupSize" in told) == (scheme == "W4A16")


def test_lists_are_shown_as_json_without_unset_fields() -> None:
    text = '[{"suite": "heldOut", "metric": "loss", "maxDelta": 0.0}]'

    assert values()["evaluation.gates"] == (text, "default")


def test_open_and_settled_fields_exist_and_have_no_plain_default() -> None:
    paths = [*SETTLED_PATHS, *(each.path for each in OPEN_SETTINGS)]

    for path in paths:
        found: Any = spec_of()
        for name in path.split("."):
            found = (
                found.model_dump(by_alias=True)[name]
                if name == path.split(".")[-1]
                else (getattr(found, name))
            )
        assert found is None, path
