"""Write the pages of docs/reference, from the models and the parser; run by `make docs`."""

from pathlib import Path

from tunesmith_api.field_reference import page_name, reference_page
from tunesmith_api.kinds import KINDS
from tunesmith_cli.command_reference import command_page

REFERENCE = Path(__file__).parents[1] / "docs" / "reference"


def pages() -> dict[str, str]:
    """Name and text of every generated page."""
    kinds = {page_name(kind.model): reference_page(kind.model) for kind in KINDS}
    return {**kinds, "command.md": command_page()}


def main() -> None:
    """Write every page."""
    for name, text in pages().items():
        (REFERENCE / name).write_text(text, encoding="utf-8")
        print(f"wrote docs/reference/{name}")


if __name__ == "__main__":
    main()
