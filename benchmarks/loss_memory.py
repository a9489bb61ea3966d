"""Memory of the loss alone, all logits at once or in chunks; run in the trainer environment.

`python loss_memory.py plain|chunked POSITIONS` prints one JSON object. The model is the embedding
and the head of SmolLM2-135M, tied, with adapters nowhere and the head frozen: what is allocated is
the loss, and the gradient of the hidden states.
"""

import json
import resource
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM

from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.train.objectives.cross_entropy import CrossEntropy, target_logits

VOCABULARY = 49_152
HIDDEN = 576
# To the kernel: forget the peak so far.
RESET_PEAK = "5"
MIB = 1 << 20


def main(kind: str, num_positions: int) -> dict[str, float]:
    """The peak over what was resident before, in MiB, and the seconds."""
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=HIDDEN,
            intermediate_size=HIDDEN,
            num_hidden_layers=0,
            num_attention_heads=9,
            num_key_value_heads=3,
            tie_word_embeddings=True,
        )
    )
    model.lm_head.weight.requires_grad_(requires_grad=False)
    _step(model, kind, 64)
    Path("/proc/self/clear_refs").write_text(RESET_PEAK, encoding="utf-8")
    before, started = _resident("VmRSS"), time.monotonic()
    _step(model, kind, num_positions)
    seconds = time.monotonic() - started
    return {
        "peakMiB": round((_resident("VmHWM") - before) / MIB, 1),
        "seconds": round(seconds, 2),
        "cpuSeconds": round(resource.getrusage(resource.RUSAGE_SELF).ru_utime, 2),
    }


def _step(model: LlamaForCausalLM, kind: str, num_positions: int) -> None:
    ids = np.random.default_rng(0).integers(0, VOCABULARY, size=num_positions + 1)
    tokens = TokenRows.of([(ids.tolist(), [False, *[True] * num_positions])])
    objective = CrossEntropy(tokens, device=torch.device("cpu"))
    if kind == "chunked":
        loss = objective.summed_loss(model, [0])
    else:
        batch = objective.collated([0])
        loss = F.cross_entropy(target_logits(model, batch).float(), batch.targets, reduction="sum")
    loss.backward()
    model.zero_grad()


def _resident(name: str) -> int:
    """Bytes of this process, now or at their peak."""
    status = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    line = next(line for line in status if line.startswith(f"{name}:"))
    return int(line.split()[1]) << 10


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]))))
