"""Options without a default get an empty cell: mkdocs-click shows click's marker for it."""

from __future__ import annotations

from typing import Any


def on_page_content(html: str, **_: Any) -> str:
    """The page with empty cells for options without a default."""
    return html.replace("<td><code>Sentinel.UNSET</code></td>", "<td></td>")
