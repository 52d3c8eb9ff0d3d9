"""The page of the experiment: docs/paper is what its results.json gives."""

import json
from pathlib import Path

import numpy as np

from nanostream.training.groschner2020.findings import judge, score
from nanostream.training.groschner2020.page import write_page

DOCS = Path(__file__).resolve().parents[4] / "docs" / "paper"


def test_the_page_in_the_repository_is_that_of_its_results(tmp_path):
    results = json.loads((DOCS / "results.json").read_text(encoding="utf-8"))
    counts = {
        (one["method"], one["tested_on"]): np.array(one["confusions"]) for one in results["scores"]
    }
    scores = {key: score(value) for key, value in counts.items()}
    write_page(tmp_path / "README.md", results, scores, judge(counts))
    page = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert page == (DOCS / "README.md").read_text(encoding="utf-8")
