"""Models as compress leaves them, with reference answers, made without compress.

Weights are rounded to int8 here by hand and answers come from transformers in float32, with
activations rounded as a W8A8 server rounds them: an oracle that shares no code with what is tested.
"""

import json
import shutil
from pathlib import Path
from typing import Any

QUESTIONS = (
    "What is the capital of France?",
    "My printer is not printing.",
    "How do I reset my password?",
    "Why is the sky blue?",
    "Name three fruits.",
    "Write one sentence about rain.",
)
# Its inputs have the outliers: rounded, they make a model that no two engines compute alike.
LEFT_OUT = "down_proj"
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def write_w8a8(source: Path, target: Path) -> None:
    """Quantize a model of safetensors: symmetric int8, one scale per output, rounded to nearest."""
    import torch
    from safetensors.torch import load_file, save_file

    target.mkdir(parents=True)
    tensors = {}
    for name, tensor in load_file(source / "model.safetensors").items():
        if not name.endswith("_proj.weight") or name.endswith(f"{LEFT_OUT}.weight"):
            tensors[name] = tensor.to(torch.bfloat16)
            continue
        scale = (tensor.float().abs().amax(1, keepdim=True) / 127).bfloat16()
        tensors[name] = (tensor.float() / scale.float()).round().clamp(-127, 127).to(torch.int8)
        tensors[f"{name}_scale"] = scale
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((source / "config.json").read_text())
    config["quantization_config"] = _w8a8_config()
    (target / "config.json").write_text(json.dumps(config))
    for name in _TOKENIZER_FILES:
        if (source / name).exists():
            shutil.copy(source / name, target / name)


def write_reference(
    source: Path, path: Path, *, noise: float = 0.0, max_new_tokens: int = 16
) -> None:
    """Greedy answers of a W8A8 model to `QUESTIONS`.

    `noise` disturbs every weight by that part of its size, as if the reference came from another
    model.
    """
    import torch
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(source)
    model = _load_w8a8(source, noise=noise)
    prompts = [_ask(model, ids, max_new_tokens) for ids in map(_chat(tokenizer), QUESTIONS)]
    chats = [
        {"messages": [{"role": "user", "content": question}], "promptIds": prompt["promptIds"]}
        for question, prompt in zip(QUESTIONS, prompts, strict=True)
    ]
    content = {"dtype": str(torch.float32), "prompts": prompts, "chats": chats}
    path.write_text(json.dumps(content))


def _ask(model: Any, ids: list[int], max_new_tokens: int) -> dict[str, Any]:
    import torch

    given = torch.tensor([ids])
    with torch.inference_mode():
        whole = model.generate(
            given,
            attention_mask=torch.ones_like(given),
            do_sample=False,
            max_new_tokens=max_new_tokens,
        )
        logprobs = model(whole).logits[0].log_softmax(-1)[len(ids) - 1 : -1]
    answer = whole[0, len(ids) :]
    return {
        "promptIds": ids,
        "answerIds": answer.tolist(),
        "logprobs": logprobs.gather(-1, answer[:, None])[:, 0].tolist(),
        "kind": "probe",
    }


def _chat(tokenizer: Any) -> Any:
    def ids(question: str) -> list[int]:
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True
        )
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    return ids


def _load_w8a8(source: Path, *, noise: float) -> Any:
    import torch
    from safetensors.torch import load_file
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(source)
    del config.quantization_config
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    generator = torch.Generator().manual_seed(0)
    weights = {}
    tensors = load_file(source / "model.safetensors")
    for name, tensor in tensors.items():
        if name.endswith("_scale"):
            continue
        scale = tensors.get(f"{name}_scale")
        weight = tensor.float() * (1 if scale is None else scale.float())
        disturbed = torch.randn(weight.shape, generator=generator) * noise * weight.std()
        weights[name] = weight + disturbed if scale is not None else weight
    model.load_state_dict(weights, strict=False)
    model.tie_weights()
    for name, module in model.named_modules():
        if name.endswith("_proj") and not name.endswith(LEFT_OUT):
            module.register_forward_pre_hook(lambda _, given: (_rounded(given[0]), *given[1:]))
    return model


def _rounded(rows: Any) -> Any:
    """Activations as int8 with one scale per token sees them."""
    scale = (rows.abs().amax(-1, keepdim=True) / 127).clamp_min(1e-12)
    return (rows / scale).round().clamp(-128, 127) * scale


def _w8a8_config() -> dict[str, Any]:
    """As llm-compressor writes it, in the compressed-tensors format."""
    int8 = {"num_bits": 8, "type": "int", "symmetric": True}
    return {
        "quant_method": "compressed-tensors",
        "format": "int-quantized",
        "quantization_status": "compressed",
        "ignore": ["lm_head", f"re:.*{LEFT_OUT}$"],
        "config_groups": {
            "group_0": {
                "targets": ["Linear"],
                "weights": {**int8, "strategy": "channel", "dynamic": False},
                "input_activations": {**int8, "strategy": "token", "dynamic": True},
            }
        },
    }
