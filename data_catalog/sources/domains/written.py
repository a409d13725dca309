"""Adaptation domains made of signs that people write: real handwritten digits, and flags."""

from functools import cache
from random import Random

import numpy as np
from PIL import Image

from data_catalog.sources.domains.canvas import (
    BACKGROUNDS,
    COLOURS,
    SIDE,
    SIZE,
    Colour,
    Domain,
    Picture,
    blank,
    disc,
    finished,
    jittered,
)

FLAG_COLOURS: dict[str, Colour] = {
    "red": (206, 17, 38),
    "white": (245, 245, 245),
    "blue": (0, 57, 166),
    "green": (0, 135, 70),
    "yellow": (252, 209, 22),
    "black": (10, 10, 10),
    "orange": (240, 130, 40),
}
# country: layout, then its colours from left to right or top to bottom; for "nordic" and "disc" the field comes first
FLAGS: dict[str, tuple[str, ...]] = {
    "france": ("vertical", "blue", "white", "red"),
    "italy": ("vertical", "green", "white", "red"),
    "ireland": ("vertical", "green", "white", "orange"),
    "belgium": ("vertical", "black", "yellow", "red"),
    "nigeria": ("vertical", "green", "white", "green"),
    "peru": ("vertical", "red", "white", "red"),
    "germany": ("horizontal", "black", "red", "yellow"),
    "netherlands": ("horizontal", "red", "white", "blue"),
    "hungary": ("horizontal", "red", "white", "green"),
    "austria": ("horizontal", "red", "white", "red"),
    "ukraine": ("horizontal", "blue", "yellow"),
    "poland": ("horizontal", "white", "red"),
    "sweden": ("nordic", "blue", "yellow"),
    "finland": ("nordic", "white", "blue"),
    "denmark": ("nordic", "red", "white"),
    "japan": ("disc", "white", "red"),
    "bangladesh": ("disc", "green", "red"),
    "switzerland": ("cross", "red", "white"),
    "jamaica": ("saltire", "green", "yellow", "black"),
    "czechia": ("wedge", "white", "red", "blue"),
}


@cache
def handwriting() -> tuple[np.ndarray, np.ndarray]:
    """The 1,797 handwritten digits that scikit-learn carries: uint8 [n, 8, 8], and the digit each one shows."""
    from sklearn.datasets import load_digits  # a second of imports that other domains do without

    digits = load_digits()
    return (digits.images * (255 / 16)).astype(np.uint8), digits.target


def draw_digit(random: Random, sample: int) -> Picture:
    """A real handwritten digit, enlarged, in chalk on a board; `sample` is its row, not its class."""
    side = random.randint(28, 31)
    mask = Image.fromarray(handwriting()[0][sample]).resize((side, side), Image.Resampling.BICUBIC)
    image = Image.new("RGB", (SIZE, SIZE), jittered(BACKGROUNDS["black"], random))
    corner = (random.randint(0, SIZE - side), random.randint(0, SIZE - side))
    image.paste(jittered(COLOURS["white"], random), (*corner, corner[0] + side, corner[1] + side), mask)
    return Picture(finished(image, random), random.choice(("in chalk", "on a black board", "in white on black")))


def draw_flag(random: Random, label: int) -> Picture:
    """A flag on a pole or flat, somewhere before the background."""
    image, pen, background = blank(random)
    width = random.randint(46, 56)
    height = width * random.uniform(0.62, 0.72)
    left, top = random.uniform(4, SIDE - width - 2), random.uniform(2, SIDE - height - 4)
    layout, *names = FLAGS[FLAG_NAMES[label]]
    paints = [jittered(FLAG_COLOURS[name], random, 14) for name in names]
    _paint_flag(pen, layout, paints, left, top, width, height)
    seen = f"before a {background} sky"
    if random.random() < 0.5:
        pen.line((left - 2, top - 1, left - 2, SIDE), (200, 200, 200), 3)
        seen = f"on a pole before a {background} sky"
    return Picture(finished(image, random), seen)


def _paint_flag(pen, layout: str, paints: list[Colour], left: float, top: float, width: float, height: float) -> None:
    box, middle = (left, top, left + width, top + height), (left + width / 2, top + height / 2)
    if layout == "vertical":
        for i, paint in enumerate(paints):
            pen.rectangle((left + width * i / len(paints), top, left + width * (i + 1) / len(paints), box[3]), paint)
    elif layout in ("horizontal", "wedge"):
        stripes = paints[:2] if layout == "wedge" else paints
        for i, paint in enumerate(stripes):
            pen.rectangle((left, top + height * i / len(stripes), box[2], top + height * (i + 1) / len(stripes)), paint)
    else:
        pen.rectangle(box, paints[0])
    if layout == "wedge":
        pen.polygon([(left, top), middle, (left, box[3])], fill=paints[2])
    elif layout == "disc":
        disc(pen, middle, height * 0.3, fill=paints[1])
    elif layout in ("nordic", "cross"):
        arm = 0.5 * height if layout == "nordic" else 0.3 * height
        x, thick = left + width * (0.36 if layout == "nordic" else 0.5), int(height / 5)
        ends = (left, box[2]) if layout == "nordic" else (x - arm, x + arm)
        pen.line((ends[0], middle[1], ends[1], middle[1]), paints[1], thick)
        pen.line((x, middle[1] - arm, x, middle[1] + arm), paints[1], thick)
    elif layout == "saltire":
        pen.polygon([(left, top), middle, (left, box[3])], fill=paints[2])
        pen.polygon([(box[2], top), middle, (box[2], box[3])], fill=paints[2])
        pen.line(box, paints[1], int(height / 6))
        pen.line((left, box[3], box[2], top), paints[1], int(height / 6))


FLAG_NAMES = tuple(FLAGS)
DOMAINS = (
    Domain(
        "DIGITS",
        "adaptation",
        "classification",
        "a handwritten digit {}.",
        "a handwritten digit {}",
        tuple("0123456789"),
        draw_digit,
        stock=handwriting,
    ),
    Domain(
        "FLAGS",
        "adaptation",
        "classification",
        "the flag of {}.",
        "the flag of {}",
        FLAG_NAMES,
        draw_flag,
        "jpg",
    ),
)
