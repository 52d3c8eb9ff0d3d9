"""Ports that are taken, and doors that do not open, said in words: real sockets."""

import threading
from contextlib import closing
from typing import Any

import pytest
from msgspec.structs import replace

from nanostream.errors import ConfigError
from nanostream.transport.keys import create_keys, trust
from nanostream.transport.sockets import (
    Publisher,
    Server,
    Waker,
    check_free,
    handshake,
    new_key_pair,
    wait,
)
from tests.factories import a_network
from tests.waiting import PATIENCE_S, until


def a_server(network):
    return Server(network, "results", largest_bytes=1000)


def test_a_port_that_is_taken_is_named_before_and_at_the_start():
    network = a_network()
    check_free(network)
    with closing(a_server(network)):
        for start in (check_free, a_server):
            with pytest.raises(ConfigError, match=r"results.*cannot be bound: .*\[network\]"):
                start(network)


def test_a_door_says_why_it_does_not_open(tmp_path):
    network = a_network()
    assert handshake(network, "results", timeout_s=0.2) == "nothing answers"
    with closing(a_server(network)):
        assert handshake(network, "results", timeout_s=PATIENCE_S) == ""

    network = a_network()  # ZeroMQ gives a port back some time after its socket was closed
    keys = {name: create_keys(tmp_path / name, new_key_pair()) for name in ("sink", "gpu", "other")}
    for here, there in (("sink", "gpu"), ("gpu", "sink"), ("other", "sink"), ("gpu", "other")):
        trust(keys[here].folder, there, keys[there].folder / "own.public")

    def with_keys(name, server="sink"):
        known: Any = {"keys": str(keys[name].folder), "results_server": server}
        return replace(network, **known)

    with closing(a_server(with_keys("sink", ""))) as server:

        def tried(name, server_name="sink"):
            """The door is answered beside, as a sink's loop does it."""
            found = []
            asking = threading.Thread(
                target=lambda: found.append(
                    handshake(with_keys(name, server_name), "results", timeout_s=3.0)
                )
            )
            asking.start()
            until(lambda: found, "the handshake", turn=lambda: wait([server], 0.01))
            asking.join()
            return found[0]

        assert tried("gpu") == ""
        assert "does not trust this machine's key" in tried("other")
        assert "does not prove" in tried("gpu", "other")


def test_more_wakes_than_fit_are_one():
    with closing(Waker()) as waker:
        for _ in range(10_000):
            waker.wake()
        assert wait([waker], PATIENCE_S) == [waker]


def test_a_publisher_without_listeners_waits_for_nobody():
    from nanostream.records import Snapshot

    with closing(Publisher(a_network())) as publisher:
        for number in range(1_000):
            publisher.send(Snapshot("s", float(number)))
