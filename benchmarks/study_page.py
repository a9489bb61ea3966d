"""The page of a study: charts and a table, in the report's own style."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

_STYLES: Final = Path(__file__).parents[1] / "operator" / "tunesmith_cli" / "report" / "templates"


def study_page(
    title: str,
    *,
    about: str,
    charts: Mapping[str, object],
    table: Mapping[str, Mapping[str, object]],
) -> str:
    """HTML without a script; `table` has a row for each arm, by the names of its numbers."""
    styles = "".join(
        (_STYLES / name).read_text(encoding="utf-8") for name in ("base.css", "report.css")
    )
    figures = "".join(
        f"<figure>{chart}<figcaption>{caption}</figcaption></figure>"
        for caption, chart in charts.items()
    )
    names = list(next(iter(table.values())))
    head = "".join(f"<th>{name}</th>" for name in ("arm", *names))
    body = "".join(
        f"<tr><th>{arm}</th>{''.join(f'<td>{numbers[name]}</td>' for name in names)}</tr>"
        for arm, numbers in table.items()
    )
    return (
        f'<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f"<style>{styles}</style><main><h1>{title}</h1><p class='about'>{about}</p>{figures}"
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></main></html>"
    )
