"""Every exception and warning of the package.

Each is a :class:`PixelSSRError` and the builtin that fits, so both ``except`` styles work. Messages
say what was found, what was expected and how to cure it, and are built where they are raised:
an exception with its own ``__init__`` would not survive the way back from a Dask worker.
"""


class PixelSSRError(Exception):
    """Root of everything that this package raises on purpose."""


class SceneError(PixelSSRError, ValueError):
    """The scene cannot be used as it is."""


class SceneReadError(PixelSSRError, OSError):
    """The scene (or another raster) cannot be opened or read."""


class MissingWavelengthsError(SceneError):
    """No wavelengths are known for the scene's bands."""


class MissingCRSError(PixelSSRError, ValueError):
    """The scene or the points carry no coordinate reference system."""


class ResponseError(PixelSSRError, ValueError):
    """Spectral response functions are malformed or do not fit the scene or the cube."""


class UnknownSensorError(PixelSSRError, KeyError):
    """No sensor of that name is known."""

    def __str__(self) -> str:
        # KeyError would print the repr of its argument.
        return Exception.__str__(self)


class PointsError(PixelSSRError, ValueError):
    """The point file or its spectra cannot be used."""


class WavelengthGridError(PixelSSRError, ValueError):
    """The wavelengths asked of the cube are malformed or not supported."""


class SettingsError(PixelSSRError, ValueError):
    """Options contradict each other or lie outside their range."""


class UnknownNetError(PixelSSRError, KeyError):
    """No network of that name is registered."""

    def __str__(self) -> str:
        return Exception.__str__(self)


class WeightsError(PixelSSRError, ValueError):
    """A weights file is broken or belongs to another network or sensor."""


class DeviceError(PixelSSRError, RuntimeError):
    """The device or backend asked for is not there."""


class OutputError(PixelSSRError, OSError):
    """The result cannot be written where it was asked for."""


class OutputExistsError(OutputError):
    """The name of a result is taken."""


class ResumeError(PixelSSRError, RuntimeError):
    """An unfinished run cannot be continued by this one."""


class ClusterError(PixelSSRError, RuntimeError):
    """A Dask cluster cannot be reached, or not used for what was asked."""


class MissingDependencyError(PixelSSRError, ImportError):
    """An optional library is needed and not installed."""


class PixelSSRWarning(UserWarning):
    """Something was assumed that the user can set right."""
