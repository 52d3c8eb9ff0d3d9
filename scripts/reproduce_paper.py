"""Do the paper's experiment again, on simulated micrographs: networks, Bragg filter, comparison.

    python scripts/reproduce_paper.py --work ~/nanostream-paper

See `nanostream.training.groschner2020.experiment`; table, figures, verdicts and ``results.json`` go
to ``docs/paper``. Finished scenes, networks and settings are skipped, so the command can be stopped
and started again.

The paper's text has 1,000 samples in an epoch, its published scripts 1,000 batches of 20; with a
GPU, ``--samples-per-epoch 20000`` is the latter.

``--quick`` runs the whole way on a few small images in a minute; its numbers mean nothing.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from nanostream.errors import NanostreamError
from nanostream.training.groschner2020.plans import ExperimentPlan
from nanostream.training.groschner2020.work import WorkFolder

DOCS = Path(__file__).parents[1] / "docs" / "paper"


class Bars:
    """A progress bar for each stage of the experiment."""

    def __init__(self, bars: Progress) -> None:
        self.bars = bars
        self.tasks: dict[str, TaskID] = {}

    def update(self, stage: str, done: int, total: int) -> None:
        """Show how much of a stage is done."""
        if stage not in self.tasks:
            self.tasks[stage] = self.bars.add_task(stage, total=total)
        self.bars.update(self.tasks[stage], completed=done)

    def note(self, line: str) -> None:
        """Print a line above the bars, with the time."""
        self.bars.console.print(f"{datetime.now(UTC):%H:%M:%S} {line}", highlight=False)


def commit() -> str:
    """Commit of this checkout, "" outside of one."""
    git = shutil.which("git")
    if git is None:
        return ""
    command = [git, "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def plan_of(arguments: argparse.Namespace) -> ExperimentPlan:
    """Plan of the paper's numbers, or of a few small images."""
    if arguments.quick:
        return ExperimentPlan.quick(arguments.seed)
    return ExperimentPlan.of_paper(
        arguments.seed,
        samples_per_epoch=arguments.samples_per_epoch,
        epochs=arguments.epochs,
    )


def command_of(arguments: argparse.Namespace) -> str:
    """The command for the page."""
    shown = {
        "seed": arguments.seed,
        "samples-per-epoch": arguments.samples_per_epoch,
        "epochs": arguments.epochs,
    }
    options = "".join(f" --{name} {value}" for name, value in shown.items() if value)
    quick = " --quick" if arguments.quick else ""
    return f"python scripts/{Path(__file__).name} --work WORK{options}{quick}"


def main() -> None:
    """Read the command line, run, and print table and verdicts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for scenes and networks")
    parser.add_argument("--seed", type=int, default=2026, help="of scenes, weights and samples")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--out", type=Path, default=DOCS, help="where figures and table go")
    parser.add_argument("--samples-per-epoch", type=int, default=0, help="default: the paper's")
    parser.add_argument("--epochs", type=int, default=0, help="at most; default: the paper's")
    parser.add_argument("--quick", action="store_true", help="a few small images, to try it out")
    arguments = parser.parse_args()
    work, plan = WorkFolder(arguments.work), plan_of(arguments)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    try:
        work.begin(plan)  # before the seconds that the imports take
        from nanostream.training.groschner2020.experiment import reproduce
        from nanostream.training.groschner2020.page import score_table

        with Progress(*columns, TimeRemainingColumn()) as bars:
            outcome = reproduce(
                work,
                plan,
                arguments.out,
                jobs=arguments.jobs,
                command=command_of(arguments),
                commit=commit(),
                progress=Bars(bars),
            )
    except NanostreamError as error:
        raise SystemExit(str(error)) from error
    print(*score_table(outcome.scores), "", sep="\n")
    for one in outcome.findings:
        print(f"{one.verdict}: {one.claim}\n  {one.evidence}")


if __name__ == "__main__":
    main()
