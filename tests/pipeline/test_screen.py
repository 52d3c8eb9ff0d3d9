"""The operator's screen has what nanostream writes; what libraries write is in the log. And what is
there when the disk is full, or something may not be read."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.waiting import LONGEST_S

NOISY = """
import logging, os, sys, warnings
from pathlib import Path
from nanostream_services.processes.logs import libraries_silent, start_log
with libraries_silent():
    os.write(2, b"native\\n")
    logging.getLogger("tifffile").warning("of a package")
    warnings.warn("a warning")
    print("ours", file=sys.stderr)
    {then}
print("after", file=sys.stderr)
"""


def run(*words, **env):
    done = subprocess.run(
        [*map(str, words)],
        capture_output=True,
        text=True,
        env=os.environ | env,
        timeout=LONGEST_S,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def nanostream(*words):
    return run(sys.executable, "-m", "nanostream_services", *words)


@pytest.mark.skipif(sys.platform == "win32", reason="the log has another place there")
def test_the_screen_has_our_lines_and_the_log_those_of_libraries(tmp_path):
    state = str(tmp_path / "state")
    code, out, err = run(sys.executable, "-c", NOISY.format(then=""), XDG_STATE_HOME=state)
    assert (code, out, err) == (0, "", "ours\nafter\n")
    (log,) = Path(state).rglob("nanostream.log")
    for line in ("native\n", "WARNING of a package\n", "UserWarning: a warning"):
        assert line in log.read_text()


def test_a_sessions_log_takes_over_where_there_is_a_session(tmp_path):
    log = tmp_path / "segment.log"
    then = f"start_log(Path({str(log)!r})); os.write(2, b'later\\n'); logging.error('too')"
    state = str(tmp_path / "state")
    code, out, err = run(sys.executable, "-c", NOISY.format(then=then), XDG_STATE_HOME=state)
    assert (code, out, err) == (0, "", "ours\nafter\n")
    assert "later\n" in log.read_text()
    assert "ERROR   too\n" in log.read_text()


def test_a_home_that_cannot_be_written_stops_nothing(tmp_path):
    (tmp_path / "file").touch()
    state = str(tmp_path / "file" / "state")
    code, out, err = run(sys.executable, "-c", NOISY.format(then=""), XDG_STATE_HOME=state)
    assert (code, out, err) == (0, "", "ours\nafter\n")


needs_root = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="root makes full disks and others' files"
)


@pytest.fixture
def full_disk(tmp_path):
    """A disk without room; the test is skipped where mounting is forbidden."""
    folder = tmp_path / "full"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8k,nr_inodes=20", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"cannot mount a small disk: {done.stderr.strip()}")
    (folder / "filler").write_bytes(bytes(4096))
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=False)


@needs_root
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("config", "example", "microscope", "--out", "{}/a.toml"), "--out {}/a.toml: No space"),
        (("simulate", "{}", "--sections", "1"), "No space left on device; make room, and give"),
        (("run", "{}/..", "--out", "{}/s"), "is inside"),
        (("segment", "{}/../gold.npy", "--out", "{}/session"), "make room|cannot be used|No space"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_a_full_disk_is_said_in_a_sentence(tmp_path, full_disk, words, said):
    np.save(tmp_path / "gold.npy", np.zeros((8, 8), np.int16))
    code, _, err = nanostream(*(word.format(full_disk) for word in words))
    assert code == 2
    assert any(part in err for part in said.format(full_disk).split("|"))
    assert "Errno" not in err
    assert "Traceback" not in err


#: Root as anybody else: it may not pass over the rights of files.
POWERLESS = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")


@needs_root
def test_what_may_not_be_read_or_written_is_said(tmp_path):
    try:
        subprocess.run([*POWERLESS, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("cannot give up rights")

    def powerless(*words):
        return run(*POWERLESS, sys.executable, "-m", "nanostream_services", *words)

    np.save(tmp_path / "gold.npy", np.zeros((8, 8), np.int16))
    (tmp_path / "gold.npy").chmod(0)
    code, _, err = powerless("segment", tmp_path / "gold.npy", "--out", tmp_path / "s")
    assert (code, err) == (1, "nanostream: gold.npy: cannot be read (Permission denied)\n")
    shut = tmp_path / "shut"
    shut.mkdir(mode=0)
    code, _, err = powerless("segment", shut / "a.mrc", "--out", tmp_path / "s")
    assert code == 2
    assert f"{shut} cannot be listed (Permission denied); ask for the right to read it" in err
    code, _, err = powerless("config", "example", "gpu", "--out", shut / "a.toml")
    assert code == 2
    assert f"{shut}/a.toml: Permission denied; ask for the right, or choose another place" in err
    assert not (tmp_path / "s").exists()
