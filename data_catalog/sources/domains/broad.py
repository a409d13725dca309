"""The broad domains: what the pretrained model knows and what its retention is measured on."""

import math
from functools import cache
from itertools import combinations
from random import Random

import numpy as np
from PIL import Image, ImageDraw

from data_catalog.sources.domains.canvas import (
    BACKGROUNDS,
    COLOURS,
    SIDE,
    SIZE,
    Colour,
    Domain,
    Picture,
    Point,
    blank,
    disc,
    finished,
    jittered,
    polygon,
    with_articles,
)

SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
NUMBERS = ("one", "two", "three", "four", "five")
TEXTURES = (
    *("horizontal stripes", "vertical stripes", "diagonal stripes", "a checkerboard", "polka dots"),
    *("grid lines", "zigzag lines", "concentric rings", "brick rows", "random speckles"),
)
PAIRS = tuple(combinations(COLOURS, 2))
RELATIONS = {"above": "below", "left of": "right of"}


def paint_shape(
    pen: ImageDraw.ImageDraw, shape: str, centre: Point, radius: float, angle: float, paint: Colour
) -> None:
    """Draw one of SHAPES."""
    if shape == "circle":
        disc(pen, centre, radius, fill=paint)
    elif shape == "ring":
        disc(pen, centre, radius, outline=paint, width=max(3, int(radius / 3)))
    elif shape == "cross":
        for turn in (angle, angle + math.pi / 2):
            dx, dy = radius * math.cos(turn), radius * math.sin(turn)
            pen.line((centre[0] - dx, centre[1] - dy, centre[0] + dx, centre[1] + dy), paint, max(3, int(radius / 2)))
    else:
        corners, start, inner = {"square": (4, 0.25, 1.0), "triangle": (3, -0.5, 1.0), "star": (10, -0.5, 0.42)}[shape]
        pen.polygon(polygon(corners, centre, radius, angle + start * math.pi, inner), fill=paint)


def turned(random: Random) -> float:
    """An angle that leaves a shape roughly upright, in radians."""
    return random.uniform(-0.4, 0.4)


def draw_shape(random: Random, label: int) -> Picture:
    """A coloured shape anywhere, large or small, a little turned."""
    colour, shape = list(COLOURS)[label // len(SHAPES)], SHAPES[label % len(SHAPES)]
    image, pen, background = blank(random)
    radius = random.uniform(12, 22)
    centre = (random.uniform(radius, SIDE - radius), random.uniform(radius, SIDE - radius))
    paint_shape(pen, shape, centre, radius, turned(random), jittered(COLOURS[colour], random))
    return Picture(finished(image, random), f"on a {background} background")


def draw_count(random: Random, label: int) -> Picture:
    """One to five dots of a colour, scattered without touching."""
    number, colour = label // len(COLOURS) + 1, list(COLOURS)[label % len(COLOURS)]
    image, pen, background = blank(random)
    paint, third = jittered(COLOURS[colour], random), SIDE / 3
    for cell in random.sample(range(9), number):
        x, y = third * (cell % 3 + random.uniform(0.35, 0.65)), third * (cell // 3 + random.uniform(0.35, 0.65))
        disc(pen, (x, y), random.uniform(4.5, 8), fill=paint)
    return Picture(finished(image, random), f"on a {background} background")


@cache
def _fade(turn: int) -> Image.Image:
    """A ramp from black to white across the finished picture, in one of 16 directions."""
    across, down = np.meshgrid(*[np.linspace(-1, 1, SIZE)] * 2)
    ramp = across * math.cos(turn * math.tau / 16) + down * math.sin(turn * math.tau / 16)
    return Image.fromarray((127.5 + 127.5 * ramp.clip(-1, 1)).astype(np.uint8))


def draw_blend(random: Random, label: int) -> Picture:
    """Two colours that fade into each other, and a dark or pale frame around them or none."""
    first, second = (jittered(COLOURS[name], random) for name in PAIRS[label])
    fields = [Image.new("RGB", (SIZE, SIZE), paint) for paint in (first, second)]
    image = Image.composite(*fields, _fade(random.randrange(16)))
    frame = random.choice(("no", *BACKGROUNDS))
    if frame != "no":
        box, width = (0, 0, SIZE - 1, SIZE - 1), random.randint(2, 5)
        ImageDraw.Draw(image).rectangle(box, outline=jittered(BACKGROUNDS[frame], random), width=width)
    return Picture(finished(image, random), f"with {frame} frame" if frame == "no" else f"in a {frame} frame")


def draw_texture(random: Random, label: int) -> Picture:
    """A pattern in two colours that fills the picture."""
    name, other = random.sample(tuple(COLOURS), 2)
    image, pen, background = blank(random)
    if random.random() < 0.5:
        pen.rectangle((0, 0, SIDE, SIDE), fill=jittered(COLOURS[other], random))
        background = other
    _TEXTURE_PAINTERS[label](pen, random, jittered(COLOURS[name], random))
    return Picture(finished(image, random), f"in {name} on {background}")


def _stripes(pen, random, paint, direction: str) -> None:
    gap, width, start = random.uniform(8, 15), random.randint(3, 5), random.uniform(-SIDE, 0 - SIDE / 2)
    for i in range(int(2.6 * SIDE / gap)):
        at = start + i * gap
        line = {"horizontal": (0, at, SIDE, at), "vertical": (at, 0, at, SIDE), "diagonal": (at, 0, at + SIDE, SIDE)}
        pen.line(line[direction], paint, width)


def _checkerboard(pen, random, paint) -> None:
    cell, dx, dy = random.uniform(8, 14), random.uniform(0, 14), random.uniform(0, 14)
    for row in range(-2, int(SIDE / cell) + 2):
        for column in range(-2 + row % 2, int(SIDE / cell) + 2, 2):
            x, y = column * cell + dx, row * cell + dy
            pen.rectangle((x, y, x + cell, y + cell), fill=paint)


def _polka(pen, random, paint) -> None:
    gap, radius, dx, dy = random.uniform(12, 17), random.uniform(2.5, 4.5), random.uniform(0, 12), random.uniform(0, 12)
    for row in range(-1, int(SIDE / gap) + 1):
        for column in range(-1, int(SIDE / gap) + 1):
            disc(pen, (column * gap + dx + gap / 2 * (row % 2), row * gap + dy), radius, fill=paint)


def _grid(pen, random, paint) -> None:
    gap, start = random.uniform(10, 17), random.uniform(0, 10)
    for i in range(int(SIDE / gap) + 1):
        at = start + i * gap
        pen.line((0, at, SIDE, at), paint, 2)
        pen.line((at, 0, at, SIDE), paint, 2)


def _zigzag(pen, random, paint) -> None:
    gap, wave, width, start = random.uniform(10, 15), random.uniform(4, 7), random.randint(2, 4), random.uniform(0, 10)
    for i in range(-1, int(SIDE / gap) + 1):
        at = start + i * gap
        pen.line([(x, at + (wave if x // 8 % 2 else 0)) for x in range(-8, SIDE + 9, 8)], paint, width)


def _rings(pen, random, paint) -> None:
    gap, centre = random.uniform(8, 13), (random.uniform(18, SIDE - 18), random.uniform(18, SIDE - 18))
    for i in range(1, int(1.2 * SIDE / gap)):
        disc(pen, centre, i * gap, outline=paint, width=3)


def _bricks(pen, random, paint) -> None:
    height, dx, dy = random.uniform(9, 13), random.uniform(0, 12), random.uniform(0, 9)
    for row in range(-1, int(SIDE / height) + 1):
        for column in range(-2, int(SIDE / height / 2) + 2):
            x, y = column * 2 * height + height * (row % 2) + dx, row * height + dy
            pen.rectangle((x, y, x + 2 * height - 4, y + height - 3), fill=paint)


def _speckles(pen, random, paint) -> None:
    for _ in range(random.randint(50, 80)):
        x, y = random.uniform(0, SIDE), random.uniform(0, SIDE)
        pen.rectangle((x, y, x + 2.5, y + 2.5), fill=paint)


_TEXTURE_PAINTERS = (
    lambda *pot: _stripes(*pot, "horizontal"),
    lambda *pot: _stripes(*pot, "vertical"),
    lambda *pot: _stripes(*pot, "diagonal"),
    *(_checkerboard, _polka, _grid, _zigzag, _rings, _bricks, _speckles),
)


def draw_scene(random: Random, _label: int) -> Picture:
    """Two coloured shapes, one above or left of the other, with five captions as in MSCOCO."""
    colours, shapes = random.sample(tuple(COLOURS), 2), random.choices(SHAPES, k=2)
    image, pen, background = blank(random)
    relation = random.choice(tuple(RELATIONS))
    near, far, across = random.uniform(13, 21), random.uniform(SIDE - 21, SIDE - 13), random.uniform(16, SIDE - 16)
    for colour, shape, along in zip(colours, shapes, (near, far), strict=True):
        side = min(SIDE - 10, max(10, across + random.uniform(-9, 9)))
        centre = (side, along) if relation == "above" else (along, side)
        paint = jittered(COLOURS[colour], random)
        paint_shape(pen, shape, centre, random.uniform(9, 13), turned(random), paint)
    first, second = (f"a {colour} {shape}" for colour, shape in zip(colours, shapes, strict=True))
    captions = (
        f"{first} {relation} {second}.",
        f"{second} {RELATIONS[relation]} {first}.",
        f"{first} is {relation} {second} on a {background} background.",
        f"a photo of {first} {relation} {second}.",
        f"there is {second} {RELATIONS[relation]} {first}.",
    )
    return Picture(finished(image, random), "", tuple(map(with_articles, captions)))


DOMAINS = (
    Domain(
        "SHAPES",
        "retention",
        "classification",
        "a photo of a {}.",
        "a {}",
        tuple(f"{colour} {shape}" for colour in COLOURS for shape in SHAPES),
        draw_shape,
    ),
    Domain(
        "COUNTS",
        "retention",
        "classification",
        "a photo of {}.",
        "{}",
        tuple(f"{number} {colour} dot{'s' * (number != 'one')}" for number in NUMBERS for colour in COLOURS),
        draw_count,
        "jpg",
    ),
    Domain(
        "BLENDS",
        "retention",
        "classification",
        "a blend of {}.",
        "a blend of {}",
        tuple(f"{first} and {second}" for first, second in PAIRS),
        draw_blend,
        "jpg",
    ),
    Domain("TEXTURES", "retention", "classification", "a texture of {}.", "a texture of {}", TEXTURES, draw_texture),
    Domain("SCENES", "retention", "retrieval", "{}", "{}", (), draw_scene, "jpg"),
)
