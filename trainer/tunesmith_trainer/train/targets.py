"""Which modules may get adapters: asked by prepare, and again before the adapters are made."""

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.errors import BadInputError

ALL_LINEAR = "all-linear"


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
    unknown = [name for name in names if not any(_fits(name, path) for path in linear)]
    if unknown:
        raise BadInputError(
            Reason.INVALID_SPEC,
            f"training.lora.targetModules: the model has no linear module {', '.join(unknown)}; "
            f"choose among {known}, or give {ALL_LINEAR} alone",
        )
    head = _tied_head(model)
    tied = [name for name in names if head is not None and _fits(name, head)]
    if tied:
        raise BadInputError(
            Reason.INVALID_SPEC,
            f"training.lora.targetModules: {', '.join(tied)} is the model's head and its embedding "
            "in one, and merging an adapter would change both; leave it out, or give "
            f"{ALL_LINEAR} alone",
        )


def _fits(name: str, path: str) -> bool:
    return path == name or path.endswith(f".{name}")


def _tied_head(model: PreTrainedModel) -> str | None:
    """The path of the head, if its matrix is that of the embedding."""
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    if head is None or head.weight is not embedding.weight:
        return None
    return next(path for path, module in model.named_modules() if module is head)
