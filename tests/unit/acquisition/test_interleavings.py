"""Any interleaving of a writer's steps with our looks: no section early, each once, all in the end.

The writers are the simulator's, the files are real, and looks (a scan, or file events of all files)
go through the functions that the agent uses, which may be killed between any two orders. Each image
is one of its own kind, so that pixels tell which save they are of.
"""

import itertools
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nanostream.acquisition import answers, frames
from nanostream.acquisition import orders as o
from nanostream.acquisition.ledger import Ledger
from nanostream.acquisition.mrc import fingerprint, read_header
from nanostream.acquisition.simulator import script
from nanostream.config import Watch, matches
from nanostream.errors import MicrographError, OverwrittenError
from tests.effort import examples
from tests.unit.acquisition.intake_driver import DiskFolder, Driver

INCLUDE = Watch().include
POLL_S = 1e-3
IMPOSSIBLE = {
    "tiff": {"torn-header", "reordered"},
    "idoc": {"torn-header", "reordered"},
    "gatan": {"reordered"},
}
#: Without an mdoc nothing tells a half overwritten section that was never read before.
UNDECIDABLE = {"overwrite": {"pause", "reordered"}}
KINDS = [
    *("single", "stack", "tilt", "dosesym", "montage"),
    *("gatan", "tiff", "idoc", "overwrite", "reuse"),
]


def images(count):
    rng = np.random.default_rng(0)
    return [rng.integers(1, 30_000, (12, 11), dtype=np.int16) for _ in range(count)]


def clock(second_s):
    """The local time of the writer, which passes only when it is asked for."""
    times = (datetime(2026, 11, 30) + n * timedelta(seconds=second_s) for n in itertools.count())
    return lambda: next(times)


class Microscope:
    """The writer: its images, and which of them is complete where."""

    def __init__(self, folder, kind, count, *, mdoc, faults, seed, second_s):
        self.folder, self.kind = folder, kind
        folder.mkdir()
        self.images = images(count)
        self.complete = {}  # (path, z, generation) -> image
        # Over a share the header may come before the data: a section is found, and not yet read.
        # Half a header may not say that it is of a frame stack.
        self.exact = "reordered" not in faults and not (kind == "gatan" and faults)
        self._asked = -1
        self._steps = script(
            kind,
            self._each(),
            folder,
            mdoc=mdoc,
            faults=faults,
            seed=seed,
            clock=clock(second_s),
        )

    def _each(self):
        for pixels in self.images:
            self._asked += 1
            yield pixels

    def step(self):
        step = next(self._steps, None)
        if step is None:
            return False
        for key in step.completed:
            if not wanted(key[0]):
                continue
            if self.kind == "dosesym":  # copies of its sections come in another order
                image = self.image_of(self.on_disk(*key[:2]))
            elif len(step.completed) > 1:  # frames, at the end of their exposure
                image = self._frames_from(step) + key[1]
            else:
                image = self._asked
            self.complete[key] = image
        return True

    def on_disk(self, path, z):
        data = (self.folder / path).read_bytes()
        start = 1024 + int.from_bytes(data[92:96], "little") + z * self.images[0].nbytes
        shape = self.images[0].shape
        return np.frombuffer(data, "<i2", self.images[0].size, start).reshape(shape)

    def _frames_from(self, step):
        return sum(path != step.completed[0][0] for path, _, _ in self.complete)

    def there(self):
        """Image by path and section, as the files are now."""
        newest = {}
        for path, _, generation in self.complete:
            newest[path] = max(newest.get(path, 0), generation)
        return {
            (path, z): image
            for (path, z, generation), image in sorted(self.complete.items())
            if generation == newest[path] or self.kind not in ("reuse", "dosesym")
        }

    def image_of(self, pixels):
        """Number of the image with these pixels, or None: torn, or not there yet."""
        return next((n for n, image in enumerate(self.images) if (image == pixels).all()), None)


class Agent(Driver):
    """The intake on real files with a real ledger, and the reading of what it releases."""

    def __init__(self, folder, ledger):
        self.read = {}  # section -> pixels
        self.found = []
        super().__init__(
            DiskFolder(folder, Watch()), ledger, mdoc_wait_s=0.0, poll_s=POLL_S, now_s=1000.0
        )

    def perform(self):
        order = self.orders[0]
        super().perform()
        if isinstance(order, o.Remember):
            self.found += order.sections
            beyond_the_end(self.folder.root, order)

    def look(self):
        self.now_s += POLL_S
        self.turn()
        self.send()

    def hear(self):
        """File events come of everything."""
        names = [path.name for path in self.folder.root.iterdir()]
        self.feed(o.FilesChanged(frozenset(names)))
        self.run()
        self.send()

    def crash(self, after):
        """Be killed between two orders of a turn."""
        self.now_s += POLL_S
        self.feed(o.Tick())
        for _ in range(after):
            if self.orders:
                self.perform()
        self.kill()

    def send(self):
        self.run()
        for section, release in list(self.released.items()):
            known = self.intake.known_file(section.path)
            try:
                frame = answers.read_frame(self.folder.root, release, known)
            except OverwrittenError:
                del self.released[section]
                self.memory.quarantined(section, "written anew before it was read", attempts=0)
                continue
            except (MicrographError, OSError):
                self.released[section] = o.Release(section)
                continue  # again at the next look
            del self.released[section]
            assert section not in self.read, "handed out twice"
            self.read[section] = frame.pixels
            self.memory.read(section, fingerprint(frame.pixels))
            self.memory.stored(section)


def beyond_the_end(root, order):
    path = root / order.path
    if order.sections and not frames.is_tiff(path):
        header, _ = read_header(path, at_rest=True)
        last = header.data_offset + (max(s.z for s in order.sections) + 1) * header.section_bytes
        assert last <= path.stat().st_size, "handed out beyond the end of the file"


def wanted(name):
    """Whether the agent watches it: not what SerialEM moved aside to sort it."""
    return matches(name, INCLUDE) and not matches(name, ["*-unsorted.*"])


OPERATION = st.one_of(
    st.sampled_from(["look", "hear"]),
    st.integers(0, 12),  # orders until a crash
    st.sampled_from([0.1, 0.7, 1.5, 2.5, 40.0]),  # seconds pass
    st.sampled_from(["settle", "restart"]),
)


#: Operations in which a minute may pass.
LONG = (40.0, "settle")


def taken_as_it_is(kind, faults):
    """Whether a file that is half written, and lies still for a minute, passes for whole.

    Frames and overwritten sections of which no more comes, and a header without map string, stamp
    and labels, which some programs write.
    """
    return kind in ("gatan", "overwrite") or "torn-header" in faults


def settle(agent):
    """Looks after which a file that lies still is settled, whatever it waited for."""
    for pause_s in (2.5, 40.0, 70.0):
        agent.look()
        agent.now_s += pause_s
    agent.look()


@examples(50)
@given(
    kind=st.sampled_from(KINDS),
    count=st.integers(1, 7),
    mdoc=st.booleans(),
    faults=st.sets(st.sampled_from(["pause", "torn-header", "reordered"])),
    seed=st.integers(0, 9),
    second_s=st.sampled_from([0, 1]),  # files of one second have one title
    between=st.lists(st.lists(OPERATION, max_size=3), min_size=1, max_size=12),
)
def test_any_interleaving_gives_each_section_once_and_never_early(
    kind, count, mdoc, faults, seed, second_s, between
):
    mdoc = mdoc or kind == "tiff"  # a TIFF without a sidecar is left alone
    faults -= IMPOSSIBLE.get(kind, set()) | (set() if mdoc else UNDECIDABLE.get(kind, set()))
    with TemporaryDirectory() as name, Ledger(Path(name) / "ledger.db") as ledger:
        microscope = Microscope(
            Path(name) / "watched",
            kind,
            count,
            mdoc=mdoc,
            faults=faults,
            seed=seed,
            second_s=second_s,
        )
        agent = Agent(microscope.folder, ledger)
        for operations in itertools.cycle(between):
            if not microscope.step():
                break
            for operation in operations:
                if operation not in LONG or not taken_as_it_is(kind, faults):
                    do(agent, operation)
                    check(agent, microscope)
        settle(agent)
        agent.now_s += 1e6  # a TIFF whose sidecar came late is not looked at often
        agent.look()
        check(agent, microscope)
        assert not agent.released
        last = {}
        for section in sorted(agent.read, key=lambda section: section.generation):
            last[section.path, section.z] = microscope.image_of(agent.read[section])
        there = microscope.there()
        assert there.items() <= last.items()
        assert kind == "reuse" or there.keys() == last.keys()


def do(agent, operation):
    match operation:
        case float(seconds):
            agent.now_s += seconds
        case "look":
            agent.look()
        case "hear":
            agent.hear()
        case int(orders):
            agent.crash(orders)
        case "restart":
            agent.kill()
        case "settle":
            settle(agent)


def check(agent, microscope):
    """Check that each section was found complete, read as one whole image, and read once."""
    generations = {}
    for path, z, generation in microscope.complete:
        generations[path, z] = max(generations.get((path, z), 0), generation)
    for section in agent.found if microscope.exact else ():
        complete = generations.get((section.path, section.z), 0)
        assert section.generation <= complete, f"{section} was found before it was complete"
    complete = set(microscope.complete.values())
    # A section that is read for the first time may have been overwritten, but for the header.
    if microscope.kind == "overwrite" or not microscope.exact:
        complete = set(range(len(microscope.images)))
    seen = {section: microscope.image_of(pixels) for section, pixels in agent.read.items()}
    for section, image in seen.items():
        assert image in complete, f"{section} was read before it was complete"
    # A series that is sorted at its end comes again.
    series = microscope.kind == "dosesym"
    reads = [(image, section.generation if series else 0) for section, image in seen.items()]
    assert len(set(reads)) == len(reads)
