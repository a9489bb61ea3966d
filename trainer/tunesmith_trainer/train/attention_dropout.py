"""Attention dropout, through the `attention_dropout` of the model's own configuration.

`adapters` loads the model with it; prepare's `preflight` asks early whether there is such a thing.
"""

from pathlib import Path
from typing import Final

import torch
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel

from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.models import load_model

# transformers' name, and that of the field below `training.regularization`.
_SETTING: Final = "attention_dropout"
# Any ids will do, and enough of them that at 0.1 % some weight of some layer is dropped.
_PROBE_TOKENS: Final = 64


def refuse_without_attention_dropout(config: PretrainedConfig) -> None:
    """Return if the configuration has a dropout of attention weights.

    Raises:
        BadInputError: it has none; the message lists which dropouts it has.
    """
    if hasattr(config, _SETTING):
        return
    has = ", ".join(sorted(name for name in config.to_dict() if "drop" in name)) or "none"
    raise BadInputError(
        Reason.INVALID_SPEC,
        "training.regularization.attentionDropout: a model of type "
        f"{config.model_type} has no {_SETTING} in its configuration (its dropouts: {has}); set it "
        "to 0, or use embeddingDropout or lora.dropout",
    )


def load_with_attention_dropout(
    folder: Path, probability: float, *, dtype: torch.dtype = torch.float32
) -> PreTrainedModel:
    """The model of `folder`, which drops attention weights in training mode.

    Raises:
        BadInputError: its configuration has no such dropout, or its layers do not read it.
    """
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    refuse_without_attention_dropout(config)
    config.attention_dropout = probability
    model = load_model(folder, dtype=dtype, config=config)
    _refuse_idle(model)
    return model


@torch.no_grad()
def _refuse_idle(model: PreTrainedModel) -> None:
    """Return if two passes of the same tokens differ in training mode; it is left afterwards."""
    # NB: draws nothing from the generator that training goes on with.
    ids = torch.arange(_PROBE_TOKENS).remainder(model.config.vocab_size)[None]
    model.train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        first, second = (model(input_ids=ids, use_cache=False).logits for _ in range(2))
    model.eval()
    if torch.equal(first, second):
        raise BadInputError(
            Reason.INVALID_SPEC,
            "training.regularization.attentionDropout: the attention of this model does not read "
            f"its {_SETTING}; set it to 0, or use embeddingDropout or lora.dropout",
        )
