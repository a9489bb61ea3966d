"""The columns of `kubectl get`, which each kind's module lists beside its models."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class PrinterColumn:
    """One column: its head, the field it shows, and what it says.

    `json_path` is kubectl's own dialect of JSONPath, with filters and slices. A column of type
    `date` is shown as the time since. `is_wide` columns are shown by `-o wide` only.
    """

    name: str
    type: Literal["string", "integer", "number", "date"]
    json_path: str
    description: str
    is_wide: bool = False
