"""Page of the paper's experiment: table, verdicts, figures, and how it was made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nanostream.training.groschner2020.findings import (
    AGREES_WITHIN,
    PUBLISHED,
    Finding,
    Published,
    Score,
    stands,
)

__all__ = ["score_table", "write_page"]


def score_table(scores: Mapping[tuple[str, str], Score]) -> list[str]:
    """Lines of the comparison: every method on every material, the paper's number beside ours."""
    lines = [
        "| method | tested on | accuracy: paper | here (95 %) | | Dice: paper | here (95 %) | |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (method, material), one in scores.items():
        paper = PUBLISHED.get((method, material), Published(None, None))
        cells = [method, material]
        for measure in ("accuracy", "dice"):
            known, ours = getattr(paper, measure), getattr(one, measure)
            low, high = getattr(one, f"{measure}_interval")
            cells += [
                "" if known is None else f"{known:.2f}",
                f"{ours:.3f} ({low:.3f} to {high:.3f})",
                stands(ours, known),
            ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _agreement(scores: Mapping[tuple[str, str], Score]) -> list[str]:
    """Lines with the paper's numbers that agree with ours, and those that are higher or lower."""
    by_stand: dict[str, list[str]] = {}
    for (method, material), published in PUBLISHED.items():
        for measure, name in (("accuracy", "pixel accuracy"), ("dice", "Dice")):
            known = getattr(published, measure)
            if known is not None:
                ours = getattr(scores[method, material], measure)
                how = stands(ours, known).split(" by ")[0]
                text = f"{method} on {material}, {name} ({ours:.2f}, paper {known:.2f})"
                by_stand.setdefault(how, []).append(text)
    names = {"agrees": "Agree", "higher": "Higher here", "lower": "Lower here"}
    return [
        f"- {title}, {len(by_stand[how])}: {'; '.join(by_stand[how])}."
        for how, title in names.items()
        if how in by_stand
    ]


def write_page(
    path: Path,
    results: Mapping[str, Any],
    scores: Mapping[tuple[str, str], Score],
    findings: Sequence[Finding],
) -> None:
    """Write the page (Markdown).

    Parameters
    ----------
    results
        As ``results.json`` has them.
    """
    lines = [
        *_INTRODUCTION,
        *_finding_lines(findings),
        *_number_lines(results, scores),
        *_PICTURES,
        *_recipe_lines(results),
        *_making_lines(results),
    ]
    path.write_text("\n".join(lines), encoding="utf-8")


_INTRODUCTION = (
    "# The paper's experiment, done again",
    "",
    "Written by `scripts/reproduce_paper.py`; all numbers, also as JSON, are in",
    "[results.json](results.json). Groschner, Choi and Scott,",
    "[arXiv 2001.05022](https://arxiv.org/abs/2001.05022), trained on real micrographs; here "
    "all are simulated",
    "(multislice, abTEM), so numbers can differ where the images do. What should agree are the "
    "findings.",
    "",
)

_PICTURES = (
    "![Pixel accuracy and Dice, the paper's and ours](bars.svg)",
    "",
    "![Micrographs, truth and masks](examples.png)",
    "",
    "The test image of each material on which the combined network's accuracy is the middle "
    "one; above each mask",
    "its accuracy.",
    "",
    "![Confusion matrices](confusions.svg)",
    "",
    "![Activation maps for Au](activations_Au.png)",
    "",
    "![Activation maps for CdSe](activations_CdSe.png)",
    "",
    "Activation maps of the combined network, the most varied ones of an early layer, of the "
    "first concatenation",
    "(both as in the paper's Figure 6) and of the last layer with maps.",
    "",
)


def _finding_lines(findings: Sequence[Finding]) -> list[str]:
    return [
        "## Findings",
        "",
        *(
            f"{number}. **{one.claim}** ({one.source}) **{one.verdict.capitalize()}.** "
            f"{one.evidence} *Rule: {one.rule}*"
            for number, one in enumerate(findings, start=1)
        ),
        "",
    ]


def _number_lines(results: Mapping[str, Any], scores: Mapping[tuple[str, str], Score]) -> list[str]:
    plan, shipped = results["plan"], results["shipped"]
    return [
        "## Numbers",
        "",
        f"Over all pixels of {plan['test']} test images of each material; in brackets the middle "
        "95 % of test sets drawn",
        'from these images with replacement. "Agrees" is a difference of at most '
        f"{AGREES_WITHIN:g}.",
        "",
        *score_table(scores),
        "",
        "Of the numbers that the paper gives:",
        "",
        *_agreement(scores),
        "",
        "The paper's Bragg numbers are of one image each, with thresholds tuned by hand for each; "
        "here the filter is",
        "automatic (`nanostream.training.groschner2020.bragg`), "
        f"its settings chosen on {plan['bragg_images']} "
        "of the combined network's training",
        'images, or, "own settings", on as many of the material\'s own.',
        "",
        "The shipped models ("
        + ", ".join(f"{name} {one['weights_sha256'][:12]}" for name, one in shipped.items())
        + ") were trained on other",
        "simulated micrographs, of many materials and conditions. Their set of faint particles was "
        "added because models",
        "before them had failed on the CdSe micrographs here.",
        "",
    ]


def _recipe_lines(results: Mapping[str, Any]) -> list[str]:
    plan, networks, fractions = (results[name] for name in ("plan", "networks", "particle_pixels"))
    return [
        "## The recipe",
        "",
        f"As in the paper: {plan['train']}/{plan['validation']}/{plan['test']} images of "
        f"{plan['size_px']} px, 3x3 median, int16, divided by",
        f"the data set's greatest count; rotation by any angle and mirroring only; "
        f"{plan['samples_per_epoch']:,} samples an epoch, at most",
        f"{plan['epochs']} epochs, batch {plan['batch']}, Adam at 1e-4, categorical cross entropy "
        "of two classes; stop after 2 epochs",
        "without 0.001; threshold with the best pixel accuracy on the training images. Particle "
        "pixels: "
        + ", ".join(f"{name} {part:.0%}" for name, part in fractions.items())
        + " (paper: Au 33 %, CdSe 12 %).",
        "",
        "Otherwise than in the paper, with reasons in",
        "[decisions/0010](../decisions/0010-the-paper-again.md): turned samples are cut to "
        f"{plan['crop_px']} px, and the batch",
        "normalisation's moments have a momentum of 0.9.",
        "",
        "| network | epochs | training loss | validation loss | threshold | minutes | "
        "core-minutes |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {name} | {one['epochs']}{' (stopped early)' if one['stopped_early'] else ''} | "
            f"{one['loss'][-1]:.3f} | {one['validation_loss'][-1]:.3f} | {one['threshold']:.3f} | "
            f"{one['wall_s'] / 60:.1f} | {one['cpu_s'] / 60:.1f} |"
            for name, one in networks.items()
        ),
        "",
        "![Losses](losses.svg)",
        "",
    ]


def _making_lines(results: Mapping[str, Any]) -> list[str]:
    plan, times = results["plan"], results["times"]
    minutes = {name: [spent[k] / 60 for k in ("wall_s", "cpu_s")] for name, spent in times.items()}
    total = np.sum(list(minutes.values()), axis=0)
    return [
        "## How it was made",
        "",
        f"`{results['command']}`, seed {plan['seed']}, commit {results['commit'][:12] or 'unknown'}"
        f", {results['date']}. "
        + ", ".join(f"{name} {number}" for name, number in results["versions"].items())
        + ".",
        "",
        f"{total[0]:.0f} minutes, {total[1]:.0f} core-minutes ("
        + "; ".join(f"{name} {cpu:.1f}" for name, (_, cpu) in minutes.items())
        + ").",
        "",
    ]
