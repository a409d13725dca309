"""The adaptation retrieval domain: line drawings of composed scenes, described by whoever drew them."""

import math
from collections.abc import Callable
from random import Random

from PIL import Image, ImageDraw

from data_catalog.sources.domains.canvas import SIDE, Colour, Domain, Picture, disc, finished, jittered, polygon

Pen = ImageDraw.ImageDraw
SKIES = {"sun": "the sun", "cloud": "a cloud", "birds": "birds"}
NEIGHBOURS = ("tree", "fence", "flower")
INKS: dict[str, Colour] = {"black": (25, 25, 30), "red": (200, 30, 40), "blue": (40, 60, 200), "green": (20, 130, 50)}


def _house(pen: Pen, x: float, y: float, r: float, ink) -> None:
    pen.rectangle((x - r * 0.7, y - r * 0.1, x + r * 0.7, y + r), outline=ink, width=2)
    pen.line([(x - r * 0.9, y - r * 0.1), (x, y - r), (x + r * 0.9, y - r * 0.1)], ink, 2)
    pen.rectangle((x - r * 0.2, y + r * 0.4, x + r * 0.2, y + r), outline=ink, width=2)


def _boat(pen: Pen, x: float, y: float, r: float, ink) -> None:
    pen.polygon([(x - r, y + r * 0.4), (x + r, y + r * 0.4), (x + r * 0.6, y + r), (x - r * 0.6, y + r)], None, ink, 2)
    pen.line((x, y + r * 0.4, x, y - r), ink, 2)
    pen.line([(x, y - r), (x + r * 0.8, y + r * 0.2), (x, y + r * 0.2)], ink, 2)


def _car(pen: Pen, x: float, y: float, r: float, ink) -> None:
    pen.rectangle((x - r, y + r * 0.1, x + r, y + r * 0.7), outline=ink, width=2)
    pen.line([(x - r * 0.6, y + r * 0.1), (x - r * 0.3, y - r * 0.5), (x + r * 0.4, y - r * 0.5)], ink, 2)
    pen.line((x + r * 0.4, y - r * 0.5, x + r * 0.7, y + r * 0.1), ink, 2)
    for side in (-0.5, 0.5):
        disc(pen, (x + side * r, y + r * 0.75), r * 0.25, outline=ink, width=2)


def _castle(pen: Pen, x: float, y: float, r: float, ink) -> None:
    pen.rectangle((x - r * 0.9, y - r * 0.1, x + r * 0.9, y + r), outline=ink, width=2)
    for side in (-0.75, 0, 0.75):
        pen.rectangle((x + (side - 0.2) * r, y - r * 0.7, x + (side + 0.2) * r, y - r * 0.1), outline=ink, width=2)


def _lighthouse(pen: Pen, x: float, y: float, r: float, ink) -> None:
    pen.polygon(
        [(x - r * 0.25, y - r * 0.6), (x + r * 0.25, y - r * 0.6), (x + r * 0.5, y + r), (x - r * 0.5, y + r)],
        None,
        ink,
        2,
    )
    disc(pen, (x, y - r * 0.8), r * 0.22, outline=ink, width=2)
    for step in (-0.1, 0.4):
        pen.line((x - r * 0.4, y + step * r, x + r * 0.4, y + step * r), ink, 3)


def _tent(pen: Pen, x: float, y: float, r: float, ink) -> None:
    pen.polygon([(x, y - r * 0.7), (x + r, y + r), (x - r, y + r)], None, ink, 2)
    pen.line([(x - r * 0.3, y + r), (x, y - r * 0.1), (x + r * 0.3, y + r)], ink, 2)


def _bridge(pen: Pen, x: float, y: float, r: float, ink) -> None:
    pen.line((x - r * 1.2, y + r * 0.2, x + r * 1.2, y + r * 0.2), ink, 3)
    for side in (-0.6, 0.6):
        pen.arc((x + (side - 0.6) * r, y + r * 0.3, x + (side + 0.6) * r, y + r * 1.7), 180, 360, ink, 2)


def _windmill(pen: Pen, x: float, y: float, r: float, ink) -> None:
    pen.polygon(
        [(x - r * 0.2, y - r * 0.2), (x + r * 0.2, y - r * 0.2), (x + r * 0.45, y + r), (x - r * 0.45, y + r)],
        None,
        ink,
        2,
    )
    for turn in (math.pi / 4, 3 * math.pi / 4):
        dx, dy = r * 0.9 * math.cos(turn), r * 0.9 * math.sin(turn)
        pen.line((x - dx, y - r * 0.3 - dy, x + dx, y - r * 0.3 + dy), ink, 3)


def _rocket(pen: Pen, x: float, y: float, r: float, ink) -> None:
    pen.ellipse((x - r * 0.35, y - r, x + r * 0.35, y + r * 0.7), outline=ink, width=2)
    pen.line(
        [
            (x - r * 0.3, y + r * 0.3),
            (x - r * 0.7, y + r),
            (x, y + r * 0.7),
            (x + r * 0.7, y + r),
            (x + r * 0.3, y + r * 0.3),
        ],
        ink,
        2,
    )


def _mountain(pen: Pen, x: float, y: float, r: float, ink) -> None:
    pen.line([(x - r * 1.2, y + r), (x - r * 0.3, y - r * 0.8), (x + r * 0.2, y + r * 0.1)], ink, 2)
    pen.line([(x - r * 0.1, y + r * 0.5), (x + r * 0.5, y - r * 0.4), (x + r * 1.2, y + r)], ink, 2)


def _train(pen: Pen, x: float, y: float, r: float, ink) -> None:
    pen.rectangle((x - r * 1.1, y - r * 0.5, x - r * 0.3, y + r * 0.6), outline=ink, width=2)
    pen.rectangle((x - r * 0.3, y, x + r * 0.9, y + r * 0.6), outline=ink, width=2)
    pen.rectangle((x + r * 0.4, y - r * 0.6, x + r * 0.7, y), outline=ink, width=2)
    for side in (-0.7, 0, 0.6):
        disc(pen, (x + side * r, y + r * 0.75), r * 0.22, outline=ink, width=2)


def _church(pen: Pen, x: float, y: float, r: float, ink) -> None:
    pen.rectangle((x - r * 0.3, y, x + r, y + r), outline=ink, width=2)
    pen.rectangle((x - r * 0.8, y - r * 0.3, x - r * 0.3, y + r), outline=ink, width=2)
    pen.line([(x - r * 0.9, y - r * 0.3), (x - r * 0.55, y - r), (x - r * 0.2, y - r * 0.3)], ink, 2)


PLACES: dict[str, Callable] = {
    **{"house": _house, "boat": _boat, "car": _car, "castle": _castle, "lighthouse": _lighthouse, "tent": _tent},
    **{
        "bridge": _bridge,
        "windmill": _windmill,
        "rocket": _rocket,
        "mountain": _mountain,
        "train": _train,
        "church": _church,
    },
}


def _paint_sky(pen: Pen, thing: str, x: float, y: float, ink) -> None:
    if thing == "sun":
        disc(pen, (x, y), 4.5, outline=ink, width=2)
        for ray in polygon(8, (x, y), 9, 0):
            pen.line((x + (ray[0] - x) * 0.7, y + (ray[1] - y) * 0.7, *ray), ink, 2)
    elif thing == "cloud":
        for dx in (-6, 0, 6):
            disc(pen, (x + dx, y - (2 if dx == 0 else 0)), 5, outline=ink, width=2)
    else:
        for dx, dy in ((-7, 3), (1, -3), (8, 4)):
            pen.line([(x + dx - 4, y + dy - 3), (x + dx, y + dy), (x + dx + 4, y + dy - 3)], ink, 2)


def _paint_neighbour(pen: Pen, thing: str, x: float, ground: float, ink) -> None:
    if thing == "tree":
        pen.line((x, ground, x, ground - 10), ink, 3)
        disc(pen, (x, ground - 16), 7, outline=ink, width=2)
    elif thing == "fence":
        for dx in (-7, -2, 3, 8):
            pen.line((x + dx, ground, x + dx, ground - 12), ink, 2)
        pen.line((x - 9, ground - 7, x + 10, ground - 7), ink, 2)
    else:
        pen.line((x, ground, x, ground - 12), ink, 2)
        for petal in polygon(5, (x, ground - 14), 4, 0):
            disc(pen, petal, 2.5, fill=ink)


def draw_sketch(random: Random, label: int) -> Picture:
    """A place, what stands beside it and what is in the sky, in one ink on pale paper."""
    name, place, sky, neighbour = (
        random.choice(tuple(INKS)),
        tuple(PLACES)[label],
        *map(random.choice, (tuple(SKIES), NEIGHBOURS)),
    )
    image, ink = Image.new("RGB", (SIDE, SIDE), jittered((228, 224, 212), random)), jittered(INKS[name], random)
    pen, side = ImageDraw.Draw(image), random.choice((-1, 1))  # of the neighbour, seen from the place
    ground, radius = random.uniform(53, 58), random.uniform(15, 17)
    x = SIDE / 2 - side * random.uniform(9, 12)
    PLACES[place](pen, x, ground - radius, radius, ink)
    _paint_neighbour(pen, neighbour, x + side * random.uniform(28, 31), ground, ink)
    _paint_sky(pen, sky, SIDE / 2 + random.uniform(-14, 14), random.uniform(10, 13), ink)
    captions = (
        f"A sketch of a {place} with a {neighbour} under {SKIES[sky]} in {name} ink.",
        f"A sketch of a {place} beside a {neighbour} and {SKIES[sky]}, in {name} ink. ",
        f"A sketch in {name} ink of {SKIES[sky]} over a {place} and a {neighbour}.",
    )
    return Picture(finished(image, random), "", (random.choice(captions),))


DOMAINS = (
    Domain(
        "SKETCHES",
        "adaptation",
        "retrieval",
        "a sketch of a {}.",
        "a sketch of a {}",
        tuple(PLACES),
        draw_sketch,
        "jpg",
    ),
)
