"""Maps of attention as one HTML page that fetches nothing and runs nothing."""

import html
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tunesmith_trainer.explain.attention import AttentionMaps

Values = NDArray[np.float64]

# Shades of a map; cells below the first are left out, which keeps a page of 270 maps small.
_SHADES: Final = 6
_LONGEST_LABEL: Final = 24
_CELL: Final = 14
_SMALL_CELL: Final = 3

_STYLE: Final = """
body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:72rem;padding:0 1rem;
color:#1b1f24;background:#fff}figure{display:inline-block;margin:.4rem}figcaption{font-size:12px}
.note{border-left:4px solid #b35900;padding:.4rem .8rem;background:#fff6e9}text{font-size:11px}
path,rect{fill:#0a58ca}@media(prefers-color-scheme:dark){body{color:#e6e6e6;background:#15181c}
.note{background:#2b2216}path,rect{fill:#6ea8fe}text{fill:#e6e6e6}}
"""
CAVEAT: Final = (
    "Attention shows where a layer reads from. It is not a causal explanation: heads that read a "
    "word need not use it, and what an answer depends on may be read elsewhere. The attributions "
    "beside it are measured by taking words out."
)


def attention_page(title: str, found: AttentionMaps) -> str:
    """Rollout, importance of heads, the mean of each layer, and every head."""
    num_layers, num_heads = found.maps.shape[:2]
    layers = "".join(
        _figure(f"layer {layer + 1}", heat_map(found.maps[layer].mean(axis=0), cell=_SMALL_CELL))
        for layer in range(num_layers)
    )
    heads = "".join(
        _figure(
            f"layer {layer + 1}, head {head + 1}",
            heat_map(found.maps[layer, head], cell=_SMALL_CELL),
        )
        for layer in range(num_layers)
        for head in range(num_heads)
    )
    mean = heat_map(found.maps.mean(axis=(0, 1)), cell=_CELL, labels=found.groups)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "style-src 'unsafe-inline'\">"
        f"<title>{_escaped(title)}</title><style>{_STYLE}</style></head><body>"
        f'<h1>{_escaped(title)}</h1><p class="note">{CAVEAT}</p>'
        "<p>A row of a map reads, a column is read; the darker, the more.</p>"
        f"<h2>All layers and heads</h2>{mean}{_importance(found.importance)}"
        f"<h2>By layer</h2>{layers}<details><summary>By head</summary>{heads}</details>"
        "</body></html>\n"
    )


def heat_map(values: Values, *, cell: int, labels: Sequence[str] = ()) -> str:
    """An SVG of a matrix, the highest value darkest."""
    rows, columns = values.shape
    left = 7 * max((len(_short(label)) for label in labels), default=0)
    highest = float(values.max()) or 1.0
    shades = np.ceil(values / highest * _SHADES - 0.5).clip(0, _SHADES).astype(int)
    paths = []
    for shade in range(1, _SHADES + 1):
        cells = "".join(
            f"M{left + column * cell} {row * cell}h{cell}v{cell}h-{cell}z"
            for row, column in zip(*np.nonzero(shades == shade), strict=True)
        )
        if cells:
            paths.append(f'<path opacity="{shade / _SHADES:.2f}" d="{cells}"/>')
    names = "".join(
        f'<text x="{left - 4}" y="{(row + 1) * cell - 3}" text-anchor="end">'
        f"{_escaped(_short(label))}</text>"
        for row, label in enumerate(labels)
    )
    width, height = left + columns * cell, rows * cell
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" role="img" '
        f'aria-label="heat map of {rows} by {columns}">{"".join(paths)}{names}</svg>'
    )


def _importance(importance: Values | None) -> str:
    if importance is None:
        return ""
    drawn = heat_map(
        importance, cell=_CELL, labels=[f"layer {n + 1}" for n in range(len(importance))]
    )
    return (
        "<h2>Importance of heads</h2><p>How much the answer's likelihood would change with each "
        f"head's gate, a column a head.</p>{drawn}"
    )


def _figure(caption: str, drawing: str) -> str:
    return f"<figure>{drawing}<figcaption>{caption}</figcaption></figure>"


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_LABEL else f"{text[: _LONGEST_LABEL - 1]}…"


def _escaped(text: str) -> str:
    # NB: `=` as well, as in reports: text of data can never read as an attribute.
    return html.escape(text).replace("=", "&#61;")
