import numpy as np
import pytest

from models.evaluation.label_places import LETTER, LINE, WIDTHS, best_places

HEIGHT = 370


def boxes(names, places, width):
    """Left, bottom, right, top in pixels of every text."""
    found = []
    for ((x, y), text), place in zip(names, places, strict=True):
        wide = LETTER * len(text)
        left = x * width + place.right - {"left": 0, "center": wide / 2, "right": wide}[place.anchor]
        found.append((left, y * HEIGHT + place.up - LINE / 2, left + wide, y * HEIGHT + place.up + LINE / 2))
    return found


def is_crossed(box, line, width):
    start, end = (np.array(point) * (width, HEIGHT) for point in line)
    along = start + np.linspace(0, 1, 2000)[:, None] * (end - start)
    return bool(((along > box[:2]) & (along < box[2:])).all(axis=1).any())


@pytest.mark.parametrize("line", [((0, 0.45), (1, 0.45)), ((0, 0.55), (1, 0.55)), ((0.2, 0.6), (0.5, 0.5))])
def test_a_name_is_written_off_the_lines_near_it(line):
    names = [((0.5, 0.5), "merged")]
    places = best_places(names, [line], HEIGHT)
    assert not any(is_crossed(boxes(names, places, width)[0], line, width) for width in WIDTHS)


def test_names_of_points_that_meet_do_not():
    names = [((0.5, 0.5), "finetune"), ((0.5, 0.5), "replay"), ((0.51, 0.5), "replay + merge")]
    for width in WIDTHS:
        found = boxes(names, best_places(names, [], HEIGHT), width)
        for at, one in enumerate(found):
            assert all(one[2] <= b[0] or b[2] <= one[0] or one[3] <= b[1] or b[3] <= one[1] for b in found[:at])


@pytest.mark.parametrize("corner", [(0.02, 0.02), (0.98, 0.02), (0.02, 0.98), (0.98, 0.98)])
def test_names_stay_in_the_plot(corner):
    names = [(corner, "a name of some length")]
    for width in WIDTHS:
        left, bottom, right, top = boxes(names, best_places(names, [], HEIGHT), width)[0]
        assert left >= 0 and bottom >= 0 and right <= width and top <= HEIGHT
