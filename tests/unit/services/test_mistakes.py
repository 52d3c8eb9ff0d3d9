"""Mistakes that users make, and the one sentence that each gives: which option, value, file; what
to do. None may show the wording of a library, and nothing may be left behind."""

import re
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from nanostream_services.__main__ import main

#: Files that the commands are given.
TEXTS = {
    "file": "x",
    "bad.toml": "[worker\n",
    "control.toml": "a = \0\n",
    "type.toml": '[worker]\nbatch = "four"\nthreshold = 7\nmodle = "x"\n[nope]\na = 1\n',
    "twice.toml": "[worker]\nbatch = 1\nbatch = 2\n",
    "table.toml": "[worker]\n[watch]\n[worker]\n",
    "path.toml": '[watch]\ndirectory = "C:\\Users\\x"\n',
    "date.toml": "[worker]\nmodel = 2020-01-01\n",
    "nan.toml": "[watch]\npoll_s = nan\n",
    "list.toml": '[watch]\ninclude = "*.mrc"\n',
    "item.toml": "[watch]\ninclude = [1]\n",
    "stream.toml": "[[streams]]\n",
    "top.toml": "batch = 3\n",
    "worker.toml": "worker = 3\n",
    "words.toml": "the worker is fast\n",
    "open.toml": '[worker]\nmodel = "default\n',
    "array.toml": '[watch]\ninclude = ["*.mrc"\n',
    "empty.json": "",
    "list.json": "[1, 2]",
    "comma.json": '{"worker": {"batch": 4,}}',
    "weights.h5": "no HDF5",
    "foreign/x": "x",
    "broken/session.db": "not a database at all" * 100,
    "models/odd/card.json": "{",
    "Proben für Müller/notes.txt": "x",
}


class Mistake(NamedTuple):
    typed: str
    said: str


SEGMENT = [
    Mistake("segment --out s", "FILES is missing: files, folders, wildcards"),
    Mistake("segment data", "--out is missing: session folder; made if absent"),
    Mistake("segment data --out", "--out needs a value after it"),
    Mistake("segment data --out s --stream", "--stream needs a value after it"),
    Mistake("segment data -o s", "no option -o; is --out meant?"),
    Mistake("segment data --Out s", "no option --Out; is --out meant?"),
    Mistake("segment data --out s --pixelsize 3", "no option --pixelsize; is --pixel-size or"),
    Mistake("segment data --out s --threshold abc", "--threshold: expected a number, not abc"),
    Mistake("segment data --out s --threshold 1.5", "--threshold: 1.5 is not a probability above"),
    Mistake(
        "segment data --out s --pixel-size -1",
        "--pixel-size: give the pixel of an electron microscope, 0.0001 to 1000 nm, not -1",
    ),
    Mistake(
        "segment data --out s --pixel-size nan",
        "--pixel-size: give the pixel of an electron microscope, 0.0001 to 1000 nm, not nan",
    ),
    Mistake(
        "segment data --out s --pixel-size=inf",
        "--pixel-size: give the pixel of an electron microscope, 0.0001 to 1000 nm, not inf",
    ),
    Mistake("segment data --out s --pixel-size x", "--pixel-size: expected a number, not x"),
    Mistake("segment data --out s --force-pixel-size", "give the pixel size in nm with --pixel-s"),
    Mistake("segment data --out s --model nope", "no model 'nope'; there are: default, "),
    Mistake("segment data --out s --model ../x", "no model '../x'; there are: default, "),
    Mistake("segment data --out s --model odd", "card.json cannot be used: damaged; make or imp"),
    Mistake("segment data --out file", "is a file; give a folder for the session"),
    Mistake("segment data --out foreign", "has other things in it and no session; choose an e"),
    Mistake("segment data --out file/s", "file/s cannot be made: Not a directory; choose ano"),
    Mistake("segment data --out s --root foreign", "is not below --root foreign; give another"),
    Mistake("segment data --out s --like absent", "absent is no nanostream session: there is no"),
    Mistake("segment data --out s --like file", "file is no nanostream session: it is a file;"),
    Mistake("segment data --out s --like broken", "broken/session.db cannot be read: it is damag"),
    Mistake("segment data/*.tif --out s", "no file fits *.tif in data; there are 1 .mdoc and 1"),
    Mistake("segment absent.mrc --out s", "absent.mrc: no such file or folder; in the current"),
    Mistake("segment data/glod.npy --out s", "no such file or folder; is data/gold.npy meant?"),
    Mistake("segment foreign --out s", "foreign: no micrograph in it or below; there is 1 with"),
    Mistake("segment broken --out s", "broken is a session, and its micrographs are elsewhere"),
    Mistake("segment Proben* --out s", "Proben*: no micrograph (only what lies beside microgr"),
    Mistake("segment Probe\udcff.mrc --out s", r"Probe\udcff.mrc: no such file or folder;"),
]
CONFIGURATIONS = [
    Mistake("absent.toml", "absent.toml cannot be read: No such file or directory; give a file"),
    Mistake("data", "configuration data cannot be read: Is a directory; give a file that exists"),
    Mistake("bad.toml", "bad.toml:1: expected ']' at the end of a table declaration"),
    Mistake("control.toml", "control.toml:1: no value that TOML knows; a text stands in"),
    Mistake("latin.toml", "latin.toml:2: a letter is not UTF-8; save the file as UTF-8"),
    Mistake("type.toml", "type.toml:2: [worker] batch: expected a whole number of at least 1, not"),
    Mistake("type.toml", "type.toml:3: [worker] threshold: expected a number above 0 and below 1"),
    Mistake("type.toml", "type.toml:4: [worker] modle: unknown; is model meant?"),
    Mistake("type.toml", "type.toml:5: nope: unknown; known are watch, network"),
    Mistake("twice.toml", "twice.toml:3: this key is there already; leave one of them"),
    Mistake("table.toml", "table.toml:3: this table is there already; put its keys together"),
    Mistake("path.toml", r"path.toml:2: \U and \x begin a code in a text; in a path write / for"),
    Mistake("date.toml", 'date.toml:2: [worker] model: expected a text in "quotes", not'),
    Mistake("nan.toml", "nan.toml:2: [watch] poll_s: expected a number above 0 and"),
    Mistake("list.toml", "list.toml:2: [watch] include: expected a list [...], not"),
    Mistake("item.toml", 'item.toml:2: [watch] include: expected a text in "quotes", not 1'),
    Mistake("stream.toml", "stream.toml:1: [[streams]] pattern: is missing, and has no default"),
    Mistake("top.toml", "top.toml:1: batch: belongs to [worker]"),
    Mistake("worker.toml", "worker.toml:1: worker: expected a table of keys, not 3"),
    Mistake("words.toml", "words.toml:1: expected '=' after a key in a key/value pair"),
    Mistake("open.toml", "open.toml:2: illegal character '\\n'"),
    Mistake("array.toml", "array.toml:2: unclosed array"),
    Mistake("empty.json", "empty.json:1: from here on it is no JSON; mend it, or write TOML"),
    Mistake("list.json", "list.json: the file: expected a table of keys, not [1, 2]"),
    Mistake("comma.json", "comma.json:1: from here on it is no JSON"),
]
OTHERS = [
    Mistake("segmnt data", "no command segmnt; is segment meant?"),
    Mistake("nope", "no command nope; there are run, dashboard, segment"),
    Mistake("--nope", "no option --nope (nanostream -h explains it)"),
    Mistake("-V", "no option -V; is --version meant?"),
    Mistake("run absent --out s", "absent is not a folder; give the one SerialEM saves into"),
    Mistake("run data --out data/s", "--out data/s is inside data, and nothing is written there"),
    Mistake("run data more --out s", "more: more than it takes; put a name with blanks into quot"),
    Mistake("run data", "--out is missing: session folder; made if absent (nanostream run -h"),
    Mistake("run --out s", "FOLDER is missing: the folder SerialEM saves into"),
    Mistake("run data --out s --stop-when-idle -1", "--stop-when-idle: expected at least 0, not"),
    Mistake("agent --plain", "no option --plain (nanostream agent -h explains it)"),
    Mistake("verify", "SESSION is missing: session folder"),
    Mistake("verify foreign", "foreign is no nanostream session: it has no session.db; give the"),
    Mistake("verify broken", "broken/session.db cannot be read: it is damaged, or no file of"),
    Mistake("quarantine list absent", "absent is no nanostream session: there is no such folder"),
    Mistake("quarantine remove x", "no command remove; there are list, show, retry"),
    Mistake("export foreign", "--out is missing: folder for the files"),
    Mistake("export foreign --out t", "foreign is no nanostream session"),
    Mistake("config show --config data", "configuration data cannot be read: Is a directory;"),
    Mistake("config example nope", "no example nope; there are: demo, "),
    Mistake("config example gpu --out file", "--out file is there already, and stays; choose"),
    Mistake("config example gpu --out a/x.toml", "--out a/x.toml: No such file or directory; mak"),
    Mistake("keys create file", "keys cannot be written to file: Not a directory"),
    Mistake("keys list absent", "no key in absent; nanostream keys create absent makes one"),
    Mistake("keys allow data file --name x", "file is no key; give own.public of the other mach"),
    Mistake("keys allow data absent --name x", "key absent cannot be read: No such file or direct"),
    Mistake("models show nope", "no model 'nope'; there are: default, "),
    Mistake("models show odd", "models/odd/card.json cannot be used: damaged; make or import it"),
    Mistake("models import absent", "absent: no such file"),
    Mistake("models import data", "data has no card.json; give the folder of a model, or a file"),
    Mistake("models import weights.h5", "need --name and --normalization and --threshold, too"),
    Mistake(
        "models import weights.h5 --name x --normalization no --threshold 0.5",
        "--normalization: no is not one of image-max, image-minmax, dataset-max, standardize",
    ),
    Mistake(
        "models import weights.h5 --name x --normalization standardize --threshold 0.5",
        "weights.h5: cannot be read as Keras weights (no HDF5, or damaged); expected",
    ),
    Mistake("models remove default", "'default' came with nanostream and is not removed"),
    Mistake("evaluate absent", "absent: no such file or folder; in the current folder"),
    Mistake("evaluate data", "data: nothing to learn from, neither a micrograph with its label"),
    Mistake("evaluate data/*.tif", "no file fits *.tif in data; there are 1 .mdoc and 1 .npy"),
    Mistake("evaluate data --json data", "data is a folder; give the name of a file"),
    Mistake("evaluate data --figure x.jpg", "x.jpg: a figure is written as one of .svg .png"),
    Mistake("train data", "--name is missing: name of the model"),
    Mistake("train data --name default", "there is a model 'default' already"),
    Mistake("train data --name x --steps 0", "--steps: expected at least 1, not 0"),
    Mistake("train data --name x --steps 1.5", "--steps: expected a whole number, not 1.5"),
    Mistake("train data --name x --recipe no", "--recipe: no is not one of default, paper"),
    Mistake("train data --name x --holdout 2", "--holdout 2: a part of the files, below 1"),
    Mistake("simulate file", "file is a file; give a folder"),
    Mistake("simulate s absent.png", "absent.png: no such file or folder"),
    Mistake("simulate s --rate 0", "--rate: expected at least 0.001, not 0"),
    Mistake("simulate s --name a/b", "--name a/b: give the name of a file, without folder"),
    Mistake("simulate-training s", "--scenes is missing: scenes, of 4 micrographs each"),
    Mistake("simulate-training file --scenes 1 --seed 1", "file is a file; give a folder"),
    Mistake("simulate-training s --scenes 1 --seed 1 --materials Zz", "materials Zz cannot be"),
    Mistake("doctor --role nope", "--role: nope is not one of agent, worker, sink, all"),
    Mistake("demo --out foreign", "--out foreign is there already; give a new or an empty folder"),
]
MISTAKES = [
    *SEGMENT,
    *(Mistake(f"segment data --out s --config {file}", said) for file, said in CONFIGURATIONS),
    *OTHERS,
]

#: What pydantic, msgspec, tomllib, SQLite, HDF5, click and Python say.
FOREIGN = re.compile(
    r"Errno|Traceback|Input should|Value error|Usage:|╭|`|synchronously|file is not a database"
    r"|JSON is malformed|Expecting|truncated|Error:|subpath"
)


def slashed(text):
    """The same on every system."""
    return text.replace("\\", "/")


@pytest.fixture
def told(tmp_path, monkeypatch, capsys):
    """Type a command in a folder with such files; what is on the screen then."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NANOSTREAM_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("COLUMNS", "80")
    for name, text in TEXTS.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text, encoding="utf-8")
    Path("latin.toml").write_bytes('[watch]\ndirectory = "Proben_für"\n'.encode("latin-1"))
    Path("data").mkdir()
    np.save("data/gold.npy", np.zeros((8, 8), np.int16))
    Path("data/gold.npy.mdoc").touch()

    def tell(typed):
        monkeypatch.setattr(sys, "argv", ["nanostream", *typed.split()])
        with pytest.raises(SystemExit) as ended:
            main()
        shown = capsys.readouterr()
        return ended.value.code, shown.out, shown.err

    return tell


@pytest.mark.parametrize(
    "mistake", MISTAKES, ids=lambda one: f"{one.typed}".encode("ascii", "replace").decode()
)
def test_a_mistake_gives_a_sentence_that_says_what_to_do(told, tmp_path, mistake):
    if sys.platform == "win32" and "a directory" in mistake.said:
        pytest.skip("Windows says that with other words")
    code, out, err = told(mistake.typed)
    assert (code, out) == (2, "")
    assert err.startswith("nanostream: ")
    assert slashed(mistake.said) in slashed(err)
    assert not FOREIGN.search(err)
    assert not (tmp_path / "s").exists()


def test_a_group_alone_shows_its_commands(told):
    code, out, err = told("quarantine")
    assert code == 2
    assert "retry" in out + err
