"""A running session watched from outside: `nanostream metrics`, and `dashboard` by its folder."""

import os
import signal
import subprocess
import sys
import urllib.request
from typing import Any

import pytest

from nanostream.acquisition.simulator import demo_movie, play
from tests.pipeline.running import RunningSession

pytest.importorskip("prometheus_client", reason="the extra [metrics] is not installed")

pytestmark = pytest.mark.skipif(os.name != "posix", reason="processes are stopped by signals")


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "nanostream_services", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_a_session_is_served_to_prometheus_and_shown_by_its_folder(tmp_path):
    images = [pixels for pixels, _ in demo_movie(2, shape=(256, 256), seed=5)]
    options: dict[str, Any] = {"interval_s": 0.0, "pixel_size_nm": 0.05}
    with RunningSession(tmp_path) as running:
        play(images, running.watch, **options)
        running.wait_for_stored(2)
        with start("metrics", running.out, "--port", 0) as metrics:
            assert metrics.stdout is not None
            address = metrics.stdout.readline().strip()
            assert address.startswith("http://127.0.0.1:")

            def served() -> bool:
                with urllib.request.urlopen(address) as answer:
                    text = answer.read().decode()
                return "nanostream_sections_stored_total 2.0" in text

            running.wait_until(served, "both sections in the metrics")
            metrics.send_signal(signal.SIGTERM)
            assert metrics.wait() == 0

        with start("dashboard", running.out, "--plain") as dashboard:
            assert dashboard.stdout is not None
            lines = iter(dashboard.stdout.readline, "")
            assert any("stored 2" in line for line in lines)
            dashboard.send_signal(signal.SIGTERM)
            assert dashboard.wait() == 0
        running.stop()


def test_a_folder_that_is_no_running_session_is_refused(tmp_path):
    with start("metrics", tmp_path) as done:
        assert done.wait() == 2
        assert done.stdout is not None
        assert "is no session of nanostream run" in done.stdout.read()
