"""How much of a text repeats itself."""

from __future__ import annotations

import pytest

from rewards.shaping.repetition import repeated_share


def test_the_repeated_share_is_that_of_n_grams_that_occurred_before():
    # ab ba ab bc: one of four is a repetition
    assert repeated_share(["a", "b", "a", "b", "c"], 2) == pytest.approx(0.25)
    assert repeated_share(["a", "b", "c", "d"], 2) == 0
    assert repeated_share(["a"], 2) == 0
