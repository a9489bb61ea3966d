"""What a job will take at most, from the spec and the shape of its model: memory and disk in bytes.

`prepare` refuses a job that the machine cannot hold, the runner does so before where the model is
already there, and `tunesmith plan` prints the figures. Pure arithmetic. Activations are counted
tensor by tensor, as Korthikanti et al. 2022 (arXiv 2205.05198, section 4) do for GPT, here for a
gated block with grouped queries and fused attention, which keeps no square of the length.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from tunesmith_api.finetunejob.spec import FineTuneJobSpec
from tunesmith_api.finetunejob.training import Training
from tunesmith_engine.sources.model_facts import ModelFacts
from tunesmith_engine.stages.catalog import COMPRESS, EVALUATE, PREPARE, PUBLISH, TRAIN, VERIFY
from tunesmith_engine.stages.contracts import StageName

FP32: Final = 4
BF16: Final = 2

# AdamW keeps two moments, and every trained parameter has a gradient, all in fp32.
MOMENTS: Final = 2 * FP32
GRADIENT: Final = FP32

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

# The shortest row that can be trained: a token, and the one that is predicted from it.
SHORTEST_ROW: Final = 2

# Rows scored at a time outside training, in tokens.
SCORING_TOKENS: Final = 4096

# Bytes per parameter of what compress writes, and of the embeddings, which stay bf16.
SCHEME_BYTES: Final[Mapping[str, float]] = {"none": 2.0, "W8A8": 1.0, "FP8": 1.0, "W4A16": 0.6}


@dataclass(frozen=True, slots=True)
class Estimate:
    """The largest resident memory of each stage over all its processes, and the disk of all.

    `accelerator_bytes` is the least that training keeps on each accelerator: what a step computes
    on top was measured on none.
    """

    memory_bytes: Mapping[StageName, int]
    disk_bytes: int
    accelerator_bytes: int = 0

    @property
    def peak_memory_bytes(self) -> int:
        """The memory of the hungriest stage; stages run one after another."""
        return max(self.memory_bytes.values())


def estimate(
    spec: FineTuneJobSpec, facts: ModelFacts, *, longest_row: int | None = None
) -> Estimate:
    """What the job takes.

    `spec` may have its defaults filled in or not. `longest_row` is the longest that there is, in
    tokens; None, before `prepare` has seen the rows, takes the longest that there may be.
    """
    parameters = facts.num_parameters
    scoring = PROCESS_BYTES + FP32 * parameters + _logits(SCORING_TOKENS, facts)
    memory = {
        # GGUF weights are de-quantized to fp32, then written as bf16.
        PREPARE.name: PROCESS_BYTES + (FP32 + BF16) * parameters,
        TRAIN.name: _training_memory(spec, facts, longest_row=longest_row),
        EVALUATE.name: scoring,
        # The merged model in fp32 and, cast, in bf16; then GPTQ's Hessian of the widest layer.
        COMPRESS.name: scoring + BF16 * parameters + _hessian(spec, facts),
        VERIFY.name: VLLM_BYTES + KV_CACHE_BYTES + BF16 * parameters,
        PUBLISH.name: PROCESS_BYTES,
    }
    return Estimate(
        memory_bytes=memory,
        disk_bytes=_disk(spec, facts),
        accelerator_bytes=FP32 * parameters + _states(spec, facts),
    )


def trainable_parameters(training: Training, facts: ModelFacts) -> int:
    """All parameters, or those of the adapters: rank × (inputs + outputs) for each linear layer.

    A target module that is none of the usual names counts as every linear layer.
    """
    if training.method == "full":
        return facts.num_parameters
    shapes = _linear_layers(facts)
    wanted = set(training.lora.target_modules)
    chosen = [shapes[name] for name in wanted] if wanted <= set(shapes) else list(shapes.values())
    per_block = sum(inputs + outputs for inputs, outputs in chosen)
    return facts.num_layers * training.lora.rank * per_block


def _training_memory(spec: FineTuneJobSpec, facts: ModelFacts, *, longest_row: int | None) -> int:
    training = spec.training
    longest = min(longest_row or training.sequence_length, facts.context_length)
    tokens = training.batch.micro_batch_size * longest
    # Under autocast every frozen weight is kept in bf16 as well, until the backward pass.
    weights = (FP32 if training.precision == "fp32" else FP32 + BF16) * facts.num_parameters
    kept = tokens * facts.num_layers * _activations(facts)
    passing = RESIDENT_PER_ACTIVATION * kept + _logits(tokens, facts)
    worker = PROCESS_BYTES + weights + _states(spec, facts) + passing
    return RAY_BYTES + spec.resources.workers * worker


def _states(spec: FineTuneJobSpec, facts: ModelFacts) -> int:
    """Gradients and moments of what is trained, and the adapters themselves."""
    adapters = FP32 if spec.training.method == "lora" else 0
    return (GRADIENT + MOMENTS + adapters) * trainable_parameters(spec.training, facts)


def _activations(facts: ModelFacts) -> int:
    """Bytes that one block keeps of one token for the backward pass, all counted as fp32.

    Of the hidden size: two norms' inputs and outputs, query before and after rotation, attention's
    output, and keys and values repeated for every head; of the keys' size: key and value, the key
    rotated; of the inner size: gate, its activation, up, and their product.
    """
    keys = facts.num_kv_heads * (facts.hidden_size // facts.num_heads)
    return FP32 * (9 * facts.hidden_size + 3 * keys + 4 * facts.intermediate_size)


def _logits(tokens: int, facts: ModelFacts) -> int:
    return LOGIT_COPIES * FP32 * tokens * facts.vocab_size


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


def _disk(spec: FineTuneJobSpec, facts: ModelFacts) -> int:
    """The base as safetensors, checkpoints and one being written, the result, and its copy."""
    trained = trainable_parameters(spec.training, facts)
    checkpoint = (FP32 + MOMENTS) * trained
    shipped = _shipped(spec, facts)
    base = BF16 * facts.num_parameters
    # Twice the trained weights: the best so far, and the tuned model.
    return base + (spec.checkpoint.keep + 1) * checkpoint + 2 * FP32 * trained + 2 * shipped


def _shipped(spec: FineTuneJobSpec, facts: ModelFacts) -> int:
    embeddings = facts.vocab_size * facts.hidden_size * (1 if facts.is_tied else 2)
    scheme = SCHEME_BYTES[spec.compression.quantize.scheme]
    return int(scheme * max(0, facts.num_parameters - embeddings)) + BF16 * embeddings
