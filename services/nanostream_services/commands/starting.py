"""Steps before a session: its configuration, and checks of what would make it fail."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import msgspec

from nanostream.config import Config, Stream, Worker, load_config, override
from nanostream.errors import ConfigError
from nanostream_services.processes.logs import start_log

__all__ = ["check_worker", "log_beside", "new_folder", "session_config"]


def session_config(
    file: Path | None,
    *,
    out: Path,
    model: str | None,
    threshold: float | None,
    stream: list[str] | None,
) -> Config:
    """The configuration of a file, or the defaults, with what the command line gave besides."""
    config = override(
        load_config(file) if file else Config(),
        worker={"model": model, "threshold": threshold},
        sink={"session": str(out.resolve())},
    )
    more = tuple(Stream(pattern=pattern) for pattern in stream or ())
    return msgspec.structs.replace(config, streams=(*config.streams, *more))


def new_folder(out: Path | None, what: str) -> Path:
    """The folder that was given, or one named by command and time; it must be new or empty.

    Raises
    ------
    ConfigError
        If something is in it.
    """
    folder = out or Path(f"nanostream-{what}-{datetime.now():%Y%m%d-%H%M%S}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        msg = f"--out {folder} is there already; give a new or an empty folder"
        raise ConfigError(msg)
    return folder


def check_worker(settings: Worker) -> None:
    """Refuse a session that could not work, before anything is made or started.

    Raises
    ------
    ModelError
        If there is no such model, or no engine to compute it.
    ConfigError
        If its engine has no such precision.
    """
    from nanostream.segmentation.engines import choose_engine
    from nanostream.segmentation.handing_over import models_in_use

    models_in_use(settings)
    choose_engine(settings.engine, device=settings.device, mixed=settings.mixed)


def log_beside(session: Path, name: str = "run") -> None:
    """Send this process' log to a file of the session: the terminal is for what a user reads."""
    from nanostream.results.folders import check_folder

    try:
        check_folder(session)
        (session / "logs").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"--out {session}: {error.strerror}; choose a folder that can be written"
        raise ConfigError(msg) from error
    start_log(session / "logs" / f"{name}.log")
