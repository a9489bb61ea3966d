"""Memory that each stage takes at most, from the spec and the shape of its model, in bytes.

The rows of `catalog.py` name the functions, `estimates.py` adds the disk. Pure arithmetic.
Activations are counted tensor by tensor, as Korthikanti et al. 2022 (arXiv 2205.05198, section 4)
do for GPT, here for a gated block with grouped queries and fused attention, which keeps no square
of the length.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from tunesmith_api.finetunejob.spec import FineTuneJobSpec
from tunesmith_api.finetunejob.training import Training
from tunesmith_engine.sources.model_facts import ModelFacts

FP32: Final = 4
BF16: Final = 2

# AdamW keeps two moments, and every trained parameter has a gradient, all in fp32.
MOMENTS: Final = 2 * FP32
GRADIENT: Final = FP32

# Predicting positions whose logits training holds at a time. More makes a processor no faster
# (SmolLM2-135M: 6.7 ms a target at 85, 5.7 at 170, 5.5 at 1,024), and an accelerator needs more to
# read the head's matrix less often than it computes with it. NB: 176 rows of 49 thousand in fp32
# are just above 32 MiB, from where on glibc maps every tensor and gives it back; below, chunk after
# chunk leaves holes in the heap that the next one does not fit into (docs/log.md).
LOGITS_PER_CHUNK: Final[Mapping[str, int]] = {"processor": 176, "accelerator": 1024}

# Logits, their log-softmax and the gradients of both are alive together, all in fp32.
LOGIT_COPIES: Final = 4

# Resident memory over what autograd keeps: the buffers of the backward pass, and what the
# allocator does not give back. From two peaks measured on CPU with adapters, 4 × 256 tokens, fp32:
# SmolLM2-135M (4.7 GB, which makes 1.8) and 12 blocks of hidden size 288 (1.1 GB, about 2).
RESIDENT_PER_ACTIVATION: Final = 2

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


@dataclass(frozen=True, slots=True)
class Workload:
    """What memory is estimated from.

    `longest_row` is in tokens; None, before `prepare` has seen the rows, stands for the longest
    that there may be.
    """

    spec: FineTuneJobSpec
    facts: ModelFacts
    longest_row: int | None = None


def preparing(workload: Workload) -> int:
    """Of `prepare`: GGUF weights are de-quantized to fp32, then written as bf16."""
    return PROCESS_BYTES + (FP32 + BF16) * workload.facts.num_parameters


def training(workload: Workload) -> int:
    """Of `train`: every worker holds the whole model; without the rows, the longest allowed."""
    spec, facts = workload.spec, workload.facts
    longest = min(workload.longest_row or spec.training.sequence_length, facts.context_length)
    # A row of preferences is two of tokens, which go through the model together.
    sides = 2 if spec.training.objective == "dpo" else 1
    tokens = sides * spec.training.batch.micro_batch_size * longest
    # Under autocast every frozen weight is kept in bf16 as well, until the backward pass.
    weights = (FP32 if spec.training.precision == "fp32" else FP32 + BF16) * facts.num_parameters
    if spec.training.compares_with_base and spec.training.method == "full":
        weights += FP32 * facts.num_parameters
    kept = tokens * facts.num_layers * _activations(facts)
    passing = RESIDENT_PER_ACTIVATION * kept + _loss(spec, facts, tokens=tokens)
    worker = PROCESS_BYTES + weights + trained_state(spec, facts) + passing
    return RAY_BYTES + spec.resources.workers * worker


def evaluating(workload: Workload) -> int:
    """Of `evaluate`: a second model only where weights between two whole models are scored."""
    training, mixed = workload.spec.training, workload.spec.evaluation.interpolation
    holds_both = mixed is not None and training.method == "full"
    return scoring(workload) + holds_both * FP32 * workload.facts.num_parameters


def scoring(workload: Workload) -> int:
    """One model in fp32 at a time, and one chunk of logits."""
    facts = workload.facts
    return PROCESS_BYTES + FP32 * facts.num_parameters + _SCORING_COPIES * SCORING_LOGITS_BYTES


def compressing(workload: Workload) -> int:
    """Of `compress`: the merged model in fp32 and, cast, in bf16; GPTQ's Hessian on top."""
    cast = BF16 * workload.facts.num_parameters
    return scoring(workload) + cast + _hessian(workload.spec, workload.facts)


def serving(workload: Workload) -> int:
    """Of `verify`: vLLM's processes, its key-value cache, and the weights."""
    return VLLM_BYTES + KV_CACHE_BYTES + BF16 * workload.facts.num_parameters


def publishing(_workload: Workload) -> int:
    """Of `publish`: files are linked or copied, and never loaded."""
    return PROCESS_BYTES


def trained_state(spec: FineTuneJobSpec, facts: ModelFacts) -> int:
    """Gradients and moments of what is trained, and the adapters themselves."""
    adapters = FP32 if spec.training.method == "lora" else 0
    return (GRADIENT + MOMENTS + adapters) * trainable_parameters(spec.training, facts)


def trainable_parameters(training: Training, facts: ModelFacts) -> int:
    """All parameters, or those of the adapters: rank × (inputs + outputs) for each linear layer.

    A target module that is none of the usual names counts as every linear layer, and what
    `freeze.modules` names as trained.
    """
    freeze = training.freeze
    num_layers = max(0, facts.num_layers - freeze.layers)
    if training.method == "full":
        embeddings = facts.vocab_size * facts.hidden_size
        in_layers = facts.num_parameters - (1 if facts.is_tied else 2) * embeddings
        frozen = in_layers * (facts.num_layers - num_layers) // facts.num_layers
        return facts.num_parameters - frozen - (embeddings if freeze.embeddings else 0)
    shapes = _linear_layers(facts)
    wanted = set(training.lora.target_modules)
    chosen = [shapes[name] for name in wanted] if wanted <= set(shapes) else list(shapes.values())
    per_block = sum(inputs + outputs for inputs, outputs in chosen)
    return num_layers * training.lora.rank * per_block


def _activations(facts: ModelFacts) -> int:
    """Bytes that one block keeps of one token for the backward pass, all counted as fp32.

    Of the hidden size: two norms' inputs and outputs, query before and after rotation, attention's
    output, and keys and values repeated for every head; of the keys' size: key and value, the key
    rotated; of the inner size: gate, its activation, up, and their product.
    """
    keys = facts.num_kv_heads * (facts.hidden_size // facts.num_heads)
    return FP32 * (9 * facts.hidden_size + 3 * keys + 4 * facts.intermediate_size)


def _loss(spec: FineTuneJobSpec, facts: ModelFacts, *, tokens: int) -> int:
    """Logits and what is made of them; those of preferences are not taken in chunks."""
    kind = "accelerator" if spec.resources.gpus_per_worker else "processor"
    positions = tokens
    gradients = 0
    if spec.training.objective == "sft":
        positions = min(tokens, LOGITS_PER_CHUNK[kind])
        if spec.training.method == "full":
            # Of the head, for one chunk and for all of them so far.
            gradients = 2 * FP32 * facts.vocab_size * facts.hidden_size
    return LOGIT_COPIES * FP32 * positions * facts.vocab_size + gradients


def _linear_layers(facts: ModelFacts) -> dict[str, tuple[int, int]]:
    hidden, inner = facts.hidden_size, facts.intermediate_size
    keys = facts.num_kv_heads * (hidden // facts.num_heads)
    return {
        "q_proj": (hidden, hidden),
        "k_proj": (hidden, keys),
        "v_proj": (hidden, keys),
        "o_proj": (hidden, hidden),
        "gate_proj": (hidden, inner),
        "up_proj": (hidden, inner),
        "down_proj": (inner, hidden),
    }


def _hessian(spec: FineTuneJobSpec, facts: ModelFacts) -> int:
    if spec.compression.quantize.scheme != "W4A16":
        return 0
    # The matrix, its inverse and the Cholesky factor (GPTQ, arXiv 2210.17323, section 3.3).
    return 3 * FP32 * max(facts.intermediate_size, facts.hidden_size) ** 2
