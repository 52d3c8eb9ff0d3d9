"""How many examples a property is tried on: the same few at every run, ten times as many in CI.

A quick run is the same on every machine; what chance finds is looked for by the thorough one.
"""

from hypothesis import settings

USUAL = 100  # hypothesis' own number
settings.register_profile("quick", max_examples=USUAL // 2, deadline=None, derandomize=True)
settings.register_profile("thorough", max_examples=5 * USUAL, deadline=None)


def examples(count: int) -> settings:
    """Settings for `count` examples where hypothesis has 100: half of it, or five times as many.

    Half of it by itself, five times as many with ``--hypothesis-profile=thorough``.

    A busy machine is no reason to fail, so no example has a deadline.
    """
    return settings(max_examples=count * settings().max_examples // USUAL, deadline=None)
