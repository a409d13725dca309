"""Drawing and wording shared by the domains of the synthetic source.

Everything is drawn at twice the final size and then halved: smooth edges at a fraction of the price of anti-aliasing.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Literal

import numpy as np
from PIL import Image, ImageChops, ImageDraw

from data_catalog.seeds import rng

SIZE = 32  # pixels of a finished picture
SIDE = 2 * SIZE  # pixels of the canvas it is drawn on

Colour = tuple[int, int, int]
Point = tuple[float, float]

COLOURS: dict[str, Colour] = {
    "red": (214, 45, 45),
    "green": (50, 165, 60),
    "blue": (45, 85, 215),
    "yellow": (240, 215, 50),
    "purple": (140, 50, 170),
    "orange": (240, 140, 35),
    "cyan": (70, 205, 215),
    "white": (240, 240, 240),
}
BACKGROUNDS: dict[str, Colour] = {
    "black": (18, 18, 22),
    "grey": (125, 125, 125),
    "brown": (110, 70, 40),
    "olive": (85, 95, 35),
}


@dataclass(frozen=True)
class Picture:
    """A finished drawing and what can be said about it besides its class."""

    image: Image.Image
    seen: str  # completes a sentence, e.g. "on a grey background"
    captions: tuple[str, ...] = ()  # captions that came with the picture; only retrieval domains have them


@dataclass(frozen=True)
class Domain:
    """One dataset of the family: its classes, its wording and the function that draws a picture of a class."""

    name: str
    role: Literal["adaptation", "retention"]
    kind: Literal["classification", "retrieval"]
    prompt_template: str  # as in the benchmark: one `{}` for the class name
    phrase: str  # the class inside a sentence, e.g. "the flag of {}"
    classes: tuple[str, ...]
    draw: Callable[[Random, int], Picture]  # (randomness of this picture, class number)
    suffix: Literal["png", "jpg"] = "png"
    packed: bool = True  # a tar, or a plain folder
    stock: Callable[[], tuple[np.ndarray, np.ndarray]] | None = (
        None  # real images and their class numbers, if not drawn
    )


def jittered(colour: Colour, random: Random, spread: int = 22) -> Colour:
    """The same colour under another light."""
    red, green, blue = (min(255, max(0, part + random.randint(-spread, spread))) for part in colour)
    return red, green, blue


def blank(random: Random) -> tuple[Image.Image, ImageDraw.ImageDraw, str]:
    """An empty canvas in a named background colour, its pen, and that name."""
    name = random.choice(tuple(BACKGROUNDS))
    image = Image.new("RGB", (SIDE, SIDE), jittered(BACKGROUNDS[name], random))
    return image, ImageDraw.Draw(image), name


def finished(image: Image.Image, random: Random) -> Image.Image:
    """Halve the canvas and add the grain of a camera."""
    small = image.reduce(2) if image.width == SIDE else image
    left, top = random.randrange(_GRAIN - SIZE), random.randrange(_GRAIN - SIZE)
    grain = _grain().crop((left, top, left + SIZE, top + SIZE))
    return ImageChops.add(small, grain, 1, -128)


def polygon(corners: int, centre: Point, radius: float, angle: float, inner: float = 1.0) -> list[Point]:
    """Corners of a regular polygon; with `inner` < 1 every second corner moves inwards, which makes a star."""
    turns = [angle + math.pi * 2 * i / corners for i in range(corners)]
    reach = [radius if i % 2 == 0 else radius * inner for i in range(corners)]
    return [(centre[0] + r * math.cos(t), centre[1] + r * math.sin(t)) for r, t in zip(reach, turns, strict=True)]


def disc(pen: ImageDraw.ImageDraw, centre: Point, radius: float, **paint) -> None:
    """A circle around `centre`; `paint` are the pen's own fill, outline and width."""
    pen.ellipse((centre[0] - radius, centre[1] - radius, centre[0] + radius, centre[1] + radius), **paint)


_PATTERNS = (
    "{phrase} {seen}.",
    "a photo of {phrase} {seen}.",
    "an image showing {phrase} {seen}.",
    "{phrase} can be seen {seen}.",
    "a small picture with {phrase}.",
    "this is {phrase}.",
    "{phrase}.",
)


def sentences(phrase: str, seen: str, random: Random, count: int) -> list[str]:
    """`count` different sentences that name the class and say what is visible."""
    patterns = random.sample(_PATTERNS, count)
    return [with_articles(pattern.format(phrase=phrase, seen=seen)) for pattern in patterns]


def with_articles(text: str) -> str:
    """`text` with "an" before vowels: names are put into sentences that say "a"."""
    return re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", text)


_GRAIN = 256


@cache
def _grain() -> Image.Image:
    """One sheet of grey noise around 128, from which every picture cuts its own piece."""
    noise = rng(0, "grain").normal(128, 9, (_GRAIN, _GRAIN, 3))
    return Image.fromarray(noise.clip(0, 255).astype(np.uint8))
