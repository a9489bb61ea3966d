"""Quantize a merged model with llm-compressor, into a folder that vLLM loads.

The arithmetic is fp32: in bf16 a weight divided by its scale has no more than eight bits, so it
would be rounded twice. Scales are cut to bf16 before the weights are rounded to them, because a
server may read them so.
"""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.utils.data import DataLoader
from transformers import PreTrainedModel

from tunesmith_api.finetunejob.compression import DEFAULT_ALGORITHM, Quantize, SchemeName
from tunesmith_trainer.compress.merge import copy_tokenizer
from tunesmith_trainer.compress.schemes import (
    group_size_for,
    pipeline_of,
    quantized_widths,
    recipe,
)
from tunesmith_trainer.devices import has_accelerator
from tunesmith_trainer.evaluate.log_likelihood import load_for_scoring


def quantize_folder(
    merged: Path,
    target: Path,
    *,
    name: SchemeName,
    settings: Quantize,
    calibration: Sequence[Sequence[int]],
    kept: Sequence[str] = (),
) -> int | None:
    """Write the model of `merged` to `target` in scheme `name`; return its group size, if any.

    `calibration` are rows of token ids, used by schemes that calibrate. The modules named in `kept`
    stay bf16.

    Raises:
        BadInputError: the model's layers do not fit the scheme.
    """
    from compressed_tensors import ModelCompressor

    model = load_for_scoring(merged)
    group_size = None
    if name == "W4A16":
        group_size = group_size_for(settings, in_features=quantized_widths(model))
    algorithm = settings.algorithm or DEFAULT_ALGORITHM
    modifiers = recipe(
        name,
        architecture=type(model).__name__,
        group_size=group_size,
        algorithm=algorithm,
        kept=kept,
    )
    if (name, algorithm) == ("W4A16", "autoRound"):
        calibration = equal_blocks(calibration)
    pipeline = pipeline_of(name, algorithm)
    _calibrate(model, modifiers, pipeline=pipeline, calibration=calibration)
    # NB: the order. Weights are rounded to their scales only when they are packed; a scale that is
    # cut afterwards would no longer be the one that they were divided by.
    for parameter_name, parameter in model.named_parameters():
        if parameter_name.endswith("_scale"):
            parameter.data = parameter.data.to(torch.bfloat16).to(parameter.dtype)
    shutil.rmtree(target, ignore_errors=True)
    # NB: packed here, in fp32. llm-compressor has wrapped save_pretrained, which would pack as
    # well, but after the cast to bf16. What is still floating point then becomes bf16.
    ModelCompressor.from_pretrained_model(model).compress_model(model)
    model.to(torch.bfloat16).save_pretrained(target)
    copy_tokenizer(merged, target)
    return group_size


def equal_blocks(rows: Sequence[Sequence[int]]) -> list[list[int]]:
    """The rows one behind the other, cut into blocks as long as the longest; the rest goes.

    AutoRound pads rows of unlike length and counts the padding in its loss (auto-round 0.15 as
    llm-compressor 0.14 calls it), which then forgets the tokens: it made models worse than rounding
    to nearest does.
    """
    tokens = [token for row in rows for token in row]
    length = max(map(len, rows))
    return [tokens[at : at + length] for at in range(0, len(tokens) - length + 1, length)]


def _calibrate(
    model: PreTrainedModel,
    modifiers: list[object],
    *,
    pipeline: str,
    calibration: Sequence[Sequence[int]],
) -> None:
    from llmcompressor import oneshot

    # NB: `oneshot` unties a tied head. Saving ties it again only where head and embedding are still
    # equal, which is one more reason for `schemes.IGNORED`.
    if pipeline == "datafree":
        oneshot(model=model, recipe=modifiers, pipeline=pipeline)
        return
    # A loader of our own: `oneshot` tokenizes and cuts a data set by settings of its own. One row a
    # batch needs no padding, which would count as activations.
    rows = [
        {"input_ids": torch.tensor(ids), "attention_mask": torch.ones(len(ids), dtype=torch.long)}
        for ids in calibration
    ]
    with _nothing_pinned():
        oneshot(
            model=model,
            recipe=modifiers,
            dataset=DataLoader(rows, batch_size=1),
            pipeline=pipeline,
        )


@contextmanager
def _nothing_pinned() -> Iterator[None]:
    """Without an accelerator AWQ pins what it caches for one, and fails (llm-compressor 0.14)."""
    from llmcompressor.pipelines.cache import IntermediatesCache

    if has_accelerator():
        yield
        return
    pin_memory = IntermediatesCache.pin_memory
    IntermediatesCache.pin_memory = lambda *_args, **_named: None
    try:
        yield
    finally:
        IntermediatesCache.pin_memory = pin_memory
