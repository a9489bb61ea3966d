"""Merge the adapters into the weights in fp32, prove it, and cast to bf16 once.

The folder written here is what every scheme quantizes, and what ships under scheme `none`.

Fine-tuning moves most weights by less than half the distance to the next bf16 number. Where the
base model's weights are bf16 numbers, rounding to nearest puts them all back and takes part of what
was learnt away. The cast therefore rounds up or down at random, in proportion to the distances
(stochastic rounding, Gupta et al. 2015, arXiv 1502.02551): right on average, and seeded.
"""

import math
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from transformers import PreTrainedModel

from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.catalog import DISTILL, EVALUATE
from tunesmith_engine.stages.contracts import StageRequest
from tunesmith_engine.stages.errors import VerdictError
from tunesmith_trainer.evaluate.log_likelihood import RowLosses
from tunesmith_trainer.evaluate.suites import mean_loss
from tunesmith_trainer.models import DISTILLED, TOKENIZER_FILES, TUNED, distilled_folder

# Relative. Both models compute in fp32, so that only the order of its sums differs.
MERGE_TOLERANCE = 2e-3
# Fixed: the same adapters give the same bytes, and so the same digest, whoever merges them.
ROUNDING_SEED = 0

# 0xffff0000 as a signed number, which torch's int32 wants.
_UPPER_HALF = -(1 << 16)


def refuse_changed(request: StageRequest, tuned: Mapping[str, RowLosses]) -> None:
    """Return if the merged model has the losses that `evaluate` found with separate adapters.

    Of a model that was pruned, those that `distill` has found.

    Raises:
        VerdictError: merging changed the model.
    """
    if distilled_folder(request) is not None:
        measured, split = request.inputs[DISTILL.name].evaluation, DISTILLED
    else:
        evaluated = request.inputs.get(EVALUATE.name)
        measured, split = evaluated.evaluation if evaluated else [], TUNED
    for result in measured:
        if (result.metric, result.split) != ("loss", split) or result.suite not in tuned:
            continue
        loss = mean_loss(tuned[result.suite])
        if not math.isclose(loss, result.value, rel_tol=MERGE_TOLERANCE):
            raise VerdictError(
                Reason.COMPRESSION_LOSS_EXCEEDED,
                f"merging the adapters changed the model: its {result.suite} loss was "
                f"{result.value:.4f} and is {loss:.4f}. Adapters on tied embeddings do this; "
                "leave embeddings and head out of training.lora.targetModules.",
            )


def save_merged(model: PreTrainedModel, folder: Path, *, tokenizer_folder: Path) -> None:
    """Write fp32 `model` in bf16 as safetensors, with the tokenizer's files; it is cast in place.

    Tied embeddings stay tied: one table is written, and the settings say so.
    """
    shutil.rmtree(folder, ignore_errors=True)
    # NB: parameters() yields a tied table once. By state_dict() it would come twice, be rounded
    # with other random numbers, and head and embedding would part.
    generator = torch.Generator(device=model.device).manual_seed(ROUNDING_SEED)
    for parameter in model.parameters():
        parameter.data = rounded_to_bf16(parameter.data, generator=generator)
    # Cast once, and from fp32. This cast rounds nothing any more.
    model.to(torch.bfloat16).save_pretrained(folder)
    copy_tokenizer(tokenizer_folder, folder)


def rounded_to_bf16(values: torch.Tensor, *, generator: torch.Generator) -> torch.Tensor:
    """fp32 `values` as numbers that bf16 holds, still in fp32; those it held before stay the same.

    bf16 is the upper half of fp32: a random number below the lower half's range carries into the
    upper half as often as the lower half is large.
    """
    bits = values.contiguous().view(torch.int32)
    noise = torch.randint(
        1 << 16, bits.shape, generator=generator, dtype=torch.int32, device=bits.device
    )
    return ((bits + noise) & _UPPER_HALF).view(torch.float32)


def copy_tokenizer(source: Path, target: Path) -> None:
    """Copy the files of the tokenizer and the chat template byte for byte.

    The libraries' own save_pretrained writes them anew, in a form that depends on their version.
    """
    for pattern in TOKENIZER_FILES:
        for path in source.glob(pattern):
            if path.is_dir():
                shutil.copytree(path, target / path.name, dirs_exist_ok=True)
            else:
                shutil.copyfile(path, target / path.name)
