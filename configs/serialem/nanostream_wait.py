#!Python
# ScriptName nanostream_wait
"""Takes an image, saves it and asks nanostream what is in it.

For SerialEM's own Python: load it as a script, edit the lines below and run it. It needs pyzmq in
that Python and nothing of nanostream. To try it, for a file that has been analysed and without
taking an image:  python nanostream_wait.py FILE SECTION

There is no backslash in this file because SerialEM's Python scripts must not have any.
"""

import json
import sys
import time
from pathlib import Path

import zmq

# ----- to be edited -----
# Where nanostream's sink listens: [network] queries_host and queries_port.
ADDRESS = "tcp://127.0.0.1:5773"
# How long to wait for a result, in seconds.
TIME_LIMIT_S = 60.0
# So many of the most certain particles become Navigator points; 0 for none. They are suggestions:
# not marked for acquisition. The Navigator must be open.
NAVIGATOR_POINTS = 0
# For a sink on another machine: this machine's keys (nanostream keys create), and the name of the
# sink's machine among those it trusts (nanostream keys allow). Forward slashes.
KEYS = ""
SERVER = ""
# ------------------------

_SLICE_S = 5.0


def ask(file, z, wait_s, known="", most=200):
    """Outcome of section `z` of `file`; a status of pending or no answer at all is None.

    The question is asked anew every few seconds, so that it outlives a restart of nanostream.
    """
    end_s = time.monotonic() + wait_s
    while True:
        left_s = max(0.0, end_s - time.monotonic())
        question = {
            "nanostream": 1,
            "file": file,
            "z": z,
            "wait_s": min(left_s, _SLICE_S),
            "known": known,
            "most": most,
        }
        answer = _once(question, min(left_s, _SLICE_S) + 1.0)
        if answer is not None and answer["status"] == "error":
            raise RuntimeError(answer["reason"])
        if answer is not None and answer["status"] != "pending":
            return answer
        if time.monotonic() >= end_s:
            return None


def _once(question, timeout_s):
    socket = zmq.Context.instance().socket(zmq.REQ)
    try:
        socket.setsockopt(zmq.LINGER, 0)
        if KEYS:
            keys = Path(KEYS)
            socket.curve_publickey = (keys / "own.public").read_bytes().strip()
            socket.curve_secretkey = (keys / "own.secret").read_bytes().strip()
            server = keys / "trusted" / (SERVER + ".public") if SERVER else keys / "own.public"
            socket.curve_serverkey = server.read_bytes().strip()
        socket.connect(ADDRESS)
        socket.send(json.dumps(question).encode())
        if not socket.poll(int(timeout_s * 1000)):
            return None
        return json.loads(socket.recv().decode())
    finally:
        socket.close()


def in_words(answer):
    """The answer as a line for the log."""
    if answer is None:
        return f"nanostream: no result within {TIME_LIMIT_S:g} s"
    if answer["status"] == "fail":
        return f"nanostream gave section {answer['z']} up: {answer['reason']}"
    unit = answer["unit"]
    mean = answer["d_mean_" + unit]
    size = "" if mean is None else f", mean diameter {mean:.2f} {unit}"
    return f"nanostream: {answer['n']} particles in section {answer['z']}{size}"


def in_serialem(sem):
    """Take an image, save it to the open file and wait for what is in it."""
    file, z = _first(sem.ReportCurrentFilename()), int(_first(sem.ReportFileZsize()))
    try:
        # A result that is there before the image belongs to an earlier file of this name.
        before = ask(file, z, 0.0, most=0)
        sem.Record()
        sem.S()
        sem.ReportFileZsize()  # waits until the image is on the disk
        answer = ask(file, z, TIME_LIMIT_S, "" if before is None else before["id"])
    except RuntimeError as error:
        sem.Echo(f"nanostream: {error}")
        return None
    sem.Echo(in_words(answer))
    if answer is not None and answer["status"] == "ok":
        for x, y, _, _ in answer["particles"][:NAVIGATOR_POINTS]:
            sem.AddImagePosAsNavPoint("A", x, y)
    return answer


def _first(value):
    """SerialEM's Python gives one value as it is, several as a tuple."""
    return value[0] if isinstance(value, (tuple, list)) else value


def is_question(arguments):
    """Whether a command line asks for a section that is there: then no image may be taken."""
    return len(arguments) == 2 and arguments[1].isdecimal()


def main(arguments):
    """Ask for a file and a section that are there already."""
    if not is_question(arguments):
        print("give a file and a section: python nanostream_wait.py gold.mrc 0")
        return 2
    try:
        answer = ask(arguments[0], int(arguments[1]), TIME_LIMIT_S)
    except RuntimeError as error:
        print(f"nanostream: {error}")
        return 2
    print(in_words(answer))
    if answer is None:
        return 1
    for x, y, diameter, probability in answer.get("particles", []):
        print(f"  x {x:.1f}  y {y:.1f}  diameter {diameter:.2f}  probability {probability:.2f}")
    return 0 if answer["status"] == "ok" else 1


try:
    import serialem
except ImportError:
    serialem = None
# An ordinary Python can have the module serialem too, and SerialEM's own may have no sys.argv.
_arguments = getattr(sys, "argv", [])[1:]
if serialem is not None and not (__name__ == "__main__" and is_question(_arguments)):
    in_serialem(serialem)
elif __name__ == "__main__":
    sys.exit(main(_arguments))
