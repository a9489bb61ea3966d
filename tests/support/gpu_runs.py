"""Training on one card without Ray: models of known shapes with random weights, and timed runs.

Only `tests/gpu` uses it. Weights are drawn on the device and written in bf16, as bases come.
"""

import gc
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from manifests import a_job
from small_runs import a_train_config
from tunesmith_api.finetunejob.job import FineTuneJob
from tunesmith_engine.sources.model_facts import ModelFacts
from tunesmith_engine.stages.memory import Workload
from tunesmith_engine.stages.training_memory import worker_memory
from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.train.adapters import build_trainable
from tunesmith_trainer.train.checkpoints import Checkpoints
from tunesmith_trainer.train.collectives import WorkerGroup
from tunesmith_trainer.train.dataloader import RowSampler
from tunesmith_trainer.train.history import GENERAL, HELD_OUT, TRAIN_SAMPLE
from tunesmith_trainer.train.loop import Loop
from tunesmith_trainer.train.objectives.cross_entropy import CrossEntropy
from tunesmith_trainer.train.packing import bin_capacity, end_to_end, one_per_line

# Llama 3.2 1B and SmolLM2-135M.
SHAPES: dict[str, dict[str, Any]] = {
    "1B": {
        "vocab_size": 128_256, "hidden_size": 2048, "intermediate_size": 8192,
        "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8,
    },
    "135M": {
        "vocab_size": 49_152, "hidden_size": 576, "intermediate_size": 1536,
        "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3,
    },
}  # fmt: skip

# The first steps choose kernels, and fill the allocator.
_WARM_UP = 3


@dataclass(frozen=True, slots=True)
class Measured:
    """Of the steps after the warm-up: tokens a second and MFU in the median; memory at its peak.

    `mfu` is None where the peak of the card is not known, `estimated_bytes` what the planner says.
    """

    card: str
    shape: str
    method: str
    tokens_per_second: float
    mfu: float | None
    estimated_bytes: int
    peak_bytes: int
    held_bytes: int
    first_loss: float
    last_loss: float

    def as_line(self) -> dict[str, object]:
        """For the report at the end of the suite."""
        return asdict(self)


def write_base(folder: Path, *, shape: str, device: torch.device) -> Path:
    """A model folder of that shape, without a tokenizer."""
    torch.manual_seed(0)
    config = LlamaConfig(**SHAPES[shape], max_position_embeddings=8192, tie_word_embeddings=True)
    with device:
        LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    return folder


def rows_of(lengths: list[int], *, vocab_size: int, seed: int = 0) -> TokenRows:
    """Rows of random tokens, all but the first of each trained."""
    total = sum(lengths)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    trained = np.ones(total, dtype=np.bool_)
    trained[offsets[:-1]] = False
    ids = np.random.default_rng(seed).integers(1, vocab_size, size=total).astype(np.int32)
    return TokenRows(input_ids=ids, trained=trained, offsets=offsets)


def a_gpu_loop(
    base: Path,
    *,
    training: dict[str, Any],
    rows: TokenRows,
    folder: Path,
    device: torch.device,
    packing: Literal["bfd", "none"] = "none",
) -> Loop:
    """One worker on `device`; the first rows stand in for all that is measured."""
    config = a_train_config(num_rows=len(rows), training=training, checkpoint={"everySteps": 1000})
    config = replace(config, packing=packing)
    capacity = bin_capacity(rows.lengths, size=config.micro_batch_size)
    lay_out = partial(end_to_end, max_tokens=capacity) if packing == "bfd" else one_per_line
    first_row = CrossEntropy(rows.subset([0]), device=device)
    return Loop(
        build_trainable(base, config=config, device=device),
        config=config,
        objective=CrossEntropy(
            rows, device=device, lay_out=lay_out, is_compiled=config.training.compile
        ),
        sampler=RowSampler(len(rows), batch_size=config.training.batch.size, seed=0),
        measures=dict.fromkeys((HELD_OUT, TRAIN_SAMPLE, GENERAL), first_row),
        group=WorkerGroup(rank=0, size=1, device=device),
        checkpoints=Checkpoints(folder, config_digest=config.digest(), keep=1),
        name_rows=lambda numbers: [str(number) for number in numbers],
    )


def measure(
    base: Path,
    *,
    shape: str,
    name: str,
    training: dict[str, Any],
    rows: TokenRows,
    folder: Path,
    device: torch.device,
    packing: Literal["bfd", "none"] = "none",
) -> Measured:
    """Train, and say how fast and in how much memory."""
    memory = torch.accelerator
    # A run before this one lies in cycles, and on the card.
    gc.collect()
    memory.empty_cache()
    memory.reset_peak_memory_stats(device)
    loop = a_gpu_loop(
        base, training=training, rows=rows, folder=folder, device=device, packing=packing
    )
    # A checkpoint of 15 GB is not what is timed.
    loop._state.save = lambda history: None  # type: ignore[method-assign]  # noqa: ARG005
    held = memory.memory_allocated(device)
    steps = [point for point in loop.run().points if point["kind"] == "train"]
    return Measured(
        card=torch.get_device_module(device).get_device_name(device),
        shape=shape,
        method=name,
        tokens_per_second=_median(steps, "tokensPerSecond"),
        mfu=_median(steps, "mfu") if "mfu" in steps[-1] else None,
        estimated_bytes=estimated_bytes(
            shape, training=training, longest_row=int(rows.lengths.max())
        ),
        peak_bytes=memory.max_memory_allocated(device),
        held_bytes=held,
        first_loss=float(str(steps[0]["loss"])),
        last_loss=float(str(steps[-1]["loss"])),
    )


def estimated_bytes(shape: str, *, training: dict[str, Any], longest_row: int) -> int:
    """What the planner says that such a run takes of a card."""
    job = a_job(training=training, resources={"gpusPerWorker": 1})
    spec = FineTuneJob.model_validate(job).spec.with_defaults()
    return worker_memory(Workload(spec, _facts_of(shape), longest_row)).total


def _facts_of(shape: str) -> ModelFacts:
    given = SHAPES[shape]
    hidden, inner, layers = (
        given[name] for name in ("hidden_size", "intermediate_size", "num_hidden_layers")
    )
    heads, kv_heads = given["num_attention_heads"], given["num_key_value_heads"]
    attention = 2 * hidden * hidden + 2 * hidden * kv_heads * (hidden // heads)
    in_layers = layers * (attention + 3 * hidden * inner + 2 * hidden)
    return ModelFacts(
        num_parameters=in_layers + given["vocab_size"] * hidden + hidden,
        num_layers=layers,
        hidden_size=hidden,
        intermediate_size=inner,
        num_heads=heads,
        num_kv_heads=kv_heads,
        vocab_size=given["vocab_size"],
        context_length=8192,
        is_tied=True,
        has_chat_template=False,
    )


def _median(steps: list[Any], name: str) -> float:
    return float(np.median([float(step[name]) for step in steps[_WARM_UP:]]))
