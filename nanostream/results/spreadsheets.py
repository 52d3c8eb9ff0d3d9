"""Tables that a spreadsheet opens without running what is in them."""

from __future__ import annotations

import pandas as pd

__all__ = ["harmless"]


def harmless(table: pd.DataFrame) -> pd.DataFrame:
    """The table; text that a spreadsheet would run as a formula has an apostrophe before it.

    File names and labels come from outside (OWASP, CSV injection).

    Examples
    --------
    >>> harmless(pd.DataFrame({"section": ["=1+1.mrc#0", "a=b.mrc#0"]}))["section"].tolist()
    ["'=1+1.mrc#0", 'a=b.mrc#0']
    """
    text = table.select_dtypes(exclude=["number", "bool"]).columns
    return table.assign(
        **{c: table[c].replace(r"^([=+\-@\t\r])", r"'\1", regex=True) for c in text}
    )
