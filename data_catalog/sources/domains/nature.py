"""Adaptation domains of living things, composed from ellipses, strokes and triangles: fruit and animals."""

from random import Random

from PIL import ImageDraw

from data_catalog.sources.domains.canvas import SIDE, Colour, Domain, Picture, blank, finished, jittered

PAINTS: dict[str, Colour] = {
    "red": (210, 40, 45),
    "crimson": (150, 15, 40),
    "orange": (240, 140, 35),
    "yellow": (245, 220, 60),
    "green": (60, 160, 60),
    "lime": (150, 205, 60),
    "blue": (60, 90, 200),
    "purple": (120, 50, 150),
    "pink": (245, 165, 180),
    "brown": (120, 75, 40),
    "tan": (215, 180, 130),
    "white": (245, 245, 245),
    "black": (15, 15, 15),
}
# Parts in painting order, around a centre and in units of the radius of the whole: an ellipse is (x, y, half width,
# half height, paint), a stroke is (x, y, to x, to y, paint, width) and a triangle is (x, y, x, y, x, y, paint).
Part = tuple[float | str, ...]
FRUITS: dict[str, tuple[Part, ...]] = {
    "apple": ((0, 0.1, 0.85, 0.8, "red"), (0, -0.6, 0.2, -1, "brown", 0.15), (0.4, -0.8, 0.3, 0.15, "green")),
    "banana": (
        *((-0.9, -0.4, -0.5, 0.3, "yellow", 0.35), (-0.55, 0.25, 0.45, 0.4, "yellow", 0.45)),
        *((0.4, 0.4, 0.9, -0.2, "yellow", 0.35), (0.85, -0.1, 1, -0.4, "brown", 0.2)),
    ),
    "limes": ((-0.35, 0, 0.6, 0.5, "green"), (0.45, 0.2, 0.5, 0.5, "lime"), (0.45, 0.2, 0.1, 0.1, "white")),
    "grapes": (
        *((x, -0.3, 0.32, 0.32, "purple") for x in (-0.6, 0, 0.6)),
        *((x, 0.25, 0.32, 0.32, "purple") for x in (-0.3, 0.3)),
        *((0, 0.75, 0.32, 0.32, "purple"), (0, -0.6, 0.1, -1, "green", 0.2)),
    ),
    "tangerine": ((0, 0, 0.9, 0.85, "orange"), (0, -0.75, 0.35, 0.2, "green")),
    "blueberries": ((-0.45, 0.3, 0.5, 0.5, "blue"), (0.5, 0.3, 0.5, 0.5, "blue"), (0, -0.45, 0.5, 0.5, "blue")),
    "watermelon": (
        (0, 0, 1, 0.9, "green"),
        (0, 0, 0.75, 0.65, "red"),
        (-0.2, 0, 0.1, 0.1, "black"),
        (0.3, 0.2, 0.1, 0.1, "black"),
    ),
    "cherries": (
        *((-0.45, 0.5, 0, -0.8, "green", 0.15), (0.5, 0.5, 0, -0.8, "green", 0.15)),
        *((-0.45, 0.5, 0.4, 0.4, "crimson"), (0.5, 0.5, 0.4, 0.4, "crimson")),
    ),
    "lemon": ((0, 0, 0.8, 0.55, "yellow"), (-0.85, 0, 0.2, 0.15, "yellow"), (0.85, 0, 0.2, 0.15, "yellow")),
    "kiwi": ((0, 0, 0.9, 0.85, "brown"), (0, 0, 0.7, 0.65, "lime"), (0, 0, 0.25, 0.2, "white")),
    "strawberry": ((-0.8, -0.4, 0.8, -0.4, 0, 1, "red"), (0, -0.4, 0.8, 0.35, "red"), (0, -0.7, 0.6, 0.2, "green")),
    "coconut": ((0, 0, 0.9, 0.9, "brown"), (0, 0, 0.65, 0.65, "white"), (0, 0, 0.4, 0.4, "tan")),
}
ANIMALS: dict[str, tuple[Part, ...]] = {
    "goldfish": (
        (0.2, 0, 0.75, 0.5, "orange"),
        (-0.4, 0, -1, -0.5, -1, 0.5, "orange"),
        (0.6, -0.1, 0.12, 0.12, "black"),
    ),
    "ladybird": (
        *((0, -0.7, 0.4, 0.35, "black"), (0, 0.1, 0.85, 0.8, "red"), (0, -0.7, 0, 0.9, "black", 0.12)),
        *((x, y, 0.17, 0.17, "black") for x in (-0.4, 0.4) for y in (-0.2, 0.4)),
    ),
    "bee": (
        *((-0.2, -0.5, 0.35, 0.5, "white"), (0.35, -0.5, 0.35, 0.5, "white"), (0, 0.2, 0.95, 0.55, "yellow")),
        *((x, -0.3, x, 0.7, "black", 0.22) for x in (-0.4, 0.05, 0.5)),
    ),
    "frog": (
        *((0, 0.3, 0.95, 0.65, "green"), (-0.5, -0.4, 0.3, 0.3, "green"), (0.5, -0.4, 0.3, 0.3, "green")),
        *((-0.5, -0.4, 0.15, 0.15, "black"), (0.5, -0.4, 0.15, 0.15, "black"), (-0.5, 0.4, 0.5, 0.4, "black", 0.12)),
    ),
    "whale": (
        (0.1, 0.2, 0.9, 0.55, "blue"),
        (-0.6, 0.1, -1, -0.6, -0.5, -0.5, "blue"),
        (0.3, 0.55, 0.5, 0.18, "white"),
    ),
    "penguin": (
        *((0, 0.1, 0.6, 0.9, "black"), (0, 0.3, 0.38, 0.65, "white"), (-0.2, -0.5, 0.2, -0.5, 0, -0.2, "orange")),
        *((-0.3, 0.95, 0.25, 0.1, "orange"), (0.3, 0.95, 0.25, 0.1, "orange")),
    ),
    "pig": (
        *(
            (-0.8, -0.9, -0.2, -0.7, -0.7, -0.3, "pink"),
            (0.8, -0.9, 0.2, -0.7, 0.7, -0.3, "pink"),
            (0, 0, 0.85, 0.8, "pink"),
        ),
        *((0, 0.25, 0.4, 0.28, "red"), (-0.35, -0.25, 0.1, 0.1, "black"), (0.35, -0.25, 0.1, 0.1, "black")),
    ),
    "owl": (
        *((0, 0.1, 0.75, 0.9, "brown"), (-0.35, -0.3, 0.33, 0.33, "white"), (0.35, -0.3, 0.33, 0.33, "white")),
        *((-0.35, -0.3, 0.14, 0.14, "black"), (0.35, -0.3, 0.14, 0.14, "black"), (0, 0.5, 0.4, 0.4, "tan")),
    ),
    "caterpillar": (
        *((x / 3, 0.15 * (x % 2), 0.32, 0.36, "lime") for x in range(-3, 4)),
        (0.85, -0.15, 0.1, 0.1, "black"),
    ),
    "butterfly": (
        *((x, y, 0.42, 0.45, "purple") for x in (-0.5, 0.5) for y in (-0.45, 0.4)),
        *((x, -0.45, 0.2, 0.2, "yellow") for x in (-0.5, 0.5)),
        (0, -0.7, 0, 0.7, "black", 0.2),
    ),
    "crab": (
        *((side * 0.3, 0.1, side, y, "red", 0.14) for side in (-1, 1) for y in (0.4, 0.8)),
        *((0, 0.1, 0.65, 0.45, "red"), (-0.75, -0.5, 0.25, 0.3, "red"), (0.75, -0.5, 0.25, 0.3, "red")),
    ),
    "snail": (
        *((0, 0.7, 0.95, 0.25, "tan"), (0.75, 0.6, 0.9, -0.2, "tan", 0.2), (-0.15, 0, 0.65, 0.6, "brown")),
        *((-0.15, 0, 0.4, 0.36, "tan"), (-0.15, 0, 0.2, 0.18, "brown")),
    ),
}


def draw_fruit(random: Random, label: int) -> Picture:
    """Fruit on a table."""
    image, pen, background = blank(random)
    _paint_parts(pen, random, tuple(FRUITS.values())[label])
    return Picture(finished(image, random), f"on a {background} table")


def draw_animal(random: Random, label: int) -> Picture:
    """An animal that looks left or right."""
    image, pen, background = blank(random)
    _paint_parts(pen, random, tuple(ANIMALS.values())[label])
    return Picture(finished(image, random), f"against a {background} wall")


def _paint_parts(pen: ImageDraw.ImageDraw, random: Random, parts: tuple[Part, ...]) -> None:
    radius, flip = random.uniform(19, 27), random.choice((-1, 1))
    x, y = (random.uniform(radius + 1, SIDE - radius - 1) for _ in range(2))
    paints = {name: jittered(paint, random, 14) for name, paint in PAINTS.items()}

    def at(*numbers: float) -> list[tuple[float, float]]:
        return [(x + flip * radius * dx, y + radius * dy) for dx, dy in zip(numbers[::2], numbers[1::2], strict=True)]

    for part in parts:
        if len(part) == 5:  # an ellipse
            middle, half_width, half_height = at(*part[:2])[0], radius * part[2], radius * part[3]
            corners = (middle[0] - half_width, middle[1] - half_height, middle[0] + half_width, middle[1] + half_height)
            pen.ellipse(corners, fill=paints[part[4]])
        elif len(part) == 6:  # a stroke
            pen.line(at(*part[:4]), paints[part[4]], max(2, round(radius * part[5])))
        else:
            pen.polygon(at(*part[:6]), fill=paints[part[6]])


DOMAINS = (
    Domain(
        "FRUITS",
        "adaptation",
        "classification",
        "a photo of {}, a type of fruit.",
        "some {}",
        tuple(FRUITS),
        draw_fruit,
        packed=False,
    ),
    Domain(
        "ANIMALS",
        "adaptation",
        "classification",
        "a photo of a {}, a type of animal.",
        "a {}",
        tuple(ANIMALS),
        draw_animal,
        "jpg",
    ),
)
