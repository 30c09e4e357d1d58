"""Docstring roles such as ``:func:`name``` shown as plain code, for mkdocstrings knows no roles."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

_ROLE = re.compile(r":(?:attr|class|func|meth|mod):`(~?)([^`]+)`")


class SphinxRoles(Extension):
    """Rewrites the roles in every docstring that is collected."""

    def on_instance(self, *, obj: Object, **_: Any) -> None:
        """Rewrite one object's docstring."""
        if obj.docstring is not None:
            obj.docstring.value = _ROLE.sub(_as_code, obj.docstring.value)


def _as_code(role: re.Match[str]) -> str:
    name = role[2].rsplit(".", 1)[-1] if role[1] else role[2]
    return f"`{name}`"
