"""The errors of voltscreen, named by cause.

Every message is one sentence for a person, with what to do next. The command line prints it and
exits with `exit_code`: 2 for wrong use or bad input, 3 for a service that is missing or
unreachable. Code 1 is kept for runs that finished with failed items.
"""

from __future__ import annotations


class VoltscreenError(Exception):
    """Anything that voltscreen refuses or cannot do."""

    exit_code = 2


class StructureError(VoltscreenError):
    """A crystal structure that no voltage can be predicted for."""


class FileFormatError(VoltscreenError):
    """A file that cannot be read as what it should be."""


class SpecError(VoltscreenError):
    """A campaign spec with an unknown key, a wrong value or a missing part."""


class SettingsError(VoltscreenError):
    """A setting (environment variable or settings file) that is unknown or out of range."""


class ModelError(VoltscreenError):
    """A model that is unknown, damaged, or does not fit its element table."""


class CampaignError(VoltscreenError):
    """A campaign that does not exist, or cannot be continued as asked."""


class QueryError(VoltscreenError):
    """A query that cannot be answered: unknown id, unknown column, impossible window."""


class ServiceError(VoltscreenError):
    """A service that is missing or unreachable."""

    exit_code = 3


class DatabaseError(ServiceError):
    """MongoDB is not reachable, or the embedded server cannot be started."""


class MaterialsProjectError(ServiceError):
    """The Materials Project does not answer, or not with what was asked for."""


class MissingPackageError(ServiceError):
    """An optional package is needed for this command and is not installed."""
