"""Highlights: models that were told the true reason of a planted shortcut, beside others."""

import sys
from pathlib import Path
from typing import Any

from commands import run_script


def measure(_home: Path) -> dict[str, Any]:
    """Held-out accuracy and loss, the share on highlights by occlusion, seconds of a step."""
    told = run_script("trainer", "highlights_run.py")
    print(f"bench: highlights: {told['means']}", file=sys.stderr)
    return told
