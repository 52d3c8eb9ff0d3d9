"""Findings: scores and verdicts on counts of which the answer is known."""

import numpy as np
import pytest
from numpy.typing import NDArray

from nanostream.training.groschner2020 import findings
from nanostream.training.groschner2020.findings import BRAGG, MATERIALS


def counts(dice: float, *, images: int = 20, particle: float = 0.2) -> NDArray[np.int64]:
    """Confusions of masks that miss and invent equally much: Dice is the part that is found."""
    true = np.random.default_rng(0).integers(800, 1200, images) * particle * 100
    found = dice * true
    wrong = true - found
    total = true / particle
    columns = (total - true - wrong, wrong, wrong, found)
    return np.rint(np.stack(columns, axis=1)).astype(np.int64)


def experiment(**dices: float) -> dict[tuple[str, str], NDArray[np.int64]]:
    """The paper's outcome, changed where it is said: network_material=dice."""
    outcome = {
        "Au only Au": 0.8, "Au only CdSe": 0.2, "Au only Pd": 0.6,
        "CdSe only Au": 0.3, "CdSe only CdSe": 0.3, "CdSe only Pd": 0.3,
        "combined Au": 0.9, "combined CdSe": 0.6, "combined Pd": 0.85,
        f"{BRAGG} Au": 0.85, f"{BRAGG} CdSe": 0.2, f"{BRAGG} Pd": 0.8,
    }  # fmt: skip
    outcome |= {name.replace("_", " "): dice for name, dice in dices.items()}
    return {
        (method, material): counts(outcome[f"{method} {material}"])
        for method in ("Au only", "CdSe only", "combined", BRAGG)
        for material in MATERIALS
    }


def verdicts(**dices: float) -> list[str]:
    return [one.verdict for one in findings.judge(experiment(**dices))]


def test_confusions_are_counted_for_each_micrograph() -> None:
    truth = [np.array([[True, False]]), np.array([[True, True]])]
    masks = [np.array([[True, True]]), np.array([[False, True]])]

    assert findings.confusions(truth, masks).tolist() == [[0, 1, 0, 1], [0, 0, 1, 1]]


def test_a_score_is_of_all_pixels_together() -> None:
    one = findings.score(np.array([[8, 0, 0, 2], [80, 10, 10, 0]]))

    assert one.accuracy == pytest.approx(90 / 110)
    assert one.dice == pytest.approx(2 * 2 / (2 * 2 + 20))
    assert one.empty_accuracy == pytest.approx(98 / 110)
    assert one.rows[1] == pytest.approx((10 / 12, 2 / 12))


def test_the_interval_is_as_wide_as_the_micrographs_differ() -> None:
    even = findings.score(counts(0.8))
    uneven = findings.score(np.concatenate([counts(0.7, images=10), counts(0.9, images=10)]))

    assert even.dice_interval == pytest.approx((0.8, 0.8), abs=1e-3)
    # Of ten and ten, the mean of twenty draws of 0.7 or 0.9: deviation 0.1 / sqrt(20).
    assert np.diff(uneven.dice_interval) == pytest.approx(2 * 1.96 * 0.1 / np.sqrt(20), rel=0.2)


def test_the_papers_outcome_confirms_all_of_its_findings() -> None:
    assert verdicts() == ["confirmed"] * 4


def test_a_gold_network_that_segments_cdse_does_not_fail() -> None:
    assert verdicts(Au_only_CdSe=0.5)[0] == "not confirmed"


def test_a_combined_network_that_is_better_on_one_material_is_half_of_it() -> None:
    assert verdicts(combined_CdSe=0.3)[1] == "partly confirmed"


def test_equal_networks_are_no_gain() -> None:
    assert verdicts(combined_CdSe=0.3, combined_Au=0.8)[1] == "not confirmed"


def test_a_network_worse_than_an_empty_mask_on_pd_has_not_learnt_it() -> None:
    assert verdicts(combined_Pd=0.1)[2] == "not confirmed"


def test_bragg_better_on_cdse_is_partly_and_on_all_not() -> None:
    better = {f"{BRAGG} {material}".replace(" ", "_"): 0.95 for material in MATERIALS}

    assert verdicts(**{"Bragg_filter_CdSe": 0.9})[3] == "partly confirmed"
    assert verdicts(**(better | {"combined_CdSe": 0.3}))[3] == "not confirmed"


def test_evidence_has_the_numbers() -> None:
    said = [one.evidence for one in findings.judge(experiment())]

    assert "Dice 0.80 on Au, 0.20 on CdSe" in said[0]
    assert "CdSe Dice +0.300" in said[1]
    assert "Dice 0.85, on Au 0.90, on CdSe 0.60" in said[2]
    assert "CdSe +0.160" in said[3]  # 0.4 of the 20 % that are particle, missed and invented


@pytest.mark.parametrize(
    ("ours", "paper", "said"),
    [
        (0.9, None, ""),
        (0.9, 0.87, "agrees"),
        (0.92, 0.87, "agrees"),
        (0.8, 0.87, "lower by 0.07"),
        (0.5, 0.24, "higher by 0.26"),
    ],
)
def test_a_number_agrees_within_a_twentieth(ours: float, paper: float | None, said: str) -> None:
    assert findings.stands(ours, paper) == said
