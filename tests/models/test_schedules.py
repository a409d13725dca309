import pytest

from models.schedules import Constant, Cosine, CosineAutoregressive, Position

AT = (0, 4, 9, 10, 11, 25, 50, 75, 89, 90, 95, 98, 99)
REFERENCE = [  # executed values of the reference, S = 100, warm-up .1
    (Cosine(), 0, ".1 .5 1 .999696 .998783 .924100 .570017 .166269 .031124 .025447 .005861 .001304 .001"),
    (Cosine(), 5, ".1 .5 1 .999696 .998783 .924100 .570017 .166269 .031124 .025447 .005861 .001304 .001"),
    (CosineAutoregressive(), 0, ".1 .5 1 .999696 .998783 .924100 .570017 .166269 .031124 .025447 .005861 .001304 .001"),
    (
        CosineAutoregressive(),
        1,
        ".049178 .245891 .491783 .491633 .491185 .454495 .280543 .082192 .015799 .013010 .003388 .001149 .001",
    ),
    (
        CosineAutoregressive(),
        5,
        ".006647 .033237 .066475 .066455 .066395 .061500 .038293 .011832 .002974 .002602 .001319 .001020 .001",
    ),
    (
        Cosine(warmup=0),
        0,
        "1 .996061 .980167 .975553 .970470 .853700 .500500 .147300 .030530 .025447 .007150 .001986 .001246",
    ),
]


@pytest.mark.parametrize("schedule, step, values", REFERENCE)
def test_multipliers_equal_the_reference(schedule, step, values):
    expected = [float(value) for value in values.split()]
    assert [schedule.lr_scale(Position(n, 100, step)) for n in AT] == pytest.approx(expected, abs=1e-6)


def test_constant_stays():
    assert {Constant().lr_scale(Position(n, 10, 3)) for n in range(10)} == {1.0}


@pytest.mark.parametrize("schedule", [Cosine(), CosineAutoregressive()])
def test_a_single_iteration_has_a_finite_rate(schedule):
    assert 0 < schedule.lr_scale(Position(0, 1, 2)) <= 1
