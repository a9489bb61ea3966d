"""The prepare stage on the real 135M model: de-quantized once, kept, and able to speak."""

from pathlib import Path
from typing import Any

import pytest
import torch

from prepare_stage import Prepared, run_prepare
from tunesmith_trainer.models import load_model, load_tokenizer

pytestmark = pytest.mark.heavy


def test_a_gguf_model_becomes_safetensors_that_answer_and_is_converted_once(
    prepared: Prepared,
) -> None:
    first, folder = prepared.outcome, prepared.model
    written = (folder / "model.safetensors").stat().st_mtime_ns
    again = run_prepare(prepared.request)

    assert folder.parent == prepared.root / "cache" / "models"
    assert again.artifacts == first.artifacts
    assert (folder / "model.safetensors").stat().st_mtime_ns == written
    assert first.facts["numTrainRows"] == 7
    assert _answer(folder, "What is the capital of France?") == "The capital of France is Paris."


def _answer(folder: Path, question: str) -> str:
    tokenizer: Any = load_tokenizer(folder)
    model = load_model(folder, dtype=torch.float32)
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], return_tensors="pt", add_generation_prompt=True
    )
    with torch.inference_mode():
        written = model.generate(**prompt, max_new_tokens=16, do_sample=False)
    said = written[0, prompt["input_ids"].shape[1] :]
    return str(tokenizer.decode(said, skip_special_tokens=True)).strip()
