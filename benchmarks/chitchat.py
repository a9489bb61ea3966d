"""Real conversations of two people for studies: PyPI `chitchat-dataset` (MIT).

7,168 conversations with typing errors, greetings and quits half-way. The wheel is downloaded into a
folder and its `dataset.json` read; the package itself is never imported.
"""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

PACKAGE = "chitchat-dataset==0.9.0"


def conversations(packages: Path) -> list[list[str]]:
    """The turns of every conversation, the two people alternating; always in the same order."""
    wheels = list(packages.glob("chitchat_dataset-*.whl"))
    if not wheels:
        packages.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        subprocess.run([*command, "--dest", packages, PACKAGE], check=True, stdout=sys.stderr)
        wheels = list(packages.glob("chitchat_dataset-*.whl"))
    with zipfile.ZipFile(wheels[0]) as archive:
        stored = json.loads(archive.read("chitchat_dataset/dataset.json"))
    return [
        # A turn is whatever one person wrote in a row.
        ["\n".join(message["text"] for message in turn) for turn in conversation["messages"]]
        for _, conversation in sorted(stored.items())
    ]


def as_messages(turns: list[str]) -> dict[str, list[dict[str, str]]]:
    """A row of format messages; a short system turn in place of a template's own long one."""
    roles = ("user", "assistant")
    return {
        "messages": [
            {"role": "system", "content": "Chat."},
            *({"role": roles[place % 2], "content": turn} for place, turn in enumerate(turns)),
        ]
    }
