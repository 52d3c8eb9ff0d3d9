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
operator, who sees it without a traceback; what the system or a library says goes through
`reason_of`, and what is in a file through `printable`.
"""

import errno
import os
import re

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
    "advice_on",
    "printable",
    "reason_of",
]

#: What SQLite, HDF5 and msgspec say, and what it means.
_MEANINGS = (
    (r"not a database|malformed|damaged", "it is damaged, or no file of nanostream's"),
    (r"readonly database|unable to open database", "it cannot be opened to be written"),
    (r"database is locked", "another program has it open"),
    (r"database or disk is full", os.strerror(errno.ENOSPC)),
    (r"file signature not found|truncated file|bad .* version number", "no HDF5, or damaged"),
    (
        r"^(JSON is malformed|Input data was truncated|Expected `|Object missing)",
        "damaged",
    ),
)


#: What to do about an error of the system.
_ADVICE = {
    errno.ENOSPC: "make room, and give the same command again",
    errno.EACCES: "ask for the right, or choose another place",
    errno.EPERM: "ask for the right, or choose another place",
    errno.ENOENT: "make the folder first, or choose another",
    errno.ENOTDIR: "a file is in the place of a folder; choose another",
    errno.EEXIST: "it stays; choose another name",
    errno.ENAMETOOLONG: "give the file a shorter name",
}


def advice_on(error: OSError) -> str:
    """The reason of an error of the system, and what its user can do.

    Examples
    --------
    >>> advice_on(OSError(28, "No space left on device"))
    'No space left on device; make room, and give the same command again'
    """
    return f"{reason_of(error)}; {_ADVICE.get(error.errno or 0, 'choose another place')}"


def reason_of(error: Exception) -> str:
    """The reason of an error of the system or a library, without numbers and wording of theirs.

    Errors of nanostream's own have it in their words.

    Examples
    --------
    >>> reason_of(OSError(28, "No space left on device", "session.db"))
    'No space left on device'
    >>> reason_of(ValueError("file is not a database"))
    "it is damaged, or no file of nanostream's"
    >>> reason_of(ValueError("Expected `float`, got `str` - at `$.threshold`"))
    'damaged at its key threshold'
    """
    text = str(error)
    if isinstance(error, NanostreamError):
        return text
    # h5py puts those of the C library into its own.
    if found := re.search(r"error message = '(.*?)'", text):
        return found[1]
    for wording, meaning in _MEANINGS:
        if re.search(wording, text):
            key = re.search(r" - at `\$\.([^`]+)`", text)  # msgspec names where
            return f"{meaning} at its key {key[1]}" if key else meaning
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return text


class NanostreamError(Exception):
    """Anything nanostream reports to its user."""


class ConfigError(NanostreamError):
    """A configuration file, key or command-line value is wrong."""


class MicrographError(NanostreamError):
    """A file cannot be read as a micrograph.

    Names of files, and of what is in them, are others' text: the message is `printable`.
    """

    def __str__(self) -> str:
        return printable(super().__str__())


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


def printable(text: str) -> str:
    r"""Text for a screen or log: what could steer it or turn the line around becomes an escape.

    Names of files and folders, what is in them, and what comes from the network, can have such
    characters.

    Examples
    --------
    >>> print(printable("gold\x1b[2J\n.mrc"))
    gold\x1b[2J\n.mrc
    """
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
