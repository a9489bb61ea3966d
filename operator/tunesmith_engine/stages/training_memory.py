"""What one worker of `train` holds at its peak, part by part, in bytes; and how a step is cut.

`memory.py` has the other stages, `planning/memory_fit.py` picks what fits a device. Pure
arithmetic. Activations are counted tensor by tensor, as Korthikanti et al. 2022 (arXiv 2205.05198,
section 4) do for GPT, here for a gated block with grouped queries and fused attention, which keeps
no square of the length.
"""

from dataclasses import dataclass, fields
from typing import Final

from tunesmith_api.finetunejob.gradient_checkpointing import (
    AUTO,
    NONE,
    GradientCheckpointing,
    every_n_layers,
)
from tunesmith_api.finetunejob.spec import FineTuneJobSpec
from tunesmith_api.finetunejob.training import Training
from tunesmith_engine.sources.model_facts import ModelFacts

FP32: Final = 4
BF16: Final = 2

# AdamW keeps two moments, and every trained parameter has a gradient, all in fp32.
MOMENTS: Final = 2 * FP32
GRADIENT: Final = FP32

# More rows are no faster on a processor.
MOST_ROWS_ON_PROCESSORS: Final = 4


def first_choice(spec: FineTuneJobSpec) -> tuple[int, GradientCheckpointing]:
    """Rows of a forward pass and checkpointed layers where memory is no matter."""
    batch, resources = spec.training.batch, spec.resources
    share = -(-batch.size // resources.workers)
    most = share if resources.gpus_per_worker else min(share, MOST_ROWS_ON_PROCESSORS)
    setting = spec.training.gradient_checkpointing
    return batch.micro_batch_size or most, NONE if setting == AUTO else setting
