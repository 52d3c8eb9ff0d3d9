"""The page of a report, from its content, drawings and pictures."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from nanostream.results.report.charts import draw_series, draw_sizes, draw_stage
from nanostream.results.report.content import Content
from nanostream.results.spreadsheets import harmless

__all__ = ["Shown", "render"]

_TEMPLATE = Path(__file__).with_name("page.html.jinja")


class Shown(NamedTuple):
    """A picture of a section, and why it was chosen.

    Attributes
    ----------
    section : str
        Its name.
    caption : str
        Why it is shown, and its numbers.
    jpeg : bytes
        The picture; empty if there is none, the caption says why.
    """

    section: str
    caption: str
    jpeg: bytes


def render(content: Content, pictures: Sequence[Shown] = ()) -> str:
    """One HTML page with everything in it: no link leads outside, nothing is loaded.

    Parameters
    ----------
    content : Content
        Of `nanostream.results.report.content.collect`.
    pictures : sequence of Shown
        The gallery.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters["number"] = _number
    environment.filters["table"] = _table
    template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    whole = {str(name): value for name, value in content.statistics.iloc[0].items()}
    return template.render(
        content=content,
        whole=whole,
        drawings=_drawings(content, whole),
        pictures=[
            (one, base64.b64encode(one.jpeg).decode("ascii") if one.jpeg else "")
            for one in pictures
        ],
        series=_for_script(content.series),
    )


def _drawings(content: Content, whole: dict[str, Any]) -> dict[str, Markup]:
    sizes = draw_sizes(
        content.sizes,
        content.unit,
        median=whole["d50"],
        interval=(whole["d50_low"], whole["d50_high"]),
        geometric_mean=whole["geometric_mean"],
        gsd=whole["gsd"],
    )
    drawn = {
        "sizes": sizes,
        "series": draw_series(content.series, content.unit),
        "stage": draw_stage(content.series, content.unit),
    }
    return {name: Markup(svg) for name, svg in drawn.items()}


def _for_script(series: pd.DataFrame) -> Markup:
    """Rows of the series for the page's script, which saves them as CSV.

    Nothing in them can end the script, or is a formula to a spreadsheet.
    """
    table = harmless(series[["section", "time_s", "count", "median", "area_percent"]])
    rows = json.loads(table.to_json(orient="values", double_precision=4))
    return Markup(json.dumps(rows).replace("<", "\\u003c"))


def _number(value: Any) -> str:
    """A number in four digits, a dash for none; texts as they are."""
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, bool | str):
        return str(value)
    if isinstance(value, int | float):
        if math.isnan(value):
            return "–"
        if math.isinf(value):
            return "never"
        return f"{value:,.0f}" if abs(value) >= 1000 or value == round(value) else f"{value:.4g}"
    return str(value)


def _table(table: pd.DataFrame) -> dict[str, Any]:
    """Head and rows of a table for the template."""
    return {
        "head": [str(name).replace("_", " ") for name in table.columns],
        "rows": [[_number(value) for value in row] for row in table.itertuples(index=False)],
    }
