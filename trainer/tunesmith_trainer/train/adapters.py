"""The model as it is trained: every weight in fp32, or frozen with LoRA adapters in fp32.

`worker` builds it, `loop` trains it, `export` writes it out. Which modules may get adapters is
asked by prepare's `preflight`, and again here before they are made.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Final, Literal

import torch
from transformers import PreTrainedModel

from tunesmith_api.finetunejob.training import Training
from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.models import load_model, stored_dtype
from tunesmith_trainer.train.adapter_precision import keep_updates_in_fp32, read_embeddings_in_fp32
from tunesmith_trainer.train.attention_dropout import load_with_attention_dropout
from tunesmith_trainer.train.compilation import compile_layers
from tunesmith_trainer.train.config import TrainConfig
from tunesmith_trainer.train.freezing import (
    freeze_parameters,
    frozen_modules,
    is_frozen,
    nothing_left,
)
from tunesmith_trainer.train.gradient_checkpointing import checkpoint_layers
from tunesmith_trainer.train.parameter_dtypes import hold
from tunesmith_trainer.train.quantization import quantize_linear_layers
from tunesmith_trainer.train.sharding import shard

# PEFT's own word: every linear layer but the head.
ALL_LINEAR: Final = "all-linear"


def build_trainable(folder: Path, *, config: TrainConfig, device: torch.device) -> Any:
    """The model of `folder`, ready to be trained on `device`; adapters start from the seed.

    All workers call it: where the job shards, this one's part of the model is returned.

    Raises:
        BadInputError: `lora.targetModules` or `freeze` does not fit this model, or it has no
            attention dropout.
    """
    training, dropout = config.training, config.training.regularization.attention_dropout
    # As they are stored, weights stay in the mapped file until they are cast or sharded. DoRA's
    # magnitudes are norms of the weights, and are computed in their type.
    dtype = torch.float32 if training.lora.use_dora else stored_dtype(folder)
    if dropout:
        model = load_with_attention_dropout(folder, dropout, dtype=dtype)
    else:
        model = load_model(folder, dtype=dtype)
    if training.is_quantized:
        compute = torch.bfloat16 if config.precision == "bf16" else torch.float32
        quantize_linear_layers(model, compute_dtype=compute, device=device)
    trainable = make_trainable(model, training=training, precision=config.precision)
    checkpoint_layers(trainable, config.gradient_checkpointing)
    if training.compile:
        compile_layers(trainable, device=device)
    # What a full fine-tuning freezes is written out with the rest, and stays as exact.
    is_adapted = training.method == "lora"
    _place(
        trainable,
        config=config,
        precision=config.precision if is_adapted else "fp32",
        is_gathered_in_bf16=config.precision == "bf16" and not is_adapted,
        device=device,
    )
    return trainable


def build_frozen(folder: Path, *, config: TrainConfig, device: torch.device) -> Any:
    """The model of `folder` for a forward pass beside the trained one; all workers call it."""
    return as_frozen(load_model(folder, dtype=stored_dtype(folder)), config=config, device=device)


def as_frozen(model: Any, *, config: TrainConfig, device: torch.device) -> Any:
    """`model`, held for a forward pass beside the trained one; all workers call it."""
    model.requires_grad_(requires_grad=False)
    if config.precision == "bf16":
        read_embeddings_in_fp32(model)
    _place(
        model,
        config=config,
        precision=config.precision,
        is_gathered_in_bf16=False,
        device=device,
    )
    return model


def _place(
    model: Any,
    *,
    config: TrainConfig,
    precision: Literal["bf16", "fp32"],
    is_gathered_in_bf16: bool,
    device: torch.device,
) -> None:
    """Cast the weights of `model` as `hold` does, and move them, or this worker's part of them."""
    if config.is_sharded:
        shard(
            model,
            precision=precision,
            is_gathered_in_bf16=is_gathered_in_bf16,
            device=device,
            num_workers=config.workers,
        )
    else:
        hold(model, model=model, precision=precision, device=device)
        model.to(device)  # its buffers


def make_trainable(model: Any, *, training: Training, precision: Literal["bf16", "fp32"]) -> Any:
    """`model` with adapters where the method has them; `hold` gives its weights their types.

    Raises:
        BadInputError: `lora.targetModules` or `freeze` does not fit this model.
    """
    # The cache serves generation; in training it would only hold memory.
    model.config.use_cache = False
    if training.method != "lora":
        freeze_parameters(model, frozen_modules(training.freeze, model=model))
        return model
    from peft import LoraConfig, get_peft_model

    lora = training.lora
    names = list(lora.target_modules)
    refuse_unfit_targets(names, model=model)
    excluded = frozen_targets(training, model=model)
    # NB: every worker draws the same first values: nothing sends them from one to the others.
    torch.manual_seed(training.seed)
    adapters = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        # A word, not a list with this word in it, which PEFT would take for a module's name.
        target_modules=ALL_LINEAR if names == [ALL_LINEAR] else names,
        exclude_modules=excluded or None,
        use_rslora=lora.use_rslora,
        use_dora=lora.use_dora,
        task_type="CAUSAL_LM",
    )
    # All that is drawn knows the shapes of the weights alone, but for DoRA's magnitudes.
    with nullcontext() if lora.use_dora else _seen_as_fp32(model):
        adapted = get_peft_model(model, adapters)
    if precision == "bf16":
        keep_updates_in_fp32(adapted)
        read_embeddings_in_fp32(adapted)
    return adapted


@contextmanager
def _seen_as_fp32(model: Any) -> Iterator[None]:
    """Let the weights of `model` look like fp32, without memory, until the block is left.

    PEFT casts the first values of an adapter to the type of its layer, and would round them.
    """
    kept = {parameter: parameter.data for parameter in model.parameters()}
    for parameter, stored in kept.items():
        if stored.is_floating_point():
            parameter.data = torch.zeros((), device=stored.device).expand(stored.shape)
    try:
        yield
    finally:
        for parameter, stored in kept.items():
            parameter.data = stored


def refuse_unfit(training: Training, *, model: Any) -> None:
    """Return if `model`, which may be without weights, can be trained so.

    Raises:
        BadInputError: as of `make_trainable`.
    """
    if training.method == "lora":
        refuse_unfit_targets(training.lora.target_modules, model=model)
        frozen_targets(training, model=model)
    else:
        freeze_parameters(model, frozen_modules(training.freeze, model=model))


def frozen_targets(training: Training, *, model: Any) -> list[str]:
    """The paths of the linear modules that would get adapters, but are frozen.

    Raises:
        BadInputError: `freeze` does not fit the model, or freezes every target.
    """
    frozen = frozen_modules(training.freeze, model=model)
    names, head = list(training.lora.target_modules), model.get_output_embeddings()
    targets = [
        path
        for path, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
        and (module is not head if names == [ALL_LINEAR] else _fits_any(names, path))
    ]
    excluded = [path for path in targets if is_frozen(path, frozen)]
    if len(excluded) == len(targets):
        raise nothing_left("every module that would get an adapter is frozen")
    return excluded


def refuse_unfit_targets(names: Sequence[str], *, model: PreTrainedModel) -> None:
    """Return if every one of `lora.targetModules` names linear modules that can be merged.

    Raises:
        BadInputError: a name fits no linear module, or the head of a model whose head is its
            embedding: merging would change both.
    """
    if list(names) == [ALL_LINEAR]:
        return
    linear = [path for path, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    known = ", ".join(sorted({path.rsplit(".", 1)[-1] for path in linear}))
    unknown = [name for name in names if not any(_fits_any([name], path) for path in linear)]
    if unknown:
        raise BadInputError(
            Reason.INVALID_SPEC,
            f"training.lora.targetModules: the model has no linear module {', '.join(unknown)}; "
            f"choose among {known}, or give {ALL_LINEAR} alone",
        )
    head = _tied_head(model)
    tied = [name for name in names if head is not None and _fits_any([name], head)]
    if tied:
        raise BadInputError(
            Reason.INVALID_SPEC,
            f"training.lora.targetModules: {', '.join(tied)} is the model's head and its embedding "
            "in one, and merging an adapter would change both; leave it out, or give "
            f"{ALL_LINEAR} alone",
        )


def _fits_any(names: Sequence[str], path: str) -> bool:
    # As PEFT compares: the whole path, or its end from a dot on, so that `proj` is no `q_proj`.
    return any(path == name or path.endswith(f".{name}") for name in names)


def _tied_head(model: PreTrainedModel) -> str | None:
    """The path of the head, if its matrix is that of the embedding."""
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    # One object, not equal numbers: config.tie_word_embeddings says what was meant, this what is.
    if head is None or head.weight is not embedding.weight:
        return None
    return next(path for path, module in model.named_modules() if module is head)
