import math

import pytest

from models.merging.recency import shares_of


@pytest.mark.parametrize(
    ("scheme", "raw"),
    [
        ("uniform", [1, 1, 1]),
        ("linear", [1, 2, 3]),
        ("sqrt", [1, math.sqrt(2), math.sqrt(3)]),
        ("quadratic", [1, 4, 9]),
        ("cubic", [1, 8, 27]),
        ("fifth", [1, 32, 243]),
        ("tenth", [1, 1024, 59049]),
        ("exp", [1, 2, 4]),
        ("log", [math.log(2), math.log(3), math.log(4)]),
        ("reverse_exp", [4, 2, 1]),
        ("reverse_linear", [3, 2, 1]),
    ],
)
def test_shares_grow_with_the_age_as_the_scheme_says(scheme, raw):
    assert shares_of(scheme, 3) == pytest.approx([value / sum(raw) for value in raw])


@pytest.mark.parametrize("scheme", ["exp", "tenth", "reverse_exp"])
def test_shares_of_a_long_stream_are_finite(scheme):
    assert sum(shares_of(scheme, 2000)) == pytest.approx(1)
