"""The model, and the device that computes it."""

from __future__ import annotations

import contextlib
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from nanostream.acquisition.folder import WatchedFolder
from nanostream.config import Config
from nanostream.errors import MicrographError, NanostreamError
from nanostream.segmentation.engines import NO_ENGINE, has_any_engine
from nanostream.segmentation.models import find_model, load_network
from nanostream_services.doctor.findings import Finding, Role
from nanostream_services.doctor.watched import look_into, newest

__all__ = ["check_device", "check_model", "tell_device"]

_LONGEST_DEVICE_S = 120.0


def check_model(config: Config, role: Role) -> Iterator[Finding]:
    """The model, and whether it was trained for micrographs like the newest one."""
    try:
        card, _ = find_model(config.worker.model)
    except NanostreamError as error:
        yield Finding("model", "problem", str(error))
        return
    yield Finding("model", "ok", f"{card.name}: its weights are those of its card")
    root = Path(config.watch.directory)
    if card.pixel_size_nm is None or not config.watch.directory or not root.is_dir():
        return
    files = WatchedFolder(root, config.watch).files()
    pixel_size_nm = None
    if files:
        # A file that cannot be read is a finding of the watched folder.
        with contextlib.suppress(MicrographError, OSError):
            pixel_size_nm = look_into(root / newest(files)[0])[1]
    if pixel_size_nm is None:
        pixel_size_nm = config.watch.pixel_size_nm
    if pixel_size_nm is None:
        return
    low_nm, high_nm = card.pixel_size_nm
    if pixel_size_nm > high_nm and config.worker.hand_over and card.hands_over_to:
        card, _ = find_model(card.hands_over_to)
        low_nm, high_nm = card.pixel_size_nm or (0.0, math.inf)
    fits = low_nm <= pixel_size_nm <= high_nm
    yield Finding(
        "pixel size",
        "ok" if fits else "warning",
        f"the newest micrograph has {pixel_size_nm:.4g} nm, {card.name} was trained on "
        f"{low_nm:g} to {high_nm:g} nm",
        "" if fits else "look at the masks before you trust them, or choose another --model",
    )


def check_device(config: Config, role: Role) -> Iterator[Finding]:
    """The engine and its device, in a process of its own: imports take seconds and memory."""
    if not has_any_engine():
        if role == "worker":
            yield Finding("engine", "problem", NO_ENGINE)
            return
        text = "none installed: this machine can run agent, sink and dashboard, not the worker"
        yield Finding("engine", "warning", text, NO_ENGINE.partition("; ")[2])
        return
    settings = config.worker
    code = (
        "import sys; from nanostream_services.doctor import tell_device; tell_device(*sys.argv[1:])"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, settings.engine, settings.device, settings.precision],
            capture_output=True,
            text=True,
            timeout=_LONGEST_DEVICE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        text = f"does not start within {_LONGEST_DEVICE_S:.0f} s"
        yield Finding(
            "device", "problem", text, "check the graphics driver: nvidia-smi must answer"
        )
        return
    told = done.stdout.strip()
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["the engine does not start"]
        yield Finding("device", "problem", lines[-1])
    elif not told.endswith("CPU"):
        yield Finding("device", "ok", f"the worker computes on a GPU ({told})")
    elif settings.device.lower() == "cpu":
        yield Finding("device", "ok", f"{told}, as [worker] device says")
    else:
        advice = (
            "the time of predict, under its steps below, must be shorter than the time between two "
            "sections; if it is not, use an NVIDIA GPU: pip install "
            + ("'.[gpu]'" if sys.platform == "linux" else "'.[onnx-gpu]' in a new environment")
        )
        yield Finding("device", "warning", f"{told}: no GPU was found", advice)


def tell_device(engine: str, device: str, precision: str) -> None:
    """Write what a worker would compute with; exit with the reason if there is nothing."""
    try:
        card, weights = find_model("default")
        network = load_network(
            card, weights, engine=engine, device=device, mixed=precision == "mixed"
        )
    except NanostreamError as error:
        sys.exit(str(error))
    sys.stdout.write(f"{network.engine.name} on {network.engine.device}")
