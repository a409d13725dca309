import io

import pytest

from models.merging.drift_page import draw
from models.merging.geometry import Extent, Geometry


def extent(tower, layer, *norms):
    return Extent(tower=tower, layer=layer, values=4, origin_norm=1.0, norms=norms, cosines=((1.0, -0.5), (-0.5, 1.0)))


def drawn(*names):
    towers = tuple(extent(tower, "all", 1.0, 2.0) for tower in ("image", "text"))
    layers = (extent("image", "stem", 0.1, 0.2), extent("image", "head", 0.2, 0.1),
              extent("text", "stem", 0.1, 0.9), extent("text", "head", 0.5, 0.2))  # fmt: skip
    return draw(Geometry(whole=extent("all", "all", 2.0, 3.0), towers=towers, layers=layers), names)


@pytest.fixture
def figure():
    return drawn("first", "second")


def test_every_point_of_every_curve_is_inside_its_panel(figure):
    curves = [(axes, line) for part in figure.subfigs for axes in part.axes for line in axes.get_lines()]
    assert len(curves) == 4 + 3 + 3
    for axes, line in curves:
        (low, high), values = axes.get_ylim(), [value for value in line.get_ydata() if value == value]
        assert low <= min(values) and max(values) <= high


@pytest.mark.parametrize("name", ["a$x^$", "$\\foo$", "$", "of\\$many$characters$and$more"])
def test_a_dollar_in_a_name_begins_no_formula(name):
    image = io.StringIO()
    drawn(name, "second").savefig(image, format="svg")
    assert name[-1] in image.getvalue()
