"""Small forms of the commands in scripts/: what must be quicker than what, on any machine."""

import sys

import numpy as np
import pytest
from latency import Case, measure

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="stops processes as POSIX does"),
]

POLL_S = 2.0


@pytest.mark.parametrize("mdoc", [True, False])
def test_a_file_event_is_far_quicker_than_a_scan(tmp_path, mdoc):
    late_s = {}
    for file_events, sections in (("on", 25), ("off", 5)):
        folder = tmp_path / file_events
        folder.mkdir()
        late_s[file_events], read_s = measure(
            folder, Case(file_events, mdoc, sections, 256, 0.1, POLL_S)
        )
        assert len(late_s[file_events]) == len(read_s) == sections
    # The first section waits for an mdoc that never comes, the next know better. A quarter of them:
    # of scans alone a tenth would be so early, and on a busy machine not each event is.
    assert np.quantile(late_s["on"], 0.25) < np.median(late_s["off"]) / 5
