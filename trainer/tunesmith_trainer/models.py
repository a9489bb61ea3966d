"""Load models and tokenizers from local folders, for every stage that needs weights.

Safetensors only, no code from the model's folder, no network: what a stage loads was fetched and
checked by `prepare.base_model`.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Final

from tunesmith_engine.stages.catalog import DISTILL, PREPARE, TRAIN
from tunesmith_engine.stages.contracts import StageRequest
from tunesmith_engine.stages.digests import local_path
from tunesmith_trainer.data.prepared import MODEL

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

TUNED: Final = "tuned"
# Of the stage `distill`: a smaller model that takes the place of the tuned one behind it.
DISTILLED: Final = "distilled"
# In its folder, where tokens have gone: the old ids of those that are left.
KEPT_TOKENS: Final = "kept-tokens.npy"
ADAPTER_SETTINGS: Final = "adapter_config.json"

# Of a model folder, with the chat template. No `generation_config.json`: save_pretrained writes it.
TOKENIZER_FILES: Final = (
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab*",
    "merges.txt",
    "chat_template*",
    "spiece.model",
    "sentencepiece*",
)


def load_tokenizer(folder: Path) -> "PreTrainedTokenizerBase":
    """The tokenizer of a model folder, with its chat template."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def load_model(
    folder: Path,
    *,
    dtype: "torch.dtype",
    config: "PretrainedConfig | None" = None,
) -> "PreTrainedModel":
    """A causal language model in evaluation mode on the CPU, its weights cast to `dtype`.

    Those stored in `dtype` lie in the mapped file until they are written to. `config` stands
    in for the configuration of the folder.

    Raises:
        OSError: the folder holds no safetensors, or no model.
    """
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        folder,
        config=config,
        # Cast while loading: the frequencies of the rotary embedding are buffers that stay fp32 so.
        # `model.to(bfloat16)` afterwards would round them, and far positions with them.
        dtype=dtype,
        # Named, not left to transformers' default: another kernel adds in another order, and a run
        # that was resumed under another release would differ in its last bits.
        attn_implementation="sdpa",
        use_safetensors=True,
        local_files_only=True,
        trust_remote_code=False,
    )
    return model.eval()


def stored_dtype(folder: Path) -> "torch.dtype":
    """The floating-point type of a model folder's weights; fp32 where there are several."""
    import torch
    from safetensors import safe_open

    # NB: of the weights themselves. A config.json may name another type, and casting to it loses.
    names = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
    stored = set()
    for file in folder.glob("*.safetensors"):
        with safe_open(file, framework="pt") as weights:
            # It has keys, but is no mapping that could be iterated over.
            stored |= {weights.get_slice(name).get_dtype() for name in weights.keys()}  # noqa: SIM118
    return names.get(stored.pop(), torch.float32) if len(stored) == 1 else torch.float32


def load_tuned(request: StageRequest, *, dtype: "torch.dtype") -> "PreTrainedModel":
    """The model that the job has made so far, adapters merged in fp32 and cast once.

    That of its train stage, or where it was pruned, and the request has that result, what is left.

    Raises:
        KeyError: the request carries no result of prepare or train.
    """
    distilled = distilled_folder(request)
    if distilled is not None:
        return load_model(distilled, dtype=dtype)
    tuned = local_path(request.inputs[TRAIN.name].artifact(TUNED))
    if not (tuned / ADAPTER_SETTINGS).exists():
        return load_model(tuned, dtype=dtype)
    base = local_path(request.inputs[PREPARE.name].artifact(MODEL))
    return merged_model(base, adapter=tuned).to(dtype).eval()


def distilled_folder(request: StageRequest) -> Path | None:
    """Where the smaller model lies, if the job has one, and this stage reads it."""
    result = request.inputs.get(DISTILL.name)
    # NB: a gate may have refused it; the tuned model goes on then.
    names = {artifact.name for artifact in result.artifacts} if result else set()
    return local_path(result.artifact(DISTILLED)) if result and DISTILLED in names else None


def merged_model(base: Path, *, adapter: Path) -> "PreTrainedModel":
    """The model in `base` with the adapter merged into its weights, in fp32."""
    import torch
    from peft import PeftModel

    # NB: fp32 until the sum is made: most updates are smaller than half a step of bf16, and would
    # be rounded away one by one (docs/log.md has the losses).
    model = load_model(base, dtype=torch.float32)
    adapted = PeftModel.from_pretrained(model, adapter, use_safetensors=True)
    merged: PreTrainedModel = adapted.merge_and_unload(safe_merge=True)
    return merged
