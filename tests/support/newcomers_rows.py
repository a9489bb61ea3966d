"""Two hundred rows as a newcomer has them: exported from three systems, in three kinds of files."""

import csv
import gzip
import json
from itertools import product
from pathlib import Path
from typing import Any, Final

_THINGS: Final = ("printer", "screen", "mouse", "keyboard", "router", "phone", "laptop", "scanner")
_FAULTS: Final = {
    "does not start": "Check the cable, then hold the power button for ten seconds.",
    "is slow": "Restart it, and close what you do not need.",
    "makes a noise": "Switch it off and send us a recording.",
    "was stolen": "Call 555-0100 at once, so that we can lock it.",
    "is wet": "Unplug it, and let it dry for two days.",
    "smells burnt": "Unplug it, and do not use it again.",
    "shows an error": "Write the number down, and restart it.",
    "is too loud": "Lower the volume in its settings.",
    "is lost": "Look where you used it last, then call 555-0100.",
    "needs an update": "Open its settings, and choose update.",
}
QUESTION: Final = "My printer does not start."
_TOOL: Final = {
    "type": "function",
    "function": {
        "name": "open_ticket",
        "description": "Open a ticket for a device.",
        "parameters": {"type": "object", "properties": {"device": {"type": "string"}}},
    },
}


def write_rows(folder: Path) -> None:
    """80 rows of questions and answers, 80 from a spreadsheet, and 40 that call a tool."""
    folder.mkdir(parents=True)
    cases = list(product(_THINGS, _FAULTS))
    asked = [{"prompt": f"My {a} {b}.", "completion": _answer(a, b)} for a, b in cases]
    (folder / "helpdesk.jsonl.gz").write_bytes(gzip.compress(_lines(asked)))
    with (folder / "spreadsheet.csv").open("w", newline="") as file:
        rows = csv.writer(file, delimiter=";")
        rows.writerow(["prompt", "completion"])
        for number, (thing, fault) in enumerate(cases):
            said = f"Our {thing} in room {number} {fault}; what now?"
            # A spreadsheet that grew: half of its prompts are turns already.
            turns = [{"role": "user", "content": said}]
            rows.writerow([json.dumps(turns) if number % 2 else said, _answer(thing, fault)])
    (folder / "tickets.jsonl").write_bytes(_lines([_ticket(*case) for case in cases[::2]]))


def _lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(f"{json.dumps(row)}\n" for row in rows).encode()


def _answer(thing: str, fault: str) -> str:
    return f"About your {thing}: {_FAULTS[fault]}"


def _ticket(thing: str, fault: str) -> dict[str, Any]:
    call = {"name": "open_ticket", "arguments": json.dumps({"device": thing})}
    return {
        "prompt": [{"role": "user", "content": f"Open a ticket: my {thing} {fault}."}],
        "completion": [
            {"role": "assistant", "tool_calls": [{"type": "function", "function": call}]},
            {"role": "tool", "content": "ticket 7"},
            {"role": "assistant", "content": f"Ticket 7 is open. {_FAULTS[fault]}"},
        ],
        "tools": [_TOOL],
    }
