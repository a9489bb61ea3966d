"""Defaults that need no data are filled in; the others say by which rule they will be."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from manifests import Manifest, a_job, jobs
from tunesmith_api.field_markers import DecidedLater, PlannedDefault
from tunesmith_api.field_paths import records_in
from tunesmith_api.finetunejob.job import FineTuneJob
from tunesmith_api.finetunejob.rules import RULES
from tunesmith_api.finetunejob.spec import FineTuneJobSpec
from tunesmith_api.finetunejob.training import DEFAULT_LEARNING_RATES, Optimizer
from tunesmith_api.rules import broken_rules
from tunesmith_engine.planning.defaults import describe, settled

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


@settings(max_examples=12)
@given(manifest=jobs())
def test_filling_in_keeps_the_rules_and_is_done_once(manifest: Manifest) -> None:
    spec = FineTuneJobSpec.model_validate(manifest["spec"])

    filled = spec.with_defaults()

    assert {each.rule.name for each in broken_rules(filled, RULES)} <= {
        each.rule.name for each in broken_rules(spec, RULES)
    }
    assert filled.with_defaults() == filled


def filled_paths(record: BaseModel, prefix: str = "") -> Iterator[str]:
    for name, field in type(record).model_fields.items():
        value, path = getattr(record, name), f"{prefix}{field.alias}"
        if value is not None:
            yield path
        if isinstance(value, BaseModel):
            yield from filled_paths(value, f"{path}.")


def test_what_was_given_is_told_from_what_was_not() -> None:
    told = values(training={"lora": {"rank": 16}})

    assert told["training.lora.rank"] == ("16", "given")
    assert told["training.lora.alpha"] == ("32.0", "default")
    assert told["training.evaluateEverySteps"] == (
        "a tenth of all steps, or more where measuring costs half of the training",
        "open",
    )


def test_a_given_value_of_an_open_field_is_shown_instead_of_its_rule() -> None:
    told = values(output={"model": "helpdesk", "version": "v1"})

    assert told["output.version"] == ("v1", "given")


@pytest.mark.parametrize("scheme", ["W4A16", "W8A8"])
def test_a_question_that_the_job_does_not_have_is_not_shown(scheme: str) -> None:
    told = values(compression={"quantize": {"scheme": scheme}})

    assert ("compression.quantize.groupSize" in told) == (scheme == "W4A16")


def test_a_record_that_is_given_leaves_no_question_about_its_own_fields() -> None:
    told = values(evaluation={"generalText": {"uri": "hf://a/b"}})

    assert told["evaluation.generalText.uri"] == ("hf://a/b", "given")
    assert "evaluation.generalText.secretRef" not in told


def test_lists_are_shown_as_json_without_unset_fields() -> None:
    text = '[{"suite": "heldOut", "metric": "loss", "maxDelta": 0.0}]'

    assert values()["evaluation.gates"] == (text, "default")


def marked_fields(
    record: type[BaseModel], mark: type[PlannedDefault | DecidedLater], prefix: str = ""
) -> Iterator[tuple[str, FieldInfo]]:
    for field in record.model_fields.values():
        if any(isinstance(each, mark) for each in field.metadata):
            yield f"{prefix}{field.alias}", field
        for child, suffix in records_in(field.annotation):
            yield from marked_fields(child, mark, f"{prefix}{field.alias}{suffix}.")


@pytest.mark.parametrize("mark", [PlannedDefault, DecidedLater])
def test_a_field_that_is_decided_has_no_plain_default(
    mark: type[PlannedDefault | DecidedLater],
) -> None:
    """Its None is what says that nobody has decided yet."""
    marked = dict(marked_fields(FineTuneJobSpec, mark))

    assert marked
    assert {path: field.default for path, field in marked.items()} == dict.fromkeys(marked)


def test_planning_fills_in_the_fields_that_are_marked_so_and_no_other() -> None:
    """A mark without its default, or a default without its mark, is caught here."""
    guesses: list[dict[str, Any]] = [{}, {"method": "draftModel"}]
    guesses.append({"method": "draftModel", "draft": {}})
    filled = set[str]()
    for speculative in guesses:
        given = spec_of(compression={"prune": {}}, serving={"speculative": speculative})
        before, after = (set(filled_paths(spec)) for spec in (given, given.with_defaults()))
        new = after - before
        # A record that is filled in is one default, whatever it holds.
        filled |= {path for path in new if not any(path.startswith(f"{each}.") for each in new)}

    assert filled == dict(marked_fields(FineTuneJobSpec, PlannedDefault)).keys()


@pytest.mark.parametrize(
    ("speculative", "tokens"),
    [
        ({}, 3),
        # By one at a time a draft pays wherever it does by more.
        ({"method": "draftModel"}, 1),
        ({"method": "draftModel", "tokens": 4}, 4),
    ],
)
def test_how_many_tokens_are_guessed_follows_who_guesses(
    speculative: dict[str, Any], tokens: int
) -> None:
    planned = spec_of(serving={"speculative": speculative}).with_defaults()

    assert planned.serving.speculative is not None
    assert planned.serving.speculative.tokens == tokens


@pytest.mark.parametrize(
    ("workspace", "asked"),
    [
        ({}, {"claimName", "size", "storageClassName", "accessMode"}),
        ({"claimName": "shared"}, set()),
        ({"uri": "s3://jobs"}, {"size"}),
    ],
)
def test_what_is_asked_about_the_workspace_depends_on_what_it_is(
    workspace: dict[str, str], asked: set[str]
) -> None:
    told = values(output={"model": "m", "uri": "s3://models"}, workspace=workspace)

    opened = {path for path, (_, origin) in told.items() if origin == "open"}
    assert {f"workspace.{name}" for name in asked} == {
        path for path in opened if path.startswith("workspace.")
    }


def test_what_clusters_alone_look_at_is_told_apart() -> None:
    """The mark on a record holds for every field below it."""
    spec = spec_of(
        output={"model": "m", "uri": "s3://models"},
        workspace={"uri": "s3://jobs", "secretRef": {"name": "store"}},
    )
    marked = {setting.path for setting in describe(spec) if setting.is_for_clusters}

    assert {"workspace.secretRef.name", "workspace.size", "queueName", "resources.spot"} <= marked
    assert not {"resources.workers", "resources.gpusPerWorker", "suspend"} & marked


def test_the_words_about_the_learning_rate_name_its_defaults() -> None:
    """They are the one default that its description cannot be written from."""
    words = Optimizer.model_fields["learning_rate"].description or ""

    told = {
        objective: {
            method: float(rate) for rate, method in re.findall(r"(\S+) for (lora|full)", part)
        }
        for objective, part in zip(("sft", "dpo"), words.split("objective dpo"), strict=True)
    }
    assert told == DEFAULT_LEARNING_RATES


def test_dpo_is_gated_by_the_margin_and_not_by_a_loss_that_it_may_raise() -> None:
    told = values(training={"objective": "dpo"})

    text = '[{"suite": "preference", "metric": "margin", "minDelta": 0.0}]'
    assert told["evaluation.gates"] == (text, "default")
    assert told["training.optimizer.learningRate"] == ("5e-05", "default")


def test_gates_that_are_declined_stay_declined() -> None:
    assert values(evaluation={"gates": []})["evaluation.gates"] == ("[]", "given")
