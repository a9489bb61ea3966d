"""Words that no row, prompt or secret has by chance, and where they turn up again."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

TRAINED: Final = "zqtrained5c1d"
HELD_OUT: Final = "zqheldout7ab2"
PROMPT: Final = "zqsystem93fe"
REFUSED: Final = "zqrefused04bd"
SECRET: Final = "zqsecret61ca"

ROWS: Final = (TRAINED, HELD_OUT, PROMPT, REFUSED)


def write_planted_rows(folder: Path) -> None:
    """`rows.jsonl` to train on, the last of which is none, and `held-out.jsonl`."""
    rows = [_row(f"question {number} {TRAINED}?") for number in range(16)]
    lines = [*map(json.dumps, rows), f'{{"messages": "{REFUSED}"}}']
    (folder / "rows.jsonl").write_text("\n".join(lines) + "\n")
    held_out = [_row(f"question {number} {HELD_OUT}?") for number in range(8)]
    (folder / "held-out.jsonl").write_text("\n".join(map(json.dumps, held_out)) + "\n")


def signing_key() -> tuple[str, str]:
    """A key to sign with in PEM, and a line of it that is nowhere else."""
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    # The first line of P-256 keys begins alike; what is secret comes after.
    return pem, pem.splitlines()[1][-24:]


def leaks(texts: Iterable[tuple[str, bytes]], planted: Iterable[str]) -> list[str]:
    """The name of each text that holds a planted word, with the word."""
    words = tuple(planted)
    return [f"{word} in {name}" for name, text in texts for word in words if word.encode() in text]


def contents_below(folder: Path, *, but: Iterable[str] = ()) -> list[tuple[str, bytes]]:
    """Every file with its content, but for those whose name is given."""
    left_out = set(but)
    return [
        (str(path), path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in left_out
    ]


def _row(question: str) -> dict[str, object]:
    return {
        "messages": [
            {"role": "system", "content": f"Answer in short. {PROMPT}"},
            {"role": "user", "content": question},
            {"role": "assistant", "content": f"Turn it off and on again. {question}"},
        ]
    }
