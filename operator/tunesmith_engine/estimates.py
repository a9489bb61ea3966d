"""What a job will take at most: memory of each stage, and disk, in bytes.

`prepare` refuses a job that the machine cannot hold, the runner does so before where the model is
already there, and `tunesmith plan` prints the figures. Pure arithmetic.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from pydantic import TypeAdapter, ValidationError
from pydantic.alias_generators import to_snake

from tunesmith_api.finetunejob.export import Precision
from tunesmith_api.finetunejob.spec import FineTuneJobSpec
from tunesmith_engine.sources.model_facts import ModelFacts
from tunesmith_engine.stages.catalog import CATALOG
from tunesmith_engine.stages.contracts import StageName, StageResult
from tunesmith_engine.stages.memory import BF16, FP32, Workload
from tunesmith_engine.stages.memory_fit import TrainingFit, fit_of, settle
from tunesmith_engine.stages.pruned_shape import pruned_facts
from tunesmith_engine.stages.recovery_spec import drafted, recovering
from tunesmith_engine.stages.training_memory import (
    MOMENTS,
    trainable_parameters,
)

_FACTS: Final = TypeAdapter(ModelFacts)

# The shortest row that can be trained: a token, and the one that is predicted from it.
SHORTEST_ROW: Final = 2

# Bytes per parameter of what compress writes; embeddings stay bf16.
SCHEME_BYTES: Final[Mapping[str, float]] = {
    "none": 2.0,
    "W8A8": 1.0,
    "W8A16": 1.0,
    "FP8": 1.0,
    "W4A16": 0.6,
}

# Bytes per parameter of what export writes, with scales and with embeddings that stay wider.
EXPORT_BYTES: Final[Mapping[Precision, float]] = {
    "fp32": 4.1,
    "fp16": 2.1,
    "F16": 2.1,
    "Q8_0": 1.1,
    "int8": 1.1,
    "int4": 1.5,
    "Q4_0": 0.8,
}


@dataclass(frozen=True, slots=True)
class Estimate:
    """The largest resident memory of each stage over all its processes, and the disk of all.

    `fit` is how a step of training is cut, and what its workers hold. `draft_share` is the part of
    the served model's parameters that its draft has, about, where one guesses.
    """

    memory_bytes: Mapping[StageName, int]
    disk_bytes: int
    fit: TrainingFit
    draft_share: float | None = None

    @property
    def peak_memory_bytes(self) -> int:
        """The memory of the hungriest stage; stages run one after another."""
        return max(self.memory_bytes.values())


def estimate(
    spec: FineTuneJobSpec,
    facts: ModelFacts,
    *,
    longest_row: int | None = None,
    room: int | None = None,
    teacher: int | None = None,
) -> Estimate:
    """What the job takes.

    `spec` may have its defaults filled in or not. `longest_row` is the longest that there is, in
    tokens; None, before `prepare` has seen the rows, takes the longest that there may be. `room` is
    as in `memory_fit.settle`, `teacher` as in `Workload`.
    """
    workload = Workload(spec, facts, longest_row, teacher)
    spec = settle(workload, room=room)
    workload = replace(workload, spec=spec)
    return Estimate(
        memory_bytes={stage.name: stage.memory(workload) for stage in CATALOG.applying(spec)},
        disk_bytes=_disk(spec, facts),
        fit=fit_of(workload),
        draft_share=_draft_share(spec, facts),
    )


def _draft_share(spec: FineTuneJobSpec, facts: ModelFacts) -> float | None:
    as_drafted = drafted(spec)
    if as_drafted.compression.prune is None:
        return None
    served = pruned_facts(spec, facts)
    return pruned_facts(as_drafted, served).num_parameters / served.num_parameters


def speed_seconds(spec: FineTuneJobSpec) -> tuple[int, int] | None:
    """How long `verify` takes to measure tokens/s, at least and at most; None where it does not.

    vLLM is loaded once more for the model unquantized, and once for it without guessed tokens; seen
    with 135 million parameters on two cores (docs/log.md).
    """
    is_quantized = set(spec.compression.schemes) != {"none"} and spec.output.artifact != "adapter"
    num_loads = is_quantized + (spec.serving.speculative is not None)
    if not (num_loads and spec.verification.measure_speed):
        return None
    least, most = (45, 120) if spec.serving.enforce_eager else (160, 240)
    return num_loads * least, num_loads * most


def model_facts_of(prepared: StageResult) -> ModelFacts | None:
    """The size and shape of the base model as `prepare` reported it.

    A report is what a stage says, and in a cluster what a pod says: what is not as it should be
    counts as not told.
    """
    reported = prepared.facts.get("modelFacts")
    if not isinstance(reported, dict):
        return None
    try:
        return _FACTS.validate_python({to_snake(name): value for name, value in reported.items()})
    except ValidationError:
        return None


def longest_row_of(prepared: StageResult) -> int | None:
    """Tokens of the longest row of either split, as `prepare` reported it."""
    return _count(prepared, "longestRow")


def teacher_parameters_of(prepared: StageResult) -> int | None:
    """The size of the teacher, where the job has one, as `prepare` reported it."""
    return _count(prepared, "teacherParameters")


def workload_of(spec: FineTuneJobSpec, prepared: StageResult) -> Workload | None:
    """What memory is estimated from, as `prepare` reported it; None where it has not."""
    facts = model_facts_of(prepared)
    if facts is None:
        return None
    return Workload(spec, facts, longest_row_of(prepared), teacher_parameters_of(prepared))


def _count(prepared: StageResult, fact: str) -> int | None:
    reported = prepared.facts.get(fact)
    if isinstance(reported, int) and not isinstance(reported, bool) and reported > 0:
        return reported
    return None


def _disk(spec: FineTuneJobSpec, facts: ModelFacts) -> int:
    """The base as safetensors, checkpoints and one being written, the result, and its copy."""
    trained = trainable_parameters(spec.training, facts)
    checkpoint = (FP32 + MOMENTS) * trained
    embeddings = facts.vocab_size * facts.hidden_size * (1 if facts.is_tied else 2)
    # Of a ladder the smallest so far, and the next one.
    scheme = sum(sorted(SCHEME_BYTES[scheme] for scheme in spec.compression.schemes)[-2:])
    shipped = int(scheme * max(0, facts.num_parameters - embeddings)) + BF16 * embeddings
    base = BF16 * facts.num_parameters
    # Twice the trained weights: the best so far, and the tuned model.
    kept = base + (spec.checkpoint.keep + 1) * checkpoint + 2 * FP32 * trained + 2 * shipped
    recovery = _disk_of_recovery(spec, facts) if spec.compression.prune else 0
    return kept + recovery + _disk_of_draft(spec, facts) + _exported(spec, facts)


def _exported(spec: FineTuneJobSpec, facts: ModelFacts) -> int:
    """Each format, which is linked when it is published, and the fp32 model they are made of.

    LiteRT's graph lies beside them in fp32 and rounded, before it is packed.
    """
    if spec.export is None:
        return 0
    sizes = [EXPORT_BYTES[wanted.precision] for wanted in spec.export.formats]
    unpacked = FP32 + EXPORT_BYTES["int8"] if spec.export.has("litert") else 0
    return int((sum(sizes) + FP32 + unpacked) * facts.num_parameters)


def _disk_of_draft(spec: FineTuneJobSpec, facts: ModelFacts) -> int:
    """Of a small model that guesses: of its recovery, and the model as it ships with its copy."""
    draft = drafted(spec)
    if draft.compression.prune is None:
        return 0
    shipped = 2 * BF16 * pruned_facts(draft, facts).num_parameters
    return _disk_of_recovery(draft, facts) + shipped


def _disk_of_recovery(spec: FineTuneJobSpec, facts: ModelFacts) -> int:
    """The model as it was cut, checkpoints, and the model that was recovered, in fp32."""
    left = pruned_facts(spec, facts)
    trained = trainable_parameters(recovering(spec).training, left)
    checkpoint = (FP32 + MOMENTS) * trained
    return 2 * FP32 * left.num_parameters + (spec.checkpoint.keep + 1) * checkpoint
