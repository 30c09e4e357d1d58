"""What an import could not use."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A file or a spectrum that is not among the points."""

    name: str
    """Of the spectrum, or of the file."""
    file: str
    """Where it is."""
    reason: str
    """Why, on one line."""
