"""Latencies of ``nanostream bench`` are those of a session."""

import numpy as np

from nanostream.config import Config
from nanostream_services.bench.pipeline import latencies_s
from nanostream_services.processes.lifecycle import Stop


def test_a_session_has_a_latency_for_each_section_but_the_first(tmp_path):
    late_s = latencies_s(tmp_path / "session", Config(), 512, 6, 0.5, Stop())
    assert late_s.shape == (5,)
    assert np.isfinite(late_s).all()
    assert (late_s > 0).all()
