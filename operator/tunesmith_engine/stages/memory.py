"""Memory that each stage takes at most, from the spec and the shape of its model, in bytes.

The rows of `catalog.py` name the functions, `estimates.py` adds the disk. Pure arithmetic; of
training `training_memory.py` has the parts.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from tunesmith_api.finetunejob.spec import FineTuneJobSpec
from tunesmith_engine.sources.model_facts import ModelFacts
from tunesmith_engine.stages.pruned_shape import pruned_facts
from tunesmith_engine.stages.recovery_spec import drafted

FP32: Final = 4
BF16: Final = 2

# Predicting positions whose logits training holds at a time. More makes a processor no faster
# (SmolLM2-135M: 6.7 ms a target at 85, 5.7 at 170, 5.5 at 1,024), and an accelerator needs more,
# for each chunk reads the head's matrix and adds a gradient to all of it. NB: 176 rows of 49
# thousand in fp32 are just above 32 MiB, from where on glibc maps every tensor and gives it back;
# below, chunk after chunk leaves holes in the heap that the next one does not fit into
# (docs/log.md).
LOGITS_PER_CHUNK: Final[Mapping[str, int]] = {"processor": 176, "accelerator": 2048}

# Resident memory of a process before any model: Python, torch and the stage's libraries; Ray's
# own processes; vLLM's three processes, and the key-value cache it is given.
PROCESS_BYTES: Final = 600 << 20
RAY_BYTES: Final = 500 << 20
VLLM_BYTES: Final = 2 << 30
KV_CACHE_BYTES: Final = 1 << 30

# Logits held at a time outside training, in fp32; their log-softmax and what cross-entropy makes of
# them are as large.
SCORING_LOGITS_BYTES: Final = 64 << 20
_SCORING_COPIES: Final = 3

# What builds a format holds: its libraries, and copies of the model in fp32. litert-torch was
# measured at 1.21 GiB and 5.5 copies (docs/log.md).
_LITERT_BYTES: Final = 1300 << 20
_ONNX_COPIES: Final = 2
_LITERT_COPIES: Final = 6

# Tokens of a batch through which gradients go back to the embeddings.
EXPLAINED_TOKENS: Final = 1024


@dataclass(frozen=True, slots=True)
class Workload:
    """What memory is estimated from.

    `longest_row` is in tokens; None, before `prepare` has seen the rows, stands for the longest
    that there may be. `teacher` is the number of its parameters; None, before `prepare` has seen
    it, stands for as many as the model has.
    """

    spec: FineTuneJobSpec
    facts: ModelFacts
    longest_row: int | None = None
    teacher: int | None = None


def preparing(workload: Workload) -> int:
    """Of `prepare`: GGUF weights are de-quantized to fp32, then written as bf16.

    Where rows are judged by the base model it is loaded afterwards, when the others are gone.
    """
    converting = PROCESS_BYTES + (FP32 + BF16) * workload.facts.num_parameters
    return max(converting, scoring(workload)) if _asks_the_base(workload.spec) else converting


def synthesizing(workload: Workload) -> int:
    """Of `synthesize`: a second process with vLLM, unless an endpoint writes.

    NB: of `generator.model` nothing is known here; it is taken to be as large as the job's own.
    """
    synthesis = workload.spec.dataset.synthesis
    runs_a_model = synthesis is not None and synthesis.runs_a_model
    return PROCESS_BYTES + (serving(workload) if runs_a_model else 0)


def evaluating(workload: Workload) -> int:
    """Of `evaluate`: a second model only where weights between two whole models are scored."""
    training, mixed = workload.spec.training, workload.spec.evaluation.interpolation
    holds_both = mixed is not None and training.method == "full"
    return scoring(workload) + holds_both * FP32 * workload.facts.num_parameters


def scoring(workload: Workload) -> int:
    """One model in fp32 at a time, and one chunk of logits."""
    facts = workload.facts
    return PROCESS_BYTES + FP32 * facts.num_parameters + _SCORING_COPIES * SCORING_LOGITS_BYTES


def explaining(workload: Workload) -> int:
    """Of `explain`: adapters are merged into a copy, and gradients go back to the embeddings."""
    facts, length = workload.facts, workload.longest_row or workload.spec.training.sequence_length
    # Kept of each layer for the way back: about ten tensors of the hidden size and four of the
    # intermediate, for a batch of `EXPLAINED_TOKENS`, or one row that is longer.
    per_token = facts.num_layers * (10 * facts.hidden_size + 4 * facts.intermediate_size)
    attention = facts.num_layers * facts.num_heads * length
    tokens = max(length, EXPLAINED_TOKENS)
    return scoring(workload) + FP32 * (tokens * per_token + length * attention)


def compressing(workload: Workload) -> int:
    """Of `compress`: the merged model in fp32 and, cast, in bf16; GPTQ's Hessian on top."""
    cast = BF16 * workload.facts.num_parameters
    return scoring(workload) + cast + _hessian(workload.spec, workload.facts)


def exporting(workload: Workload) -> int:
    """Of `export`: the merged model in fp32, and beside it a builder with copies of it."""
    export = workload.spec.export
    is_litert = export is not None and export.has("litert")
    builder = _LITERT_BYTES if is_litert else PROCESS_BYTES
    copies = _LITERT_COPIES if is_litert else _ONNX_COPIES
    return scoring(workload) + builder + copies * FP32 * workload.facts.num_parameters


def serving(workload: Workload) -> int:
    """Of `verify`: vLLM's processes, its key-value cache, and the weights, with the draft's."""
    num_parameters = workload.facts.num_parameters + draft_parameters(workload)
    return VLLM_BYTES + KV_CACHE_BYTES + BF16 * num_parameters


def draft_parameters(workload: Workload) -> int:
    """Of the small model that guesses tokens, about; 0 where there is none."""
    speculative = workload.spec.serving.speculative
    if speculative is None or not speculative.has_draft:
        return 0
    return pruned_facts(drafted(workload.spec), workload.facts).num_parameters


def publishing(_workload: Workload) -> int:
    """Of `publish`: files are linked or copied, and never loaded."""
    return PROCESS_BYTES


def _asks_the_base(spec: FineTuneJobSpec) -> bool:
    """Whether `prepare` scores rows under the base model."""
    augmentation = spec.dataset.augmentation
    swapped = augmentation and augmentation.counterfactual
    asks_of_swapped = bool(swapped and swapped.max_loss_rise is not None)
    return asks_of_swapped or spec.dataset.cleaning.unlikely_answers.policy != "keep"


def _hessian(spec: FineTuneJobSpec, facts: ModelFacts) -> int:
    if "W4A16" not in spec.compression.schemes:
        return 0
    # The matrix, its inverse and the Cholesky factor (GPTQ, arXiv 2210.17323, section 3.3).
    return 3 * FP32 * max(facts.intermediate_size, facts.hidden_size) ** 2
