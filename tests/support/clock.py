"""Times as the API server writes them."""

from datetime import UTC, datetime


def now_text() -> str:
    """The time now, in whole seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
