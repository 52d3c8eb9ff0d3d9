"""Secret keys stay secret."""

import os

import pytest

from nanostream.errors import ConfigError
from nanostream.transport.keys import create_keys, load_keys, trust
from nanostream.transport.sockets import new_key_pair


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX")
def test_a_secret_key_is_its_owners_only(tmp_path):
    old = os.umask(0)
    try:
        create_keys(tmp_path / "keys", new_key_pair())
    finally:
        os.umask(old)
    secret = tmp_path / "keys" / "own.secret"
    assert secret.stat().st_mode & 0o777 == 0o600
    secret.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        load_keys(tmp_path / "keys")


def test_a_key_is_never_replaced(tmp_path):
    first = create_keys(tmp_path, new_key_pair())
    with pytest.raises(ConfigError, match="has a key already"):
        create_keys(tmp_path, new_key_pair())
    assert load_keys(tmp_path) == first


@pytest.mark.parametrize("name", ["", "../up", "own", "a b"])
def test_a_name_that_is_none_is_refused(tmp_path, name):
    create_keys(tmp_path, new_key_pair())
    with pytest.raises(ConfigError, match="name"):
        trust(tmp_path, name, tmp_path / "own.public")


def test_a_file_that_is_no_key_is_refused(tmp_path):
    (tmp_path / "own.public").write_text("-----BEGIN CERTIFICATE-----")
    with pytest.raises(ConfigError, match="no key"):
        trust(tmp_path, "other", tmp_path / "own.public")


def test_a_secret_key_is_not_taken_for_a_public_one(tmp_path):
    here, there = (create_keys(tmp_path / name, new_key_pair()) for name in ("here", "there"))
    copied = tmp_path / "own.public"
    copied.write_bytes((here.folder / "own.secret").read_bytes())
    for secret in (there.folder / "own.secret", copied):
        with pytest.raises(ConfigError, match="is a secret key"):
            trust(here.folder, "there", secret)
    assert not any((here.folder / "trusted").iterdir())


def test_one_damaged_key_does_not_shut_the_others_out(tmp_path, caplog):
    scope, gpu = (create_keys(tmp_path / name, new_key_pair()) for name in ("scope", "gpu"))
    trust(scope.folder, "gpu", gpu.folder / "own.public")
    (scope.folder / "trusted" / "torn.public").write_text("half a k")
    assert set(scope.trusted().values()) == {"own", "gpu"}
    assert "torn.public" in caplog.text


def test_a_machine_that_nobody_allowed_is_named_with_the_command(tmp_path):
    scope = create_keys(tmp_path, new_key_pair())
    with pytest.raises(ConfigError, match=r"no key of 'gpu' .* nanostream keys allow"):
        scope.of_server("gpu")


@pytest.mark.parametrize(
    ("use", "expected"),
    [
        (lambda folder: load_keys(folder / "absent"), "nanostream keys create"),
        (lambda folder: create_keys(folder / "file" / "keys", new_key_pair()), "cannot be written"),
        (lambda folder: trust(folder, "gpu", folder / "absent.public"), "cannot be read"),
    ],
    ids=["no keys", "no folder", "no public key"],
)
def test_a_file_that_cannot_be_used_is_named_with_what_to_do(tmp_path, use, expected):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=expected):
        use(tmp_path)
