"""Versions to be judged on real vLLM: a small model that has learned, and what may become of it.

- `learned`: two layers that know their few conversations by heart.
- `again`: the same weights in another version.
- `template`: the same with another chat template; its fingerprints are those of before.
- `crushed`: weights rounded to two bits, fingerprints of before.
- `crushedHonestly`: the same with fingerprints of its own, as a job with loose gates publishes it.

`python candidates.py KIND FOLDER [SOURCE]` makes one; `SOURCE` is a folder of `learned`.
"""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from served_version import make_version, write_fingerprints
from small_models import CORPUS
from tunesmith_engine.sources.version_manifest import MANIFEST, RECORD

QUESTIONS = ("Why?", "Hello?", "My printer does not print.", "I forgot my password.")
OTHER_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)
# Two layers that know few sentences by heart bear three bits: 0.006 nats a token.
_BITS = 2
_STEPS = 60
_WEIGHTS = "model.safetensors"


def learned(folder: Path) -> None:
    """A random model, then trained on an answer to each of `QUESTIONS` until it knows them."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    make_version(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    rows = tokenizer.apply_chat_template(
        [
            [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
            for question, answer in zip(QUESTIONS, CORPUS, strict=True)
        ],
        padding=True,
        return_dict=True,
        return_tensors="pt",
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(_STEPS):
        # What pads the rows is learned, too; nobody asks for it.
        loss = model(**rows, labels=rows["input_ids"]).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.save_pretrained(folder)
    write_fingerprints(folder)


def again(folder: Path, source: Path) -> None:
    """A file more makes another digest."""
    _copy(source, folder)
    (folder / "README.md").write_text("The same once more.\n")


def template(folder: Path, source: Path) -> None:
    """As if somebody had copied the tokenizer of another model over it."""
    _copy(source, folder)
    (folder / "chat_template.jinja").write_text(OTHER_TEMPLATE)


def crushed(folder: Path, source: Path) -> None:
    """Symmetric, one scale per output: three values are left of each weight."""
    from safetensors.torch import load_file, save_file

    _copy(source, folder)
    steps = 2 ** (_BITS - 1) - 1
    tensors: dict[str, Any] = {}
    for name, tensor in load_file(folder / _WEIGHTS).items():
        tensors[name] = tensor
        if name.endswith("_proj.weight"):
            scale = tensor.abs().amax(1, keepdim=True) / steps
            tensors[name] = (tensor / scale).round() * scale
    save_file(tensors, folder / _WEIGHTS, metadata={"format": "pt"})


def crushed_honestly(folder: Path, source: Path) -> None:
    """What only a comparison of answers can tell from the version before."""
    crushed(folder, source)
    write_fingerprints(folder)


def _copy(source: Path, folder: Path) -> None:
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns(MANIFEST, RECORD))


CHANGES: dict[str, Callable[[Path, Path], None]] = {
    "again": again,
    "template": template,
    "crushed": crushed,
    "crushedHonestly": crushed_honestly,
}

if __name__ == "__main__":
    kind, target, *given = sys.argv[1:]
    if kind == "learned":
        learned(Path(target))
    else:
        CHANGES[kind](Path(target), Path(given[0]))
