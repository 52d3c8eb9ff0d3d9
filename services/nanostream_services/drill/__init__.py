"""A rehearsal with faults: `drills` plays it, `link` is a connection that can be cut."""

from nanostream_services.drill.drills import SECTIONS, run_drill

__all__ = ["SECTIONS", "run_drill"]
