"""Configuration: TOML in, frozen and checked sections out.

A session needs none: every key has a default that suits one machine. ``configs/microscope.toml``
shows every key with its meaning. `sections` has the tables and their checks, which also refuse
values made in Python; `files` reads and writes TOML, `diagnostics` names every mistake in a file
with its line, `examples` has files to begin with.
"""

from nanostream.config.files import (
    as_toml,
    check_config,
    check_together,
    load_config,
    override,
    worker_of_text,
)
from nanostream.config.patterns import matches
from nanostream.config.sections import (
    Config,
    Delivery,
    Feedback,
    Limit,
    Network,
    Notify,
    Sink,
    Stream,
    Watch,
    Worker,
    is_loopback,
    tracker_of,
)

__all__ = [
    "Config",
    "Delivery",
    "Feedback",
    "Limit",
    "Network",
    "Notify",
    "Sink",
    "Stream",
    "Watch",
    "Worker",
    "as_toml",
    "check_config",
    "check_together",
    "is_loopback",
    "load_config",
    "matches",
    "override",
    "tracker_of",
    "worker_of_text",
]
