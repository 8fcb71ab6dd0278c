"""The results as a bar chart, in SVG."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

WIDTH, LABEL, BAR, LINE = 860, 440, 240, 30
MOST = 1.5


def write_chart(file: Path, rows: Sequence[tuple[str, float]]) -> None:
    """Draw each share as a bar beside the whole that it is a share of.

    :param rows: what was compared, and our time as a share of the other's.
    """
    height = LINE * (len(rows) + 2)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif"'
        ' font-size="13">',
        "<title>Time taken, as a share of what it is compared with</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        f'<text x="{LABEL}" y="20" fill="#666">blue: our time; grey: what it is compared with</text>',
    ]
    for index, (what, share) in enumerate(rows, 1):
        y = LINE * index + 4
        parts += [
            f'<text x="{LABEL - 12}" y="{y + 15}" text-anchor="end" fill="#222">{escape(what)}</text>',
            f'<rect x="{LABEL}" y="{y}" width="{BAR}" height="20" fill="#e4e4e4"/>',
            f'<rect x="{LABEL}" y="{y}" width="{max(2, min(MOST, share) * BAR):.0f}" height="20" fill="#0a6cbd"/>',
            f'<text x="{LABEL + max(1, min(MOST, share)) * BAR + 8:.0f}" y="{y + 15}" fill="#222">{share:.2f}</text>',
        ]
    file.write_text("\n".join([*parts, "</svg>", ""]), encoding="utf-8")
