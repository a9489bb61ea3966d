"""The two models of an evaluation, one after the other, in the memory of one.

With adapters both are the same weights, with the adapters switched off and on; they are not
merged here, so that `compress` proves its merging by arriving at the same loss.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from transformers import PreTrainedModel

from tunesmith_trainer.models import load_model

Found = TypeVar("Found")
Measure = Callable[[str, PreTrainedModel], Found]


def measure_both(base: Path, tuned: Path, *, measure: Measure[Found]) -> tuple[Found, Found]:
    """What `measure(name, model)` finds of "base" and of "tuned", both in fp32.

    `tuned` is a folder of adapters or of a whole model.
    """
    if (tuned / "adapter_config.json").is_file():
        return _with_adapters(base, tuned, measure=measure)
    return measure("base", load_for_scoring(base)), measure("tuned", load_for_scoring(tuned))


def load_for_scoring(folder: Path) -> PreTrainedModel:
    """The model in fp32, on the GPU if there is one, ready for inference."""
    return ready_for_scoring(load_model(folder, dtype=torch.float32))


def ready_for_scoring(model: PreTrainedModel) -> PreTrainedModel:
    """`model` on the GPU if there is one, without dropout."""
    return model.to("cuda" if torch.cuda.is_available() else "cpu").eval()


def _with_adapters(base: Path, adapters: Path, *, measure: Measure[Found]) -> tuple[Found, Found]:
    from peft import PeftModel

    model = PeftModel.from_pretrained(load_for_scoring(base), str(adapters)).eval()
    with model.disable_adapter():
        before = measure("base", model)
    return before, measure("tuned", model)
