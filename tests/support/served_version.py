"""A published version with a random model of two layers, small enough to be served in a test.

Its fingerprints come from transformers in float32, which vLLM matches to millionths of a nat.
"""

import json
from pathlib import Path
from typing import Any

from small_models import CORPUS, make_tiny_model
from tunesmith_engine.sources.version_manifest import MANIFEST, manifest_of
from tunesmith_serving.settings import ServingSettings

MODEL = "helpdesk"
_ANSWER_TOKENS = 8


def make_version(folder: Path, *, seed: int = 0) -> str:
    """Write the version into `folder` and return its digest."""
    make_tiny_model(folder, seed=seed)
    settings = ServingSettings(
        model=MODEL, dtype="float32", enforce_eager=True, max_model_length=512
    )
    (folder / "serving.json").write_text(settings.model_dump_json(by_alias=True))
    write_fingerprints(folder)
    manifest = manifest_of(folder)
    (folder / MANIFEST).write_text(manifest.text())
    return manifest.digest()


def write_fingerprints(folder: Path) -> None:
    """What `verify` would have seen of the model in `folder`."""
    probes = {"dtype": "float32", "probes": _probes(folder), "chats": _chats(folder)}
    (folder / "fingerprints.json").write_text(json.dumps(probes))


def _chats(folder: Path) -> list[dict[str, Any]]:
    """Two conversations as transformers renders them."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    asked = {"role": "user", "content": CORPUS[0]}
    answered = [asked, {"role": "assistant", "content": CORPUS[1]}, asked]
    return [
        {
            "messages": messages,
            "promptIds": tokenizer.apply_chat_template(
                messages, add_generation_prompt=True, return_dict=False
            ),
        }
        for messages in ([asked], answered)
    ]


def _probes(folder: Path) -> list[dict[str, Any]]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    probes = []
    for text in CORPUS:
        ids = tokenizer(text).input_ids
        given = torch.tensor([ids])
        with torch.inference_mode():
            logprobs = model(given).logits[0].log_softmax(-1)[:-1]
        known = logprobs.gather(-1, given[0, 1:, None])[-_ANSWER_TOKENS:, 0]
        probes.append(
            {
                "promptIds": ids[:-_ANSWER_TOKENS],
                "answerIds": ids[-_ANSWER_TOKENS:],
                "logprobs": known.tolist(),
            }
        )
    return probes
