"""Types of a network's options, checked where they come in: from files and command lines, too."""

from __future__ import annotations

from dataclasses import fields
from math import isfinite
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from pixelssr_geo.errors import SettingsError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def check_options(config: DataclassInstance) -> None:
    """Raise SettingsError unless every field has a value of its type; lists become tuples.

    Parameters
    ----------
    config
        Frozen dataclass with fields of type bool, int, float, str, tuple of int, or Literal.
    """
    for name, hint in get_type_hints(type(config)).items():
        if name not in {field.name for field in fields(config)}:
            continue
        value = getattr(config, name)
        if isinstance(value, list):
            value = tuple(value)
            object.__setattr__(config, name, value)
        if wanted := _wanted(value, hint):
            raise SettingsError(f"option '{name}' of the network is {value!r}, expected {wanted}")


def _wanted(value: Any, hint: Any) -> str | None:
    """Return what a value of that type would be; None if this is one."""
    if hint is bool:
        return None if isinstance(value, bool) else "true or false"
    if hint is int:
        return None if _is_int(value) else "a whole number"
    if hint is float:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return None if number and isfinite(value) else "a finite number"
    if hint is str:
        return None if isinstance(value, str) else "text"
    if hint == tuple[int, ...]:
        fits = isinstance(value, tuple) and all(map(_is_int, value))
        return None if fits else "a list of whole numbers"
    choices = get_args(hint)
    return None if isinstance(value, str) and value in choices else f"one of {', '.join(choices)}"


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
