"""Only trusted machines come in: real sockets."""

import time

import pytest

from nanostream.config import Network
from nanostream.errors import ConfigError
from nanostream.transport import messages as m
from nanostream.transport.keys import create_keys, trust
from nanostream.transport.sockets import (
    Client,
    Publisher,
    Server,
    Subscriber,
    free_ports,
    new_key_pair,
    refusals,
    wait,
)
from tests.waiting import until

WORD = m.Pong("hello")


@pytest.fixture
def machines(tmp_path):
    """A microscope and a GPU box that trust each other, and a stranger."""
    folders = {name: tmp_path / name for name in ("scope", "gpu", "stranger")}
    for folder in folders.values():
        create_keys(folder, new_key_pair())
    for here, there in (("scope", "gpu"), ("gpu", "scope"), ("stranger", "scope")):
        trust(folders[here], there, folders[there] / "own.public")
    return folders


@pytest.fixture
def network():
    (port,) = free_ports(1)
    return Network(frames_port=port, results_port=port, snapshots_port=port)


def heard(network, server_keys, client_keys, *, waited_for=False):
    """Messages of a client at a server, and who was refused there.

    What nobody tells the server of is not heard within a second; for the rest `waited_for`.
    """
    from msgspec.structs import replace

    refusals()
    server = Server(replace(network, keys=str(server_keys)), "frames", largest_bytes=1000)
    options = {"keys": str(client_keys), "frames_server": "scope"} if client_keys else {}
    client = Client(replace(network, **options), "frames", name="c", largest_bytes=1000)
    client.send(WORD)
    messages, refused = [], []

    def turn():
        wait([server], 0.05)
        messages.extend(message for _, message in server.receive())
        refused.extend(refusals())

    end_s = time.monotonic() + 1.0
    until(
        lambda: messages or refused or (not waited_for and time.monotonic() > end_s),
        "the client",
        turn=turn,
    )
    client.close()
    server.close()
    return messages, refused


def test_a_trusted_machine_is_heard(network, machines):
    assert heard(network, machines["scope"], machines["gpu"], waited_for=True) == ([WORD], [])


def test_a_machine_without_a_key_is_not_heard(network, machines):
    assert heard(network, machines["scope"], None)[0] == []


def test_a_stranger_is_refused_and_it_is_said(network, machines):
    messages, refused = heard(network, machines["scope"], machines["stranger"], waited_for=True)
    assert messages == []
    assert any("unknown key" in text for text in refused)


def test_a_machine_whose_key_was_taken_away_is_refused(network, machines):
    (machines["scope"] / "trusted" / "gpu.public").unlink()
    messages, refused = heard(network, machines["scope"], machines["gpu"], waited_for=True)
    assert messages == []
    assert refused


def test_a_false_server_hears_nothing(network, machines):
    """The client sends only to who has the key of the server it means."""
    trust(machines["stranger"], "gpu", machines["gpu"] / "own.public")
    assert heard(network, machines["stranger"], machines["gpu"])[0] == []


def test_snapshots_need_a_key_too(network, machines):
    from msgspec.structs import replace

    from nanostream.records import Snapshot

    scope = replace(network, keys=str(machines["scope"]))
    publisher = Publisher(scope)
    options = {"gpu": {"keys": str(machines["gpu"]), "results_server": "scope"}, "none": {}}
    listeners = {name: Subscriber(replace(network, **o)) for name, o in options.items()}
    got = set()

    def turn():
        publisher.send(Snapshot("s", 1.0))
        wait(list(listeners.values()), 0.05)
        got.update(name for name, listener in listeners.items() if listener.receive())

    until(lambda: got, "a snapshot", turn=turn)
    for _ in range(10):  # more of them, which the other does not get either
        turn()
    publisher.close()
    for listener in listeners.values():
        listener.close()
    assert got == {"gpu"}


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "microscope.example"])
def test_beyond_loopback_nothing_starts_without_keys(host):
    network = Network(host=host)
    for start in (
        lambda: Server(network, "frames", largest_bytes=1000),
        lambda: Client(network, "results", name="c", largest_bytes=1000),
        lambda: Publisher(network),
        lambda: Subscriber(network),
    ):
        with pytest.raises(ConfigError, match="needs keys"):
            start()
