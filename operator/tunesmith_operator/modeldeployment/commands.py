"""What a person asks of a rollout by an annotation: read here, and never written."""

from typing import Final

from tunesmith_engine.deployment.observations import Command
from tunesmith_operator.kube.objects import Manifest

ANNOTATION: Final = "tunesmith.dev/rollout"


def command_of(manifest: Manifest) -> Command | None:
    """The command; None without one, or where its words are none of these."""
    words = ((manifest["metadata"].get("annotations") or {}).get(ANNOTATION) or "").split()
    match words:
        case ["pause"]:
            return Command("pause")
        case ["promote", version]:
            return Command("promote", version)
        case ["abort", version]:
            return Command("abort", version)
    return None
