"""Optional dependencies: one way to ask, one message."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from pixelssr_geo.errors import MissingDependencyError

if TYPE_CHECKING:
    from types import ModuleType


def need(module: str, *, extra: str) -> ModuleType:
    """Return the imported module, or say which extra brings it.

    Parameters
    ----------
    module
        Import name, such as ``"mamba_ssm"``.
    extra
        Extra of this package that installs it.

    Raises
    ------
    MissingDependencyError
        If the module cannot be imported.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingDependencyError(
            f"'{module}' is not installed ({error}), this step needs it: "
            f"pip install 'pixelssr-geo[{extra}]'"
        ) from error
