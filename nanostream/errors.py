"""Everything that can go wrong, as one tree.

::

    NanostreamError
    ├── ConfigError           a configuration file, key or command-line value is wrong
    ├── MicrographError       a file cannot be read as a micrograph
    │   ├── NotReadyError     it may become readable: SerialEM is still writing it
    │   │   └── UnlistedError   no sidecar of SerialEM's lists it
    │   └── OverwrittenError  another section is in the place of the one that was found
    ├── DataSetError          labelled micrographs or a data set do not fit together
    ├── ModelError            a network, its weights or its card do not fit
    ├── MessageError          bytes from the network are no message of this protocol
    └── SessionError          a session folder is foreign, damaged or cannot be written

Every message says what, which file or key, which value, and what to do; it is written for the
operator, who sees it without a traceback.
"""

__all__ = [
    "ConfigError",
    "DataSetError",
    "MessageError",
    "MicrographError",
    "ModelError",
    "NanostreamError",
    "NotReadyError",
    "OverwrittenError",
    "SessionError",
    "UnlistedError",
]


class NanostreamError(Exception):
    """Anything nanostream reports to its user."""


class ConfigError(NanostreamError):
    """A configuration file, key or command-line value is wrong."""


class MicrographError(NanostreamError):
    """A file cannot be read as a micrograph."""


class NotReadyError(MicrographError):
    """A section is not complete on disk yet; inspect it again later."""


class UnlistedError(NotReadyError):
    """No mdoc or idoc lists a TIFF: it may be none of SerialEM's, and never will be listed."""


class OverwrittenError(MicrographError):
    """A section was written anew after it was found: it will never be read."""


class DataSetError(NanostreamError):
    """Micrographs and labels, or the parts of a data set, do not fit together."""


class ModelError(NanostreamError):
    """A network, its weights or its card do not fit."""


class MessageError(NanostreamError):
    """Bytes from the network are not a message of this protocol version."""


class SessionError(NanostreamError):
    """A session folder is foreign, damaged or cannot be written."""
