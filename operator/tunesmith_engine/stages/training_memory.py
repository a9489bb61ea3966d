"""What a worker of `train` holds at its peak, part by part, in bytes.

The row of the catalogue adds the workers up, `memory_fit.py` cuts a step so that it fits.
Pure arithmetic. Activations are counted tensor by tensor, as Korthikanti et al. 2022
(arXiv 2205.05198, section 4) do for GPT, here for a gated block with grouped queries and fused
attention, which keeps no square of the length.
"""

from dataclasses import astuple, dataclass, replace
from typing import Final, Literal

from tunesmith_api.finetunejob.gradient_checkpointing import AUTO, NONE, every_n_layers
from tunesmith_api.finetunejob.spec import FineTuneJobSpec
from tunesmith_api.finetunejob.training import Training
from tunesmith_engine.sources.model_facts import ModelFacts
from tunesmith_engine.stages.memory import (
    BF16,
    FP32,
    LOGITS_PER_CHUNK,
    PROCESS_BYTES,
    RAY_BYTES,
    Workload,
    scoring,
)
from tunesmith_engine.stages.pruned_shape import pruned_facts
from tunesmith_engine.stages.recovery_spec import drafted, recovering
from tunesmith_engine.stages.search_space import with_parameters
from tunesmith_engine.stages.trial_records import ParameterValue

# Rows of a forward pass where nothing is said of the memory, and the most on a processor, which is
# no faster with more.
USUAL_ROWS: Final = 4

# AdamW keeps two moments, and every trained parameter has a gradient, all in fp32.
MOMENTS: Final = 2 * FP32
GRADIENT: Final = FP32
# Moments of eight bits, and a weight of NF4 with its scales, which are quantized in turn (QLoRA,
# arXiv 2305.14314, section 3): 4.127 bits.
EIGHT_BIT_MOMENTS: Final = 2
NF4: Final = 4.127 / 8

# Logits, their log-softmax and the gradients of both are alive together, all in fp32.
LOGIT_COPIES: Final = 4

# What malloc holds over the tensors, as a part of the activations that there are without
# checkpointing: its heap is broken up as much with it. Where all weights are trained the moments
# fill what the first step has left. By benchmarks/memory_planner.py (docs/log.md).
_UNUSED_ON_PROCESSORS: Final = {"lora": 1.0, "full": 0.45}
# On an H200 the whole estimate was 7 to 8 % above what was measured.
_UNUSED_ON_ACCELERATORS: Final = 0.1
# Fields of a search of which more takes more memory.
_WIDENING: Final = ("training.lora.rank", "training.batch.size")
# A CUDA context and the workspaces of its libraries, as they usually are.
_CONTEXT_BYTES: Final = 600 << 20
# That a new row may have over twice those of the longest, where all of them are short.
_NEW_ROW_TOKENS: Final = 64


@dataclass(frozen=True, slots=True)
class WorkerMemory:
    """A worker's peak: on an accelerator that of the device, else its resident memory.

    `libraries` are Python and torch, or CUDA's context; `activations` what the forward pass keeps
    and, of one layer, what is computed again; `loss` the logits of a chunk and what is made of
    them; `unused` what the allocator holds besides.
    """

    libraries: int
    weights: int
    gradients: int
    optimizer: int
    activations: int
    loss: int
    unused: int

    @property
    def total(self) -> int:
        """All of it."""
        return sum(astuple(self))


def training(workload: Workload) -> int:
    """Of `train`: all workers and Ray; without the rows, of the longest that are allowed.

    Where accelerators train, the processes beside them load the weights and write checkpoints.
    """
    resources, facts = workload.spec.resources, workload.facts
    if not resources.gpus_per_worker:
        return RAY_BYTES + resources.workers * worker_memory(workload).total
    written = trained_state(workload.spec.training, facts)
    process = PROCESS_BYTES + _CONTEXT_BYTES + FP32 * facts.num_parameters + written
    return RAY_BYTES + resources.workers * process


def searching(workload: Workload) -> int:
    """Of `search`: as many runs at a time as the job allows, each with the largest of the space."""
    search = workload.spec.search
    if search is None:
        return 0
    largest: dict[str, ParameterValue] = {}
    for parameter in search.parameters:
        if parameter.field in _WIDENING:
            numbers = [*parameter.values, *([parameter.maximum] if parameter.maximum else [])]
            largest[parameter.field] = int(max(numbers, default=1.0))
    spec = with_parameters(workload.spec, largest)
    return _side_by_side(replace(workload, spec=spec), num_runs=search.max_parallel)


def cross_validating(workload: Workload) -> int:
    """Of `crossval`: as many folds at a time as the job allows."""
    folds = workload.spec.cross_validation
    return 0 if folds is None else _side_by_side(workload, num_runs=folds.parallel)


def distilling(workload: Workload) -> int:
    """Of `distill`: the pruned model in training beside its teacher, or one being scored."""
    prune, facts = workload.spec.compression.prune, workload.facts
    teacher = FP32 * facts.num_parameters
    is_beside = prune is not None and prune.recovery.is_beside_teacher
    student = Workload(
        recovering(workload.spec), pruned_facts(workload.spec, facts), workload.longest_row
    )
    recovered = training(student) - RAY_BYTES + (teacher if is_beside else 0)
    return max(recovered, scoring(workload))


def drafting(workload: Workload) -> int:
    """Of `draft`: as of `distill`, with the draft as what is left."""
    return distilling(replace(workload, spec=drafted(workload.spec)))


def _side_by_side(workload: Workload, *, num_runs: int) -> int:
    """Runs of one process each, and the stage's own."""
    alone = workload.spec.resources.model_copy(update={"workers": 1, "min_workers": None})
    spec = workload.spec.model_copy(update={"resources": alone})
    one = training(replace(workload, spec=spec)) - RAY_BYTES
    return RAY_BYTES + PROCESS_BYTES + num_runs * one


def worker_memory(workload: Workload) -> WorkerMemory:
    """The peak of one worker: with `precision: auto` of the type that takes more."""
    precision = workload.spec.training.precision
    types: tuple[Literal["bf16", "fp32"], ...] = (
        ("bf16", "fp32") if precision == "auto" else (precision,)
    )
    peaks = [_peak(workload, precision=precision) for precision in types]
    return max(peaks, key=lambda peak: peak.total)


def _peak(workload: Workload, *, precision: Literal["bf16", "fp32"]) -> WorkerMemory:
    spec, facts = workload.spec, workload.facts
    on_accelerator = spec.resources.gpus_per_worker > 0
    trained = trainable_parameters(spec.training, facts)
    tokens = tokens_per_pass(workload)
    activations = tokens * _activations(spec.training, facts, precision=precision)
    if spec.holds_to_highlights:
        twice = tokens * _differentiated_twice(workload, precision=precision)
        activations = max(activations, twice)
    plain = spec.training.model_copy(update={"gradient_checkpointing": NONE})
    passing = tokens * _activations(plain, facts, precision=precision)
    method = spec.training.method
    unused = _UNUSED_ON_ACCELERATORS if on_accelerator else _UNUSED_ON_PROCESSORS[method]
    moments = MOMENTS if spec.training.optimizer.type == "adamw" else EIGHT_BIT_MOMENTS
    # What is written in the background is a copy of the trained weights and their moments.
    is_copied = writes_asynchronously(spec) and not on_accelerator
    copied = FP32 + moments if is_copied else 0
    peak = WorkerMemory(
        libraries=_CONTEXT_BYTES if on_accelerator else PROCESS_BYTES,
        weights=_weights(spec.training, facts, precision=precision)
        + (FP32 * (workload.teacher or facts.num_parameters) if spec.training.distillation else 0),
        gradients=_gradients(spec, trained=trained, activations=activations),
        optimizer=(moments + copied) * trained,
        activations=activations,
        loss=_loss(spec, facts, tokens=tokens),
        unused=int(unused * passing),
    )
    is_sharded = spec.training.parallelism == "fsdp" and spec.resources.workers > 1
    return _in_shards(peak, spec, facts) if is_sharded else peak


def _in_shards(peak: WorkerMemory, spec: FineTuneJobSpec, facts: ModelFacts) -> WorkerMemory:
    """The same where workers share weights, gradients and moments.

    Whole during a pass are embedding and head, and two layers: one computes, the next is gathered.
    """
    workers = spec.resources.workers
    outer = FP32 * _embeddings(facts)
    layers = peak.weights - outer
    trained_outer = outer if spec.training.method == "full" else 0
    return replace(
        peak,
        weights=(layers + trained_outer) // workers + 2 * layers // facts.num_layers + outer,
        gradients=peak.gradients // workers + trained_outer,
        optimizer=peak.optimizer // workers,
    )


def tokens_per_pass(workload: Workload) -> int:
    """The most tokens of a forward pass, padded or packed: as many as so many longest rows have."""
    # A row of preferences is two of tokens, which go through the model together; and so is a row
    # beside itself with another group's terms.
    sides = 2 if workload.spec.training.has_pairs else 1
    return sides * rows_per_pass(workload.spec) * tokens_per_row(workload)


def tokens_per_row(workload: Workload) -> int:
    """The most tokens of a row: of the longest that there is, or that there may be."""
    spec = workload.spec
    longest = workload.longest_row or spec.training.sequence_length
    if spec.dataset.synthesis is not None:
        longest = longest_new_row(spec, longest_row=longest)
    return min(longest, workload.facts.context_length)


def longest_new_row(spec: FineTuneJobSpec, *, longest_row: int) -> int:
    """Tokens that a row may have which `synthesize` writes, after rows of at most `longest_row`.

    Memory is judged before the first of them is written.
    """
    return min(spec.training.sequence_length, 2 * longest_row + _NEW_ROW_TOKENS)


def rows_per_pass(spec: FineTuneJobSpec) -> int:
    """`microBatchSize`, or what it is where nothing is known of the memory."""
    return spec.training.batch.micro_batch_size or min(rows_per_worker(spec), USUAL_ROWS)


def rows_per_worker(spec: FineTuneJobSpec) -> int:
    """The most rows of a step that one worker gets."""
    return -(-spec.training.batch.size // spec.resources.workers)


def num_accumulated(spec: FineTuneJobSpec) -> int:
    """Forward passes of a worker whose gradients make up one step."""
    return -(-rows_per_worker(spec) // rows_per_pass(spec))


def writes_asynchronously(spec: FineTuneJobSpec) -> bool:
    """`checkpoint.asynchronous`, or whether accelerators train, whose state has to be copied."""
    given = spec.checkpoint.asynchronous
    return spec.resources.gpus_per_worker > 0 if given is None else given


def checkpointed(training: Training) -> str:
    """`gradientCheckpointing`, or what it is where nothing is known of the memory."""
    return NONE if training.gradient_checkpointing == AUTO else training.gradient_checkpointing


def trained_state(training: Training, facts: ModelFacts) -> int:
    """Gradients and moments of what is trained, and the adapters themselves."""
    adapters = FP32 if training.method == "lora" else 0
    return (GRADIENT + MOMENTS + adapters) * trainable_parameters(training, facts)


def trainable_parameters(training: Training, facts: ModelFacts) -> int:
    """All parameters, or those of the adapters: rank × (inputs + outputs) for each linear layer.

    A target module that is none of the usual names counts as every linear layer, and what
    `freeze.modules` names as trained.
    """
    freeze = training.freeze
    num_layers = max(0, facts.num_layers - freeze.layers)
    if training.method == "full":
        in_layers = facts.num_parameters - _embeddings(facts)
        frozen = in_layers * (facts.num_layers - num_layers) // facts.num_layers
        embedding = facts.vocab_size * facts.hidden_size if freeze.embeddings else 0
        return facts.num_parameters - frozen - embedding
    per_block = sum(sum(shape) for shape in _adapted(training, facts))
    return num_layers * training.lora.rank * per_block


def _weights(training: Training, facts: ModelFacts, *, precision: Literal["bf16", "fp32"]) -> int:
    # What is in layers; embeddings, head and norms stay in fp32.
    linear = facts.num_parameters - _embeddings(facts)
    held = FP32 * facts.num_parameters
    if training.method == "lora":
        if training.is_quantized:
            held -= int((FP32 - NF4) * linear)
        elif precision == "bf16":
            held -= (FP32 - BF16) * linear
        return held + FP32 * trainable_parameters(training, facts)
    if precision == "bf16":
        # Autocast keeps what it has cast until the backward pass.
        held += BF16 * linear
    return held + (FP32 * facts.num_parameters if training.compares_with_base else 0)


def _activations(
    training: Training, facts: ModelFacts, *, precision: Literal["bf16", "fp32"]
) -> int:
    """Bytes for each token: what every layer keeps and, with checkpointing, one layer's again."""
    whole = _layer(training, facts, precision=precision)
    # Below the first adapter no gradient goes, so nothing is kept; but to what is added to inputs.
    is_cut = training.method == "lora" and training.adversarial is None
    skipped = training.freeze.layers if is_cut else 0
    num_layers = max(1, facts.num_layers - skipped)
    distance = every_n_layers(checkpointed(training))
    if distance is None:
        return num_layers * whole
    # transformers counts from the first layer, frozen or not.
    again = len([layer for layer in range(0, facts.num_layers, distance) if layer >= skipped])
    return (num_layers - again) * whole + again * FP32 * facts.hidden_size + whole


def _differentiated_twice(workload: Workload, *, precision: Literal["bf16", "fp32"]) -> int:
    """Bytes for each token of gradients that are differentiated once more, checkpointing or not.

    As autograd was seen to keep them (tests/unit/trainer/train/test_attribution.py): of every layer
    two and a half times what the forward pass keeps, and four squares of attention's weights.
    """
    facts, columns = workload.facts, tokens_per_row(workload)
    layer = _layer(workload.spec.training, facts, precision=precision)
    return facts.num_layers * (5 * layer // 2 + 4 * FP32 * facts.num_heads * columns)


def _layer(training: Training, facts: ModelFacts, *, precision: Literal["bf16", "fp32"]) -> int:
    """Bytes that a layer keeps of a token.

    As autograd was seen to keep them (tests/unit/trainer/train/test_gradient_checkpointing.py): of
    the hidden size both residual sums, inputs of the linear layers, query and attention's output;
    key and value; of the inner size gate, its activation, up, and their product.
    """
    hidden, inner = facts.hidden_size, facts.intermediate_size
    keys = facts.num_kv_heads * (hidden // facts.num_heads)
    # The softmax's sums of each head, and two norms' factors.
    sums = FP32 * (facts.num_heads + 2)
    if training.method == "full":
        # The scaled input of each norm as well, for the gradient of its weight.
        wide = FP32 * 4 * hidden
        rest = 4 * hidden + 2 * keys + 4 * inner
        return sums + wide + (BF16 * (rest + 3 * hidden) if precision == "bf16" else FP32 * rest)
    adapted = _adapted(training, facts)
    dropped = 2 * sum(inputs for inputs, _ in adapted) if training.lora.dropout else 0
    adapters = FP32 * (len(adapted) * training.lora.rank + dropped)
    halved = 2 * hidden + 2 * keys
    held = FP32 if precision == "fp32" else BF16
    # In bf16 attention alone: adapters add in fp32.
    return sums + adapters + FP32 * (4 * hidden + 4 * inner) + held * halved


def _gradients(spec: FineTuneJobSpec, *, trained: int, activations: int) -> int:
    """Those of a step of one pass come as activations go: what they have more of is counted."""
    size = GRADIENT * trained
    if spec.training.adversarial is not None or spec.holds_to_highlights:
        # Of the passes of an ascent, or of what is off highlights, summed before they are added.
        return 2 * size
    return size if num_accumulated(spec) > 1 else max(0, size - activations)


def _loss(spec: FineTuneJobSpec, facts: ModelFacts, *, tokens: int) -> int:
    """Logits and what is made of them; those of preferences are not taken in chunks."""
    kind = "accelerator" if spec.resources.gpus_per_worker else "processor"
    positions, gradients = tokens, 0
    if spec.training.objective == "sft":
        positions = min(tokens, LOGITS_PER_CHUNK[kind])
        if spec.training.method == "full":
            # Of the head, for one chunk and for all of them so far.
            gradients = 2 * FP32 * facts.vocab_size * facts.hidden_size
    return LOGIT_COPIES * FP32 * positions * facts.vocab_size + gradients


def _embeddings(facts: ModelFacts) -> int:
    return (1 if facts.is_tied else 2) * facts.vocab_size * facts.hidden_size


def _adapted(training: Training, facts: ModelFacts) -> list[tuple[int, int]]:
    """Inputs and outputs of the linear layers of a block that get adapters."""
    hidden, inner = facts.hidden_size, facts.intermediate_size
    keys = facts.num_kv_heads * (hidden // facts.num_heads)
    shapes = {
        "q_proj": (hidden, hidden),
        "k_proj": (hidden, keys),
        "v_proj": (hidden, keys),
        "o_proj": (hidden, hidden),
        "gate_proj": (hidden, inner),
        "up_proj": (hidden, inner),
        "down_proj": (inner, hidden),
    }
    wanted = set(training.lora.target_modules)
    return [shapes[name] for name in wanted] if wanted <= set(shapes) else list(shapes.values())
