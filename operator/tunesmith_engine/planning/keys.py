"""The key of each stage: a digest of everything its outcome depends on, and of nothing else.

Second step of `plan`. A stage whose key has a finished result is not run again, so a field in the
wrong row of `STAGE_INPUTS` either repeats work or reuses what no longer fits. Every field of the
spec stands in exactly one row, or in `WITHOUT_INFLUENCE`; a test proves it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Final

from pydantic import JsonValue

from tunesmith_api.finetunejob.spec import FineTuneJobSpec
from tunesmith_engine.stages.catalog import COMPRESS, EVALUATE, PREPARE, PUBLISH, TRAIN, VERIFY
from tunesmith_engine.stages.contracts import CONTRACT, StageName
from tunesmith_engine.stages.digests import digest_json


@dataclass(frozen=True, slots=True)
class StageInputs:
    """What a stage depends on beyond the stage before it.

    `fields` are paths below `spec`, each with all that lies below it; `fingerprints` name the
    sources whose content counts. `names_the_job` says that the outcome carries the job's name.
    """

    fields: tuple[str, ...]
    fingerprints: tuple[str, ...] = ()
    names_the_job: bool = False


STAGE_INPUTS: Final[Mapping[StageName, StageInputs]] = {
    PREPARE.name: StageInputs(
        fields=(
            "model.uri",
            "model.revision",
            "model.chatTemplate",
            "dataset.train.uri",
            "dataset.validation.uri",
            "dataset.validationFraction",
            "dataset.format",
            "dataset.columns",
            "dataset.overlong",
            "dataset.cleaning",
            "dataset.seed",
            "training.sequenceLength",
        ),
        fingerprints=("model", "dataset.train", "dataset.validation"),
    ),
    TRAIN.name: StageInputs(
        fields=(
            "training.method",
            "training.lora",
            "training.optimizer",
            "training.schedule",
            "training.batch",
            "training.epochs",
            "training.maxSteps",
            "training.precision",
            "training.evaluateEverySteps",
            "training.seed",
            # More workers or another device add up the same gradients in another order.
            "resources.workers",
            "resources.gpusPerWorker",
            "resources.accelerator",
        ),
    ),
    EVALUATE.name: StageInputs(
        fields=(
            "evaluation.generation",
            "evaluation.generalText.uri",
            "evaluation.bootstrap",
            "evaluation.gates",
        ),
        fingerprints=("evaluation.generalText",),
    ),
    COMPRESS.name: StageInputs(fields=("compression",)),
    VERIFY.name: StageInputs(fields=("verification", "serving")),
    PUBLISH.name: StageInputs(
        fields=("output.model", "output.uri", "output.version"), names_the_job=True
    ),
}

# Who may read and write, where and when it runs, when to stop and how often to try again: the
# outcome is the same.
WITHOUT_INFLUENCE: Final = (
    "model.secretRef",
    "dataset.train.secretRef",
    "dataset.validation.secretRef",
    "evaluation.generalText.secretRef",
    "output.secretRef",
    "checkpoint",
    "suspend",
    "backoffLimit",
    "activeDeadlineSeconds",
    "preRunningDeadlineSeconds",
    "ttlSecondsAfterFinished",
    "queueName",
    "workspace",
    "resources.cpu",
    "resources.memory",
    "resources.nodeSelector",
    "resources.tolerations",
    "resources.spot",
    "resources.priorityClassName",
    "resources.imagePullSecrets",
)

_VERSION: Final = version("tunesmith")


def stage_keys(
    spec: FineTuneJobSpec, *, job: str, fingerprints: Mapping[str, str]
) -> dict[StageName, str]:
    """The key of every stage, 64 hexadecimal digits each, chained in the order of the stages.

    `spec` has its defaults filled in, so that a default written out gives the same key.
    """
    dumped = spec.model_dump(mode="json", by_alias=True)
    keys: dict[StageName, str] = {}
    before = ""
    for stage, inputs in STAGE_INPUTS.items():
        digest = digest_json(
            {
                "stage": stage,
                "contract": CONTRACT,
                "version": _VERSION,
                "job": job if inputs.names_the_job else "",
                "fields": _part(dumped, inputs.fields),
                "sources": {name: fingerprints.get(name) for name in inputs.fingerprints},
                "before": before,
            }
        )
        before = keys[stage] = digest.removeprefix("sha256:")
    return keys


def _part(spec: Mapping[str, JsonValue], paths: Iterable[str]) -> dict[str, JsonValue]:
    return {path: _at(spec, path) for path in paths}


def _at(spec: Mapping[str, JsonValue], path: str) -> JsonValue:
    """The value at the path, None where a record on the way was not given."""
    found: JsonValue = dict(spec)
    for name in path.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return found
