"""Orders for a process that go past the command line."""

from pathlib import Path

import pytest

from nanostream_services.cli import app
from nanostream_services.processes.roles import ROLES, Order

F = Path("F")


@pytest.mark.parametrize(
    ("arguments", "order"),
    [
        ("agent", Order("agent")),
        ("sink --config F", Order("sink", F)),
        ("worker --config F --with-parent", Order("worker", F, with_parent=True)),
        ("dashboard --plain --config F", Order("dashboard", F, plain=True)),
        ("agent --plain", None),
        ("agent --config", None),
        ("agent F", None),
        ("agent --help", None),
        ("--version", None),
        ("run F --out G", None),
        ("", None),
    ],
)
def test_only_a_plain_order_for_one_process_goes_past_the_command_line(arguments, order):
    assert Order.of(arguments.split()) == order


@pytest.mark.parametrize("role", ROLES)
def test_the_command_line_orders_the_same_as_goes_past_it(role, monkeypatch):
    orders = []
    monkeypatch.setattr("nanostream_services.commands.processes.serve", orders.append)
    arguments = [role, "--with-parent", "--config", "F"]
    app(arguments, standalone_mode=False)
    assert orders == [Order.of(arguments)]
