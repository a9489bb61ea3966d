"""Whether later stages can do to this model what the job asks: asked in the first minute.

The rules are those of `train` and `compress`, which ask them again. They look at a model without
weights: layers have shapes, and take no memory.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith_api.finetunejob.spec import FineTuneJobSpec
from tunesmith_trainer.compress.schemes import (
    SCHEMES,
    group_size_for,
    quantized_widths,
    refuse_unrunnable,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def refuse_without_gpu(spec: FineTuneJobSpec) -> None:
    """Return if a GPU is here, or is asked for, or the scheme needs none.

    Raises:
        BadInputError: compress would have none to try the model on.
    """
    quantize = spec.compression.quantize
    refuse_unrunnable(quantize, has_gpu=not SCHEMES[quantize.scheme].needs_gpu or _has_gpu(spec))


def refuse_unfit_model(spec: FineTuneJobSpec, folder: Path) -> None:
    """Return if the layers of the model in `folder` take the adapters and the scheme.

    Raises:
        BadInputError: they do not; the message names the field and the layers.
    """
    from tunesmith_trainer.train.targets import ALL_LINEAR, refuse_unfit_targets

    names, quantize = spec.training.lora.target_modules, spec.compression.quantize
    is_lora = spec.training.method == "lora"
    if is_lora and names != [ALL_LINEAR]:
        refuse_unfit_targets(names, model=_outline(folder))
    if quantize.scheme == "W4A16":
        group_size_for(quantize, in_features=quantized_widths(_outline(folder)))


def _has_gpu(spec: FineTuneJobSpec) -> bool:
    import torch

    # In a cluster prepare has none; a job that asks for some gets one for compress.
    return spec.resources.gpus_per_worker > 0 or torch.cuda.is_available()


def _outline(folder: Path) -> "PreTrainedModel":
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, trust_remote_code=False)
