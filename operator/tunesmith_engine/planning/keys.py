"""The key of each stage: a digest of everything its outcome depends on, and of nothing else.

Second step of `plan`. A stage whose key has a finished result is not run again. A key digests the
stage's own fields and sources, as its row of the catalogue names them, and the keys of the stages
that it reads: a stage that is switched on or off repeats itself and what reads it, nothing else.
Every field of the spec stands in exactly one row, or in `WITHOUT_INFLUENCE`; a test proves it.
"""

from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Final

from pydantic import JsonValue

from tunesmith_api.finetunejob.spec import FineTuneJobSpec
from tunesmith_engine.stages.contracts import CONTRACT, StageName
from tunesmith_engine.stages.digests import digest_json
from tunesmith_engine.stages.stage import Stage

# Who may read and write, where and when it runs, when to stop and how often to try again: the
# outcome is the same.
WITHOUT_INFLUENCE: Final = (
    "model.secretRef",
    "dataset.train.secretRef",
    "dataset.validation.secretRef",
    "dataset.replay.source.secretRef",
    "dataset.augmentation.adversarial.sensitive.secretRef",
    "dataset.augmentation.paraphrase.endpoint.secretRef",
    "dataset.augmentation.paraphrase.endpoint.maxRequestsPerMinute",
    "dataset.synthesis.generator.endpoint.secretRef",
    "dataset.synthesis.generator.endpoint.maxRequestsPerMinute",
    "dataset.synthesis.generator.model.secretRef",
    "dataset.synthesis.critic.endpoint.secretRef",
    "dataset.synthesis.critic.endpoint.maxRequestsPerMinute",
    "training.distillation.teacher.model.secretRef",
    "evaluation.generalText.secretRef",
    "evaluation.judge.endpoint.secretRef",
    "evaluation.judge.endpoint.maxRequestsPerMinute",
    "evaluation.reference.endpoint.secretRef",
    "evaluation.reference.endpoint.maxRequestsPerMinute",
    "output.secretRef",
    "output.private",
    "checkpoint",
    # Where the curve is shown as well: what is logged there is in the artifacts anyhow.
    "tracking",
    "suspend",
    "backoffLimit",
    "activeDeadlineSeconds",
    "preRunningDeadlineSeconds",
    "ttlSecondsAfterFinished",
    "queueName",
    "deploy",
    "workspace",
    # Computed again, activations are what they were.
    "training.gradientCheckpointing",
    "resources.cpu",
    "resources.memory",
    "resources.nodeSelector",
    "resources.tolerations",
    "resources.spot",
    "resources.priorityClassName",
    "resources.imagePullSecrets",
)

# Of lists a row names all or nothing: who may read a suite is left out.
_READERS: Final = {"evaluation": {"suites": {"__all__": {"secret_ref"}}}}
_VERSION: Final = version("tunesmith")


def stage_keys(
    spec: FineTuneJobSpec,
    stages: Iterable[Stage],
    *,
    job: str,
    fingerprints: Mapping[str, str],
) -> dict[StageName, str]:
    """The key of every stage of a job, 64 hexadecimal digits each.

    `spec` has its defaults filled in, so that a default written out gives the same key. `stages`
    are all that apply, in order: one that is read and does not apply is none of the inputs.
    """
    # NB: unset fields are dumped as null on purpose. A field that a release adds is then in no old
    # key, and the version, which is in every key, says so.
    dumped = spec.model_dump(mode="json", by_alias=True, exclude=_READERS)
    keys: dict[StageName, str] = {}
    for stage in stages:
        digest = digest_json(
            {
                "stage": stage.name,
                "contract": CONTRACT,
                "version": _VERSION,
                "job": job if stage.names_the_job else "",
                "fields": {path: _at(dumped, path) for path in (*stage.fields, *stage.shared)},
                "sources": _contents(stage, fingerprints),
                "reads": {name: keys[name] for name in stage.reads if name in keys},
            }
        )
        keys[stage.name] = digest.removeprefix("sha256:")
    return keys


def spec_digests(spec: FineTuneJobSpec, stages: Iterable[Stage]) -> dict[StageName, str]:
    """A digest of what each stage reads of the spec as it was given, the same in every release.

    Unlike a key it says nothing of the stages before it, nor of content.
    """
    # NB: without defaults, and without what was not given: a field, or a path of a row, that a
    # release adds would else change what is done already.
    given = spec.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude=_READERS)
    return {stage.name: digest_json(_given(given, stage)) for stage in stages}


def _given(spec: Mapping[str, JsonValue], stage: Stage) -> dict[str, JsonValue]:
    """What the stage reads, by path, as far as it is there."""
    read = ((path, _at(spec, path)) for path in (*stage.fields, *stage.shared))
    return {path: value for path, value in read if value is not None}


def _contents(stage: Stage, fingerprints: Mapping[str, str]) -> dict[str, JsonValue]:
    """The fingerprints of the stage's sources; of all items where a source is a list of them."""
    items = tuple(f"{path}[" for path in stage.sources)
    contents: dict[str, JsonValue] = {path: fingerprints.get(path) for path in stage.sources}
    return contents | {path: mark for path, mark in fingerprints.items() if path.startswith(items)}


def _at(spec: Mapping[str, JsonValue], path: str) -> JsonValue:
    """The value at the path, None where a record on the way was not given."""
    value: JsonValue = dict(spec)
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value
