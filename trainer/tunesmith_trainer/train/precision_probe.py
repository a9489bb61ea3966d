"""Which of bf16 and fp32 this processor trains faster in: tried for a second, not read from flags.

Flags say that bf16 exists, not that it pays: on AVX512-BF16 without AMX fp32 trains half as fast
again (docs/log.md). `stage` asks once, before there are workers, and keeps the answer in its output
folder: a resumed run goes on in the type that it began with.
"""

import time
from pathlib import Path
from typing import Any, Final, Literal

import torch
from pydantic import BaseModel, ConfigDict

from tunesmith_api.finetunejob.training import Lora, Training
from tunesmith_engine.stages.reporter import write_atomically
from tunesmith_trainer.train.adapters import make_trainable
from tunesmith_trainer.train.parameter_dtypes import hold

Precision = Literal["bf16", "fp32"]

ANSWER: Final = "precision.json"
_TYPES: Final[tuple[Precision, ...]] = ("fp32", "bf16")
# Of each type; long enough for a few rounds, short beside the start of Ray.
_SECONDS: Final = 0.5
_LEAST_ROUNDS: Final = 2
# Rows and tokens of a small micro batch. The ratio hardly moves beyond.
_SHAPE: Final = (2, 128)
# The head is left out of it: either type computes few logits, and building it takes memory.
_VOCABULARY: Final = 64


class ProbedPrecision(BaseModel):
    """The faster type, and the tokens a second of one block, forward and back, in each."""

    model_config = ConfigDict(frozen=True)

    precision: Precision
    tokens_per_second: dict[Precision, float]


def probed_precision(model: Path, *, training: Training, folder: Path) -> ProbedPrecision:
    """The answer that `folder` keeps, or else a new one, which it keeps from then on."""
    kept = folder / ANSWER
    if kept.is_file():
        return ProbedPrecision.model_validate_json(kept.read_text(encoding="utf-8"))
    answer = probe(model, training=training)
    write_atomically(kept, answer.model_dump_json())
    return answer


def probe(folder: Path, *, training: Training, seconds: float = _SECONDS) -> ProbedPrecision:
    """Train one block of the model in `folder`, with random weights, in both types in turn."""
    # The caller's generator is not moved by the blocks' weights.
    with torch.random.fork_rng(devices=[]):
        blocks = {precision: _block(folder, training, precision) for precision in _TYPES}
    spent = dict.fromkeys(_TYPES, 0.0)
    rounds = -1
    # In turn, so that whatever else the machine does slows both.
    while min(spent.values()) < seconds or rounds < _LEAST_ROUNDS:
        for precision, block in blocks.items():
            started = time.perf_counter()
            _forward_and_back(block, precision)
            # The first round builds kernels and is not counted.
            if rounds >= 0:
                spent[precision] += time.perf_counter() - started
        rounds += 1
    tokens = rounds * _SHAPE[0] * _SHAPE[1]
    speeds = {precision: round(tokens / spent[precision], 1) for precision in _TYPES}
    faster = max(_TYPES, key=lambda precision: speeds[precision])
    return ProbedPrecision(precision=faster, tokens_per_second=speeds)


def _block(folder: Path, training: Training, precision: Precision) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    config.num_hidden_layers = 1
    config.vocab_size = _VOCABULARY
    # A padding token beyond the vocabulary would be refused.
    config.pad_token_id = None
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:1]
    model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    # Of the job's settings only those that change what is computed: the others may name layers
    # that this block is not.
    plain = Training(method=training.method, lora=Lora(rank=training.lora.rank)).with_defaults()
    block = make_trainable(model, training=plain, precision=precision)
    held = precision if training.method == "lora" else "fp32"
    hold(block, model=block, precision=held, device=torch.device("cpu"))
    return block.train()


def _forward_and_back(block: Any, precision: Precision) -> None:
    ids = torch.zeros(_SHAPE, dtype=torch.int64)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
        loss = block(input_ids=ids, use_cache=False).logits.float().sum()
    loss.backward()
