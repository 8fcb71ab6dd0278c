"""The results as a bar chart, in SVG."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

WIDTH, MARGIN, TOP, LINE, BAR = 720, 24, 84, 58, 18
FULL = (WIDTH - 2 * MARGIN) / 1.25
"""The width of the whole, so that a bar that is a quarter longer still fits."""

STYLE = """text{font-family:-apple-system,"Segoe UI",Helvetica,Arial,sans-serif;font-size:15px;fill:#1f2328}
.title{font-size:19px;font-weight:600}.note{font-size:13px;fill:#59636e}
.paper{fill:#fff}.whole{fill:#d8dee4}.ours{fill:#0969da}
@media (prefers-color-scheme:dark){text{fill:#f0f6fc}.note{fill:#9198a1}.paper{fill:#0d1117}.whole{fill:#3d444d}
.ours{fill:#4493f8}}"""
TITLE = "Time taken, compared with the usual way"
NOTE = "Blue: this package. Grey: what it is compared with. Shorter is better."


def write_chart(file: Path, rows: Sequence[tuple[str, str, float]]) -> None:
    """Draw each share as a bar in front of the whole that it is a share of.

    :param rows: what was measured, what it was compared with, and our time as a share of the other's.
    """
    height = TOP + LINE * len(rows) + MARGIN // 2
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        f"<title>{TITLE}</title>",
        f"<style>{STYLE}</style>",
        f'<rect class="paper" width="{WIDTH}" height="{height}"/>',
        f'<text class="title" x="{MARGIN}" y="36">{TITLE}</text>',
        f'<text class="note" x="{MARGIN}" y="60">{NOTE}</text>',
    ]
    for index, (what, other, share) in enumerate(rows):
        y = TOP + LINE * index
        length = max(2.0, min(1.25, share) * FULL)
        parts += [
            f'<text x="{MARGIN}" y="{y + 14}">{escape(what)}: {share:.2f} <tspan class="note">of {escape(other)}'
            "</tspan></text>",
            f'<rect class="whole" x="{MARGIN}" y="{y + 22}" width="{FULL:.0f}" height="{BAR}" rx="3"/>',
            f'<rect class="ours" x="{MARGIN}" y="{y + 22}" width="{length:.0f}" height="{BAR}" rx="3"/>',
        ]
    file.write_text("\n".join([*parts, "</svg>", ""]), encoding="utf-8")
