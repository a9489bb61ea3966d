"""Secrets, and models of a few bytes."""

import json
import struct
from math import prod
from pathlib import Path
from typing import Any

BUCKET = "tickets"
KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "very-secret-value"}


def write_secret(folder: Path, values: dict[str, str]) -> None:
    """One file per key."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in values.items():
        (folder / name).write_text(f"{value}\n")


def write_model(folder: Path, **config: Any) -> Path:
    """A folder that looks like a small Llama."""
    folder.mkdir(parents=True, exist_ok=True)
    shape = {
        "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 2, "vocab_size": 32,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps({**shape, **config}))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "tokenizer_config.json").write_text('{"chat_template": "{{ messages }}"}')
    (folder / "model.safetensors").write_bytes(safetensors({"embed": [32, 8], "norm": [8]}))
    return folder


def safetensors(shapes: dict[str, list[int]]) -> bytes:
    """A file with fp32 zeros of these shapes."""
    header, end = {}, 0
    for name, shape in shapes.items():
        start, end = end, end + 4 * prod(shape)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(end)
