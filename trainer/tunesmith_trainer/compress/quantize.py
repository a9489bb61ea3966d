"""Quantize a merged model with llm-compressor, into a folder that vLLM loads.

The arithmetic is fp32: in bf16 a weight divided by its scale has no more than eight bits, so it
would be rounded twice. Scales are cut to bf16 before the weights are rounded to them, because a
server may read them so.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from torch.utils.data import DataLoader
from transformers import PreTrainedModel

from tunesmith_api.finetunejob.compression import Quantize
from tunesmith_trainer.compress.merge import copy_tokenizer
from tunesmith_trainer.compress.schemes import (
    SCHEMES,
    SchemeName,
    group_size_for,
    quantized_widths,
    recipe,
)
from tunesmith_trainer.evaluate.pair import load_for_scoring


def quantize_folder(
    merged: Path,
    target: Path,
    *,
    name: SchemeName,
    settings: Quantize,
    calibration: Sequence[Sequence[int]],
) -> None:
    """Write the model of `merged` to `target` in scheme `name`.

    `calibration` are rows of token ids, used by schemes that calibrate.

    Raises:
        BadInputError: the model's layers do not fit the scheme.
    """
    model = load_for_scoring(merged)
    group_size = None
    if name == "W4A16":
        group_size = group_size_for(settings, in_features=quantized_widths(model))
    modifiers = recipe(name, architecture=type(model).__name__, group_size=group_size)
    _run(model, modifiers, pipeline=SCHEMES[name].pipeline, calibration=calibration)
    _round_scales(model)
    shutil.rmtree(target, ignore_errors=True)
    _save(model, target)
    copy_tokenizer(merged, target)


def _run(
    model: PreTrainedModel,
    modifiers: list[object],
    *,
    pipeline: str,
    calibration: Sequence[Sequence[int]],
) -> None:
    from llmcompressor import oneshot

    if pipeline == "datafree":
        oneshot(model=model, recipe=modifiers, pipeline=pipeline)
        return
    rows = [
        {"input_ids": torch.tensor(ids), "attention_mask": torch.ones(len(ids), dtype=torch.long)}
        for ids in calibration
    ]
    oneshot(
        model=model,
        recipe=modifiers,
        dataset=DataLoader(rows, batch_size=1),
        pipeline=pipeline,
    )


def _round_scales(model: PreTrainedModel) -> None:
    for name, parameter in model.named_parameters():
        if name.endswith("_scale"):
            parameter.data = parameter.data.to(torch.bfloat16).to(parameter.dtype)


def _save(model: PreTrainedModel, target: Path) -> None:
    """Pack the weights first, in fp32; what is still floating point then becomes bf16."""
    from compressed_tensors import ModelCompressor

    ModelCompressor.from_pretrained_model(model).compress_model(model)
    model.to(torch.bfloat16).save_pretrained(target)
