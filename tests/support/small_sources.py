"""A bucket's secret, as files."""

from pathlib import Path

BUCKET = "tickets"
KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "very-secret-value"}


def write_secret(folder: Path, values: dict[str, str]) -> None:
    """One file per key."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in values.items():
        (folder / name).write_text(f"{value}\n")
