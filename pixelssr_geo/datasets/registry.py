"""The table of datasets."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from inspect import signature
from typing import TYPE_CHECKING, Any

from pixelssr_geo.datasets import arad, cave, rasters
from pixelssr_geo.errors import SettingsError

if TYPE_CHECKING:
    from pixelssr_geo.datasets.pair import PairDataset


@dataclass(frozen=True, slots=True)
class DatasetSpec:
    """One kind of dataset: what it is called and what its folder holds."""

    name: str
    """Name in ``NAME:ROOT``, lower case."""
    title: str
    """What messages call it."""
    files: str
    """What its folder holds."""
    target: str
    """``module:function`` that opens it."""
    terms: str
    """Who may use it for what."""
    aliases: tuple[str, ...] = ()
    """Other names that mean it."""


_SPECS: tuple[DatasetSpec, ...] = (
    DatasetSpec(
        name="arad-1k",
        title=arad.TITLE,
        files=arad.FILES,
        target="pixelssr_geo.datasets.arad:open_arad",
        terms="registration with the challenge; no licence stated; cite Arad et al. (2022)",
        aliases=("arad", "ntire", "ntire2022"),
    ),
    DatasetSpec(
        name="cave",
        title=cave.TITLE,
        files=cave.FILES,
        target="pixelssr_geo.datasets.cave:open_cave",
        terms="for the research community; no licence stated; cite Yasuma et al. (2008)",
    ),
    DatasetSpec(
        name="rasters",
        title=rasters.TITLE,
        files=rasters.FILES,
        target="pixelssr_geo.datasets.rasters:open_rasters",
        terms="those of your rasters",
        aliases=("gf-x", "pairs"),
    ),
)
_TABLE = {name: spec for spec in _SPECS for name in (spec.name, *spec.aliases)}


def list_datasets() -> tuple[DatasetSpec, ...]:
    """The kinds of datasets that can be opened."""
    return _SPECS


def find_dataset(text: str) -> tuple[DatasetSpec, str]:
    """The kind and the folder that a text such as ``cave:data/CAVE`` names.

    Raises
    ------
    SettingsError
        If the text is not of that form.
    """
    name, colon, root = text.partition(":")
    plain = name.strip().lower().replace("_", "-").replace(" ", "-")
    if not colon or not root or plain not in _TABLE:
        known = ", ".join(f"{spec.name}:ROOT" for spec in _SPECS)
        raise SettingsError(
            f"dataset '{text}' was asked for, expected a kind and its folder, one of {known}: name "
            "both"
        )
    return _TABLE[plain], root


def open_dataset(text: str, **options: Any) -> PairDataset:
    """The dataset that a text such as ``cave:data/CAVE`` asks for.

    Parameters
    ----------
    text
        ``NAME:ROOT``: one of :func:`list_datasets` and its folder.
    **options
        Arguments of the function that opens it, such as ``response``.

    Raises
    ------
    SettingsError
        If the text is not of that form, or an option is not one of the dataset's.
    PixelSSRError
        If the folder does not hold such a dataset.
    """
    spec, root = find_dataset(text)
    module, function = spec.target.split(":")
    opener = getattr(import_module(module), function)
    taken = [key for key in signature(opener).parameters if key != "root"]
    for option in options:
        if option not in taken:
            raise SettingsError(
                f"option '{option}' was given for dataset '{spec.name}', expected some of "
                f"{', '.join(taken)}: leave it out"
            )
    dataset: PairDataset = opener(root, **options)
    return dataset
