"""Where the names of points go in a figure: beside their points, off the lines, marks and other names."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

Point = tuple[float, float]  # shares of the width and the height of the plot, from its lower left corner

WIDTHS = (300, 620, 840)  # pixels of the plot, on a phone and on screens: a place must do for all
LETTER, LINE = 7, 16  # pixels that a letter is wide and a line of text high
NEAR, FAR = 12, 30  # pixels between a point and the text beside it; larger steps than FAR are not tried
APART = 3  # pixels between two of the places on a line that are looked at
OUTSIDE, OVER_NAME, OVER_LINE = 30.0, 20.0, 1.0  # what is worst to do with a letter's width of text


class Place(NamedTuple):
    """The text's side that is nearest to its point, and how far from it in pixels."""

    anchor: str  # left, center or right
    right: float
    up: float


def best_places(names: Sequence[tuple[Point, str]], lines: Sequence[Sequence[Point]], height: float) -> list[Place]:
    """A place for each (point, text), chosen one after the other, in a plot of `height` pixels with `lines` in it."""
    drawn = {width: _dots(lines, width, height) for width in WIDTHS}
    taken: dict[int, list[np.ndarray]] = {width: [] for width in WIDTHS}
    chosen = []
    for point, text in names:
        best = min(_candidates(), key=lambda place: sum(
            _cost(_box(point, text, place, width, height), drawn[width], taken[width], width, height)
            for width in WIDTHS
        ) + 0.3 * abs(place.up) / NEAR)  # fmt: skip
        chosen.append(best)
        for width in WIDTHS:
            taken[width].append(_box(point, text, best, width, height))
    return chosen


def _candidates() -> list[Place]:
    """Above and below first, each also flush with the point; then beside it."""
    rises = [up for far in (NEAR + LINE / 2 - 2, FAR) for up in (far, -far)]
    flush = (("center", 0), ("right", NEAR), ("left", -NEAR))
    sides = [("left", far) if far > 0 else ("right", far) for far in (NEAR, -NEAR, FAR, -FAR)]
    return [Place(anchor, right, up) for up in rises for anchor, right in flush] + [
        Place(anchor, right, up) for anchor, right in sides for up in (0, 9, -9)
    ]


def _box(point: Point, text: str, place: Place, width: float, height: float) -> np.ndarray:
    """Left, bottom, right, top in pixels of the text at `place`."""
    x, y, wide = point[0] * width + place.right, point[1] * height + place.up, LETTER * len(text)
    left = x - {"left": 0, "center": wide / 2, "right": wide}[place.anchor]
    return np.array([left, y - LINE / 2, left + wide, y + LINE / 2])


def _cost(box: np.ndarray, dots: np.ndarray, taken: list[np.ndarray], width: float, height: float) -> float:
    over = (dots >= box[:2]).all(axis=1) & (dots <= box[2:]).all(axis=1)
    out = np.maximum(0, [-box[0], -box[1], box[2] - width, box[3] - height]).sum()
    shared = sum(np.prod(np.maximum(0, np.minimum(box[2:], o[2:]) - np.maximum(box[:2], o[:2]))) for o in taken)
    return OVER_LINE * over.sum() * APART / LETTER + OUTSIDE * out / LETTER + OVER_NAME * shared / (LETTER * LINE)


def _dots(lines: Sequence[Sequence[Point]], width: float, height: float) -> np.ndarray:
    """Places along all lines, at most APART pixels from one to the next: [dots, 2]."""
    parts = [np.empty((0, 2))]
    for line in lines:
        corners = np.asarray(line, dtype=float) * (width, height)
        for start, end in pairwise(corners):
            count = 2 + int(np.linalg.norm(end - start) // APART)
            parts.append(start + np.linspace(0, 1, count)[:, None] * (end - start))
    return np.concatenate(parts)
