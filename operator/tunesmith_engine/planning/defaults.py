"""The defaults of a spec that need no look at the data, and how to show every setting of a job.

First step of `plan`. What depends on the data stays None, and `OPEN_SETTINGS` says the rule by
which the stage that sees the data decides. `describe` is what `tunesmith plan` prints; `settled`
is what the status shows as resolved.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from pydantic import BaseModel, JsonValue

from tunesmith_api.finetunejob.compression import Compression
from tunesmith_api.finetunejob.dataset import Dataset
from tunesmith_api.finetunejob.resources import CLUSTER_FIELDS
from tunesmith_api.finetunejob.spec import FineTuneJobSpec
from tunesmith_api.finetunejob.training import Lora, Optimizer, Training

EPOCHS: Final = 3.0
VALIDATION_FRACTION: Final = 0.1
ALPHA_PER_RANK: Final = 2.0
LEARNING_RATE: Final[Mapping[str, float]] = {"lora": 2e-4, "full": 2e-5}
MIN_RECOVERY: Final[Mapping[str, float]] = {"none": 0.99, "W8A8": 0.99, "FP8": 0.99, "W4A16": 0.97}
# Tokens of a request. Open until a stage has seen the model, whose context may be shorter.
MAX_MODEL_LENGTH: Final = 2048

# The fields that `with_defaults` fills in.
SETTLED_PATHS: Final = (
    "dataset.validationFraction",
    "training.lora.alpha",
    "training.optimizer.learningRate",
    "training.epochs",
    "compression.gate.minRecovery",
)


@dataclass(frozen=True, slots=True)
class OpenSetting:
    """A field that the data, the model or the machine decides.

    `rule` is how; `applies` is whether this job has the question at all.
    """

    path: str
    rule: str
    applies: Callable[[FineTuneJobSpec], bool] = lambda _: True


def _makes_workspace(spec: FineTuneJobSpec) -> bool:
    return spec.workspace.claim_name is None and spec.workspace.uri is None


OPEN_SETTINGS: Final = (
    OpenSetting(
        "model.revision",
        "the hub's main branch",
        lambda spec: spec.model.uri.startswith("hf://"),
    ),
    OpenSetting("model.chatTemplate", "the model's own"),
    OpenSetting("training.evaluateEverySteps", "a tenth of all steps"),
    OpenSetting("checkpoint.everySteps", "a tenth of all steps"),
    OpenSetting("evaluation.generalText", "a text that ships with Tunesmith"),
    OpenSetting(
        "compression.quantize.groupSize",
        "the largest that divides the layers",
        lambda spec: spec.compression.quantize.scheme == "W4A16",
    ),
    OpenSetting(
        "serving.maxModelLength", f"{MAX_MODEL_LENGTH} or the model's context, the smaller"
    ),
    OpenSetting("output.uri", "the home folder's models/"),
    OpenSetting("output.version", "the first 12 characters of its digest"),
    OpenSetting("resources.cpu", "1 for each pod, and for each worker of training"),
    OpenSetting("resources.memory", "the estimate, once prepare has seen the model; 2Gi before"),
    OpenSetting("resources.priorityClassName", "the cluster's"),
    OpenSetting(
        "workspace.claimName",
        "one is made for the job",
        lambda spec: spec.workspace.uri is None,
    ),
    OpenSetting("workspace.size", "the operator's", lambda spec: spec.workspace.claim_name is None),
    OpenSetting("workspace.storageClassName", "the operator's", _makes_workspace),
    OpenSetting("workspace.accessMode", "ReadWriteOnce", _makes_workspace),
    OpenSetting("queueName", "no queue"),
    OpenSetting("activeDeadlineSeconds", "no deadline"),
    OpenSetting("preRunningDeadlineSeconds", "no deadline"),
    OpenSetting("ttlSecondsAfterFinished", "never deleted"),
)


@dataclass(frozen=True, slots=True)
class Setting:
    """One field of a job as it will be used.

    `path` is below `spec`, such as training.lora.alpha. `value` is its text or, where `origin` is
    `open`, the rule by which a stage will decide. `is_for_clusters` says that a run on one machine
    takes no notice of it.
    """

    path: str
    value: str
    origin: Literal["given", "default", "open"]
    is_for_clusters: bool = False


def with_defaults(spec: FineTuneJobSpec) -> FineTuneJobSpec:
    """`spec` with every default filled in that does not depend on data, model or machine."""
    return spec.model_copy(
        update={
            "dataset": _dataset(spec.dataset),
            "training": _training(spec.training),
            "compression": _compression(spec.compression),
        }
    )


def describe(spec: FineTuneJobSpec) -> tuple[Setting, ...]:
    """Every setting of a job, in the order of the reference page.

    `spec` is as the manifest gave it; fields that do not concern the job are left out.
    """
    open_rules = {each.path: each.rule for each in OPEN_SETTINGS if each.applies(spec)}
    given = {path for path, value in _leaves(spec, only_given=True) if value is not None}
    return tuple(
        _setting(path, value, given=given, open_rules=open_rules)
        for path, value in _leaves(with_defaults(spec))
        if value is not None or path in open_rules
    )


def settled(spec: FineTuneJobSpec) -> dict[str, str]:
    """What planning decided, or the manifest gave, for the fields that planning can decide."""
    values = dict(_leaves(with_defaults(spec)))
    return {path: _text(values[path]) for path in SETTLED_PATHS if values[path] is not None}


def _dataset(dataset: Dataset) -> Dataset:
    if dataset.validation is not None or dataset.validation_fraction is not None:
        return dataset
    return dataset.model_copy(update={"validation_fraction": VALIDATION_FRACTION})


def _training(training: Training) -> Training:
    update: dict[str, object] = {
        "lora": _lora(training.lora),
        "optimizer": _optimizer(training.optimizer, method=training.method),
    }
    if training.epochs is None and training.max_steps is None:
        update["epochs"] = EPOCHS
    return training.model_copy(update=update)


def _lora(lora: Lora) -> Lora:
    if lora.alpha is not None:
        return lora
    return lora.model_copy(update={"alpha": ALPHA_PER_RANK * lora.rank})


def _optimizer(optimizer: Optimizer, *, method: str) -> Optimizer:
    if optimizer.learning_rate is not None:
        return optimizer
    return optimizer.model_copy(update={"learning_rate": LEARNING_RATE[method]})


def _compression(compression: Compression) -> Compression:
    if compression.gate.min_recovery is not None:
        return compression
    recovery = MIN_RECOVERY[compression.quantize.scheme]
    gate = compression.gate.model_copy(update={"min_recovery": recovery})
    return compression.model_copy(update={"gate": gate})


def _setting(
    path: str, value: JsonValue, *, given: set[str], open_rules: Mapping[str, str]
) -> Setting:
    is_for_clusters = path in CLUSTER_FIELDS
    if value is None:
        return Setting(path, open_rules[path], "open", is_for_clusters)
    origin: Literal["given", "default"] = "given" if path in given else "default"
    return Setting(path, _text(value), origin, is_for_clusters)


def _leaves(
    record: BaseModel, *, only_given: bool = False, prefix: str = ""
) -> Iterator[tuple[str, JsonValue]]:
    """Path and JSON value of every field below `record` that is not itself a record."""
    for name, field in type(record).model_fields.items():
        if only_given and name not in record.model_fields_set:
            continue
        value = getattr(record, name)
        if isinstance(value, BaseModel):
            yield from _leaves(value, only_given=only_given, prefix=f"{prefix}{field.alias}.")
        else:
            dumped = record.model_dump(mode="json", by_alias=True, include={name})
            yield f"{prefix}{field.alias}", dumped[str(field.alias)]


def _text(value: JsonValue) -> str:
    """A number or word as it stands; what has structure as JSON without its unset fields."""
    return value if isinstance(value, str) else json.dumps(_without_unset(value))


def _without_unset(value: JsonValue) -> JsonValue:
    if isinstance(value, list):
        return [_without_unset(each) for each in value]
    if isinstance(value, dict):
        return {key: each for key, each in value.items() if each is not None}
    return value
