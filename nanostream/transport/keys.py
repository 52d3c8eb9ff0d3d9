"""CURVE keys of this machine and of those it trusts, as files.

::

    KEYS/
      own.public      for the other machines; not a secret
      own.secret      readable by its owner only
      trusted/        NAME.public of every machine that may connect, or that is connected to

A machine whose file is taken away is refused from its next connection on.
"""

from __future__ import annotations

import logging
import os
import re
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from nanostream.errors import ConfigError

__all__ = ["Keys", "create_keys", "load_keys", "read_public", "trust"]

logger = logging.getLogger(__name__)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
#: A CURVE key in Z85 (ZeroMQ RFC 32): 40 printable characters.
_KEY = re.compile(rb"[0-9a-zA-Z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")


@dataclass(frozen=True)
class Keys:
    """Key pair (Z85) of this machine, and the folder with those of the machines it trusts."""

    folder: Path
    public: bytes
    secret: bytes

    def trusted(self) -> dict[bytes, str]:
        """Names of the machines that may connect, by key; read anew each time."""
        friends = {}
        for path in sorted(self.folder.glob("trusted/*.public")):
            try:
                friends[read_public(path)] = path.stem
            except ConfigError as error:  # one bad file must not shut the others out
                logger.warning("not trusted: %s", error)
        return {self.public: "own", **friends}

    def of_server(self, name: str) -> bytes:
        """Key that a server must prove to have.

        Parameters
        ----------
        name : str
            Of a trusted machine; empty for this one.

        Raises
        ------
        ConfigError
            If there is no such machine.
        """
        if not name:
            return self.public
        path = self.folder / "trusted" / f"{name}.public"
        if not _NAME.fullmatch(name) or not path.is_file():
            msg = f"no key of {name!r} in {path.parent}; nanostream keys allow adds it"
            raise ConfigError(msg)
        return read_public(path)


def create_keys(folder: Path, pair: tuple[bytes, bytes]) -> Keys:
    """Write a new key pair; an existing one is never replaced.

    Parameters
    ----------
    pair : tuple of bytes
        Public and secret key in Z85, from `nanostream.transport.sockets.new_key_pair`.
    """
    public, secret = pair
    try:
        (folder / "trusted").mkdir(parents=True, exist_ok=True)
        # 0600 from the first moment, whatever the umask.
        handle = os.open(folder / "own.secret", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(secret + b"\n")
        (folder / "own.public").write_bytes(public + b"\n")
    except FileExistsError as error:
        msg = f"{folder} has a key already; delete own.secret yourself if you want a new one"
        raise ConfigError(msg) from error
    except OSError as error:
        msg = f"keys cannot be written to {folder}: {error.strerror}"
        raise ConfigError(msg) from error
    return Keys(folder, public, secret)


def load_keys(folder: Path) -> Keys:
    """Keys of this machine.

    Raises
    ------
    ConfigError
        If there are none, or others on this machine can read the secret one.
    """
    secret = folder / "own.secret"
    try:
        mode = stat.S_IMODE(secret.stat().st_mode)
    except OSError as error:
        msg = f"[network] keys: no key in {folder}; nanostream keys create {folder} makes one"
        raise ConfigError(msg) from error
    if os.name == "posix" and mode & 0o077:
        msg = f"{secret} can be read by others (mode {mode:o}); chmod 600, or make new keys"
        raise ConfigError(msg)
    return Keys(folder, read_public(folder / "own.public"), read_public(secret))


def trust(folder: Path, name: str, public: Path) -> Path:
    """Allow a machine: keep its public key under a name.

    Raises
    ------
    ConfigError
        If the name is none, or the file is no public key or a secret one.
    """
    if not _NAME.fullmatch(name) or name == "own":
        msg = f"{name!r} is no name for a machine; letters, digits, dash and underscore"
        raise ConfigError(msg)
    key = read_public(public)
    own = b""
    with suppress(ConfigError):  # of another account, or not made yet
        own = read_public(folder / "own.secret")
    if public.suffix.lower() == ".secret" or key == own:
        msg = (
            f"{public} is a secret key, which never leaves its machine; give that machine's "
            "own.public, and make it new keys if this file has been elsewhere"
        )
        raise ConfigError(msg)
    path = folder / "trusted" / f"{name}.public"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        written = path.with_suffix(".part")
        written.write_bytes(key + b"\n")
        written.replace(path)  # a connection may be asking at this moment
    except OSError as error:
        msg = f"{path} cannot be written: {error.strerror}"
        raise ConfigError(msg) from error
    return path


def read_public(path: Path) -> bytes:
    """A key from its file, in Z85.

    Raises
    ------
    ConfigError
        If the file cannot be read or has something else in it.
    """
    try:
        with path.open("rb") as file:
            key = file.read(256).strip()
    except OSError as error:
        msg = f"key {path} cannot be read: {error.strerror}; give own.public of the other machine"
        raise ConfigError(msg) from error
    if not _KEY.fullmatch(key):
        msg = f"{path} is no key; give own.public of the other machine (nanostream keys create)"
        raise ConfigError(msg)
    return key
