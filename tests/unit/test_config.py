"""A wrong configuration is named, with its key."""

import pytest

from nanostream.config import Config, load_config
from nanostream.errors import ConfigError


def written(tmp_path, text):
    path = tmp_path / "microscope.toml"
    path.write_text(text)
    return path


def test_an_empty_file_is_the_defaults(tmp_path):
    assert load_config(written(tmp_path, "")) == Config()


def test_folders_are_relative_to_the_file(tmp_path):
    config = load_config(written(tmp_path, '[watch]\ndirectory = "data"\n[sink]\nsession = "s"'))
    assert config.watch.directory == str(tmp_path / "data")
    assert config.sink.session == str(tmp_path / "s")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[wacth]\n", "wacth"),
        ("[delivery]\nslots = 0", r"\[delivery\] slots"),
        ('[delivery]\nslots = "many"', r"\[delivery\] slots"),
        ("[network]\nframes_port = 70000", r"\[network\] frames_port"),
        ("[worker]\nthreshold = 1.5", r"\[worker\] threshold"),
        ("[[streams]]\nmemory_frames = 3", r"\[streams\].*pattern"),
        ("[delivery\n", "microscope.toml"),
    ],
)
def test_a_wrong_key_is_named(tmp_path, text, named):
    with pytest.raises(ConfigError, match=named):
        load_config(written(tmp_path, text))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"absent\.toml cannot be read"):
        load_config(tmp_path / "absent.toml")
