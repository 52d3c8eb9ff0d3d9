"""Progress of long work on the terminal, and how Ctrl-C ends it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import NoReturn, Self

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from nanostream_services.commands.printing import INTERRUPTED, print_error
from nanostream_services.processes.lifecycle import Stop, stopping

__all__ = ["TrainingProgress", "long_progress", "shown_progress"]

_SMOOTHING = 0.05  # of the loss that is shown


def long_progress() -> Progress:
    """A bar with numbers and the time that is left, on standard error."""
    return Progress(
        TextColumn("{task.description}", markup=False),  # names may have brackets
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )


@contextmanager
def shown_progress() -> Iterator[Callable[[int, int, str], None]]:
    """A bar on a terminal; give it what is done, how much there is, and what is in work.

    It begins with the first step: of a mistake there is the message, and nothing else.
    """
    bar = long_progress()
    task = bar.add_task("", total=None)

    def show(done: int, total: int, name: str) -> None:
        if bar.console.is_terminal and not bar.live.is_started:
            bar.start()
        bar.update(task, completed=done, total=total, description=name)

    try:
        yield show
    finally:
        if bar.live.is_started:
            bar.stop()


class TrainingProgress:
    """The progress of a training on the terminal.

    When it is told to stop, a step is finished first; reading and scoring would begin again, so
    Ctrl-C ends them at once.
    """

    def __init__(self, bar: Progress, total: int, after: str) -> None:
        self._bar = bar
        self._task = bar.add_task("reading", total=total)
        self._after = after
        self._training = ExitStack()
        self._stop: Stop | None = None
        self._loss: float | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._training.close()
        if kind is KeyboardInterrupt:
            self._end("stopped")

    def stage(self, name: str) -> None:
        """Show what is done now: reading, training, scoring."""
        self._bar.update(self._task, description=name)
        self._training.close()
        if self._stop is not None and self._stop.is_set():  # after the last step
            self._end("stopped")
        if name == "training":
            self._stop = self._training.enter_context(stopping())

    def step(self, done: int, loss: float) -> None:
        """Show the steps that are done, and the loss."""
        if self._loss is None and done > 1:
            self._bar.console.print(f"resuming after step {done - 1}", highlight=False)
        before = loss if self._loss is None else self._loss
        self._loss = before + _SMOOTHING * (loss - before)
        shown = f"training, loss {self._loss:.3f}"
        self._bar.update(self._task, completed=done, description=shown)
        if self._stop is not None and self._stop.is_set():
            self._end(f"stopped at step {done}")

    def _end(self, what: str) -> NoReturn:
        print_error(f"{what}; {self._after}")
        raise typer.Exit(INTERRUPTED)
