"""A wrong configuration is named, with its key and its line, and all that is wrong with it."""

import json
import math
import tomllib
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import fields

from nanostream.analysis import cached_analyzer
from nanostream.config import (
    Config,
    Delivery,
    Feedback,
    Network,
    Sink,
    Stream,
    Watch,
    Worker,
    as_toml,
    check_config,
    load_config,
    matches,
    override,
)
from nanostream.config.diagnostics import key_lines
from nanostream.config.examples import find_example, list_examples
from nanostream.config.patterns import may_both_match
from nanostream.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]


def written(tmp_path, text):
    path = tmp_path / "microscope.toml"
    path.write_text(text, encoding="utf-8")
    return path


def said(tmp_path, text):
    """Remarks on a file, without the folder."""
    _, lines = check_config(written(tmp_path, text))
    return [line.replace(f"{tmp_path}/", "").replace(f"{tmp_path}\\", "") for line in lines]


def test_an_empty_file_is_the_defaults(tmp_path):
    assert load_config(written(tmp_path, "")) == Config()


def test_folders_are_relative_to_the_file(tmp_path):
    config = load_config(written(tmp_path, '[watch]\ndirectory = "data"\n[sink]\nsession = "s"'))
    assert config.watch.directory == str(tmp_path / "data")
    assert config.sink.session == str(tmp_path / "s")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\n[wacth]\n", "2: wacth: unknown; is watch meant?"),
        ("[delivery]\nslot = 2", "2: [delivery] slot: unknown; is slots meant?"),
        ("[delivery]\nmodel = 2", "2: [delivery] model: belongs to [worker]"),
        ("poll_s = 1", "1: poll_s: belongs to [watch]"),
        (
            "[delivery]\nslots = 0",
            "2: [delivery] slots: expected a whole number from 1 to 64, not 0",
        ),
        (
            '[delivery]\n# ten\n\nslots = "ten"',
            '4: [delivery] slots: expected a whole number from 1 to 64, not "ten"',
        ),
        (
            "[network]\nframes_port = 70000",
            "2: [network] frames_port: expected a whole number from 1 to 65535, not 70000",
        ),
        (
            "worker.threshold = 1.5",
            "1: [worker] threshold: expected a number above 0 and below 1, not 1.5",
        ),
        (
            '[watch]\nfile_events = "yes"',
            '2: [watch] file_events: expected one of "auto", "on", "off", not "yes"',
        ),
        (
            '[watch]\ninclude = [\n"*.mrc",\n3,\n]\npoll_s = 1',
            '2: [watch] include: expected a text in "quotes", not 3',
        ),
        ("watch = 3", "1: watch: expected a table of keys, not 3"),
        (
            '[[streams]]\npattern = "*"\n[[streams]]\nmemory_frames = 3',
            "3: [[streams]] pattern: is missing, and has no default",
        ),
        (
            '[[streams]]\npattern = "*"\n[[streams]]\npattern = "*"\nmax_step_px = -1',
            "5: [[streams]] max_step_px: expected a number from 0 to 65536, not -1",
        ),
        ("[watch]\n[delivery\n", "2: expected ']' at the end of a table declaration"),
        (
            '[watch]\ndirectory = "D:\\data"',
            "2: unescaped '\\' in a string; in a path write / for \\, or put it in 'single quotes'",
        ),
    ],
)
def test_a_wrong_key_is_named_with_its_line(tmp_path, text, expected):
    assert said(tmp_path, text) == [f"microscope.toml:{expected}"]


@pytest.mark.parametrize(
    ("text", "line", "expected"),
    [
        ("[network]\nkeys = ''\nhost = '10.0.0.4'", 3, "[network] host: 10.0.0.4 is reachable"),
        ("[network]\nresults_host = '10.0.0.4'", 2, "[network] results_host: 10.0.0.4 is"),
        ("[network]\nframes_server = 'camera-pc'", 2, "[network] frames_server: names a trusted"),
        (
            "[network]\nframes_port = 1000\n\nresults_port = 1000",
            4,
            "[network] results_port: frames_port and results_port are both 1000 on 127.0.0.1",
        ),
        (
            "[network]\nframes_port = 5773\nqueries_host = 'localhost'",
            2,
            "[network] frames_port: frames_port and queries_port are both 5773",
        ),
        (
            "[delivery]\nheartbeat_s = 10.0\nsilent_s = 12.0",
            3,
            "[delivery] silent_s: silent_s = 12 with heartbeat_s = 10",
        ),
        (
            "[watch]\ndirectory = 'd'\n[sink]\nsession = 'd/s'",
            4,
            "[sink] session:",
        ),
        ("[sink]\nsession = 's'\n[watch]\ndirectory = 's/d'", 4, "[watch] directory:"),
        ("[watch]\nledger = 'd/l.db'\ndirectory = 'd'", 3, "[watch] directory:"),
        ("[watch]\ninclude = []", 2, "[watch] include: takes no file"),
        (
            "[watch]\ninclude = ['*.mrc']\n[[streams]]\npattern = 'a/*.tif'",
            4,
            "[[streams]] pattern: 'a/*.tif' can match no file",
        ),
        ('[watch]\ndirectory = "D:\\today"', 2, "[watch] directory: "),
    ],
)
def test_an_impossible_combination_is_named_with_its_line(tmp_path, text, line, expected):
    (found,) = said(tmp_path, text)
    assert found.startswith(f"microscope.toml:{line}: {expected}")
    with pytest.raises(ConfigError, match=rf"microscope\.toml:{line}: \["):
        load_config(tmp_path / "microscope.toml")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "[watch]\ndirectory = 'd'\n[feedback]\ndirectory = 'd/back'",
            "microscope.toml:4: note: [feedback] directory: ",
        ),
        ("[delivery]\nresend_s = 20", "microscope.toml:2: note: [delivery] resend_s: "),
        (
            "[delivery]\norder = 'newest-first'\n[[streams]]\npattern = '*'",
            "microscope.toml:2: note: [delivery] order: ",
        ),
    ],
)
def test_what_is_odd_is_said_and_taken(tmp_path, text, expected):
    (found,) = said(tmp_path, text)
    assert found.startswith(expected)
    assert load_config(tmp_path / "microscope.toml") != Config()


def test_all_that_is_wrong_is_said_at_once_in_the_order_of_the_file(tmp_path):
    text = "[worker]\nbatch = 0\nmodle = 'x'\n[watch]\npoll_s = 'often'\n[[streams]]\n"
    keys = [line.split(": ")[:2] for line in said(tmp_path, text)]
    assert keys == [
        ["microscope.toml:2", "[worker] batch"],
        ["microscope.toml:3", "[worker] modle"],
        ["microscope.toml:5", "[watch] poll_s"],
        ["microscope.toml:6", "[[streams]] pattern"],
    ]


def test_a_text_that_is_not_utf_8_is_named_with_its_line(tmp_path):
    path = tmp_path / "microscope.toml"
    path.write_bytes(b"[watch]\r\n# \xb5m\r\n")
    with pytest.raises(ConfigError, match=r"microscope\.toml:2: a letter is not UTF-8"):
        load_config(path)


def test_notepads_mark_and_line_ends_are_taken(tmp_path):
    path = tmp_path / "microscope.toml"
    path.write_bytes(b"\xef\xbb\xbf[watch]\r\npoll_s = 2\r\nstart = 3\r\n")
    assert [line.split(": ")[0] for line in check_config(path)[1]] == [f"{path}:3"]
    path.write_bytes(b"\xef\xbb\xbf[watch]\r\npoll_s = 2\r\n")
    assert load_config(path).watch.poll_s == 2.0


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"absent\.toml cannot be read"):
        load_config(tmp_path / "absent.toml")


def test_what_a_session_wrote_down_is_checked_as_well(tmp_path):
    path = tmp_path / "config.json"
    path.write_bytes(msgspec.json.encode(Config()))
    assert load_config(path) == Config()
    path.write_text(json.dumps({"delivery": {"slots": 0}}))
    with pytest.raises(ConfigError, match=r"config\.json: \[delivery\] slots: expected"):
        load_config(path)


def test_an_override_names_its_key():
    with pytest.raises(ConfigError, match=r"^\[worker\] threshold: expected a number above 0 and"):
        override(Config(), worker={"threshold": 7})


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (
            lambda: Worker(threshold=5.0),
            "[worker] threshold: expected a number above 0 and below 1",
        ),
        (lambda: Worker(threshold=0), "[worker] threshold: expected a number above 0 and below 1"),
        (lambda: Worker(batch=0), "[worker] batch: expected a whole number of at least 1, not 0"),
        (lambda: Worker(tile_px=100), "[worker] tile_px: expected a whole number from 256 to 8192"),
        (
            lambda: Worker(precision="half"),
            '[worker] precision: expected one of "float32", "mixed"',
        ),
        (
            lambda: Worker(device="tpu"),
            '[worker] device: expected one of "auto", "cpu", "gpu", "gp',
        ),
        (lambda: Watch(include="*.mrc"), '[watch] include: expected a list [...], not "*.mrc"'),
        (
            lambda: Watch(pixel_size_nm=0.0),
            "[watch] pixel_size_nm: expected a number from 0.0001 to 1000, not 0",
        ),
        (
            lambda: Watch(pixel_size_nm=1e10),
            "[watch] pixel_size_nm: expected a number from 0.0001 to 1000, not 1",
        ),
        (
            lambda: Watch(poll_s=math.inf),
            "[watch] poll_s: expected a number above 0 and at most 604800, not Inf",
        ),
        (
            lambda: Delivery(retry_s=math.nan),
            "[delivery] retry_s: expected a number from 0 to 604800, not NaN",
        ),
        (
            lambda: Stream(pattern="*", max_step_px=math.inf),
            "[[streams]] max_step_px: expected a number from 0 to 65536, not Inf",
        ),
        (
            lambda: Config(worker={"threshold": 5}),
            "[worker] threshold: expected a number above 0 and below 1, not 5",
        ),
        (lambda: Config(worker={"tresh": 0.5}), "[worker] tresh: unknown; is threshold meant?"),
        (lambda: Network(results_port=0), "[network] results_port: expected a whole number from 1"),
        (lambda: Delivery(silent_s=2), "[delivery] silent_s: silent_s = 2 with heartbeat_s = 1"),
        (lambda: Feedback(rank_by="mass"), '[feedback] rank_by: expected one of "count", "area_fr'),
        (
            lambda: Stream(pattern="*", memory_frames=-1),
            "[[streams]] memory_frames: expected a whole",
        ),
        (lambda: Config(worker="default"), 'worker: expected a table of keys, not "default"'),
        (
            lambda: msgspec.structs.replace(Worker(), threshold=1.0),
            "[worker] threshold: expected a",
        ),
    ],
)
def test_a_value_made_in_python_is_checked_like_a_files(make, expected):
    with pytest.raises(ConfigError) as caught:
        make()
    assert str(caught.value).startswith(expected)


SECTIONS = [Watch, Network, Delivery, Worker, Sink, Feedback, Stream, Config]


@pytest.mark.parametrize(
    ("section", "key"), [(one, field.name) for one in SECTIONS for field in fields(one)]
)
def test_every_key_refuses_what_cannot_be_meant_and_names_itself(section, key):
    given = {"pattern": "*"} if section is Stream else {}
    with pytest.raises(ConfigError, match=rf"\b{key}: expected .*, not "):
        section(**given | {key: 3j})


def test_paths_and_numbers_of_numpy_become_what_a_file_would_say():
    assert Watch(directory=Path("data")).directory == "data"
    assert type(Worker(threshold=np.float32(0.5)).threshold) is float
    assert Watch(include=["*.mrc"]).include == ("*.mrc",)


def test_every_shipped_configuration_has_nothing_to_say():
    for path in (ROOT / "configs").glob("*.toml"):
        assert check_config(path)[1] == []


def test_the_line_of_every_key_of_the_long_configuration_is_its_own():
    text = (ROOT / "configs" / "microscope.toml").read_text(encoding="utf-8")
    lines = text.split("\n")
    found = key_lines(text)
    assert len(found) > 40
    for path, line in found.items():
        if len(path) == 2 and isinstance(path[1], str):
            assert lines[line - 1].startswith(f"{path[1]} = ")


names = st.sampled_from(["a", "b", "c"])
flat = st.dictionaries(
    names, st.sampled_from(["1", '"#"', "[\n1,\n2]", '"""\n[a]\n"""', "'x = 1'"])
)


@given(st.dictionaries(names, flat), st.sampled_from(["", "# a = 1\n", "\n\n"]))
def test_the_line_of_a_key_begins_with_it_however_long_the_values_are(tables, between):
    text = ""
    for table, keys in tables.items():
        text += f"[{table}]\n"
        for key, value in keys.items():
            text += f"{between}{key} = {value}\n"
    found = key_lines(text)
    for table, keys in tables.items():
        assert text.split("\n")[found[(table,)] - 1] == f"[{table}]"
        for key in keys:
            assert text.split("\n")[found[(table, key)] - 1].startswith(f"{key} = ")


def test_the_effective_configuration_loads_to_the_same(tmp_path):
    config = Config(
        watch=Watch(directory=str(tmp_path / "µ \\ 'a'"), include=("*.mrc", "*.tif"), poll_s=1e-7),
        network=Network(frames_port=1000),
        worker=Worker(threshold=0.7, device="gpu:1"),
        sink=Sink(session=str(tmp_path / "session")),
        feedback=Feedback(result_files=False),
        streams=(Stream(pattern="*"), Stream(pattern="*.mrc", memory_frames=9)),
    )
    text = as_toml(config)
    assert load_config(written(tmp_path, text)) == config
    changed = [line.split(" = ")[0] for line in text.splitlines() if "# default:" in line]
    assert changed == [
        *("directory", "include", "poll_s", "frames_port", "threshold", "device", "session"),
        *("result_files", "memory_frames"),
    ]


def test_the_effective_configuration_has_every_key():
    tree = tomllib.loads(as_toml(Config()))
    every = {
        f"{table}.{key}"
        for table, keys in msgspec.to_builtins(Config()).items()
        for key in (keys if isinstance(keys, dict) else ())
    }
    missing = every - {f"{table}.{key}" for table, keys in tree.items() for key in keys}
    assert missing == {
        *("watch.pixel_size_nm", "worker.threshold", "worker.min_area_px"),
        "worker.separation_rise",
    }
    assert "# threshold is not set" in as_toml(Config())


glob = st.text("ab/*?", min_size=1, max_size=6)
plain = st.text("ab/", min_size=1, max_size=5).filter(lambda path: not path.startswith("/"))


@given(glob, glob, plain)
def test_two_patterns_that_take_one_filemay_both_match(one, other, path):
    if matches(path, [one]) and matches(path, [other]):
        assert may_both_match(one, other)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("insitu/*.mrc", "*.mrc", True),
        ("insitu/*", "gold.mrc", True),
        ("movie*", "*.st", True),
        ("a[0-9].mrc", "*.mrc", True),
        ("*.tif", "*.mrc", False),
        ("*.mrc", "*.mrcs", False),
        ("gold.mrc", "silver.mrc", False),
    ],
)
def test_whether_two_patternsmay_both_match(one, other, expected):
    assert may_both_match(one, other) is expected


def test_a_threshold_of_zero_is_refused_in_a_notebook_and_not_taken_for_the_cards():
    with pytest.raises(ConfigError, match=r"threshold: expected .* not 0\.0"):
        cached_analyzer("default", 0.0)


def test_a_file_that_powershell_wrote_is_taken(tmp_path):
    path = tmp_path / "microscope.toml"
    path.write_bytes("[watch]\r\npoll_s = 2 # \xb5\r\n".encode("utf-16"))
    assert load_config(path).watch.poll_s == 2.0


def test_every_file_in_configs_is_an_example_with_a_summary():
    examples = {example.name: example for example in list_examples()}
    there = [path for path in (ROOT / "configs").rglob("*.*") if path.suffix != ".pyc"]
    assert sorted(examples) == sorted(path.name.removesuffix(".toml") for path in there)
    assert list(examples)[:4] == ["demo", "gpu", "insitu", "microscope"]
    assert all(len(example.summary.split()) > 3 for example in examples.values())


def test_an_example_that_is_mistyped_is_guessed():
    with pytest.raises(ConfigError, match=r"no example microscop; did you mean microscope?"):
        find_example("microscop")


def test_a_key_by_its_older_name_is_read_and_the_new_name_told(tmp_path):
    remark = "[watch] notices: is called file_events now; it is read all the same"
    assert said(tmp_path, '[watch]\nnotices = "off"') == [f"microscope.toml:2: note: {remark}"]
    assert load_config(tmp_path / "microscope.toml").watch.file_events == "off"
    (found,) = said(tmp_path, '[watch]\nfile_events = "on"\nnotices = "off"')
    assert "notices: unknown" in found
