"""Adaptation domains of things people design: charts and road signs."""

import math
from random import Random

from PIL import ImageDraw

from data_catalog.sources.domains.canvas import (
    COLOURS,
    SIDE,
    Colour,
    Domain,
    Picture,
    blank,
    disc,
    finished,
    jittered,
    polygon,
)

Pen = ImageDraw.ImageDraw

CHARTS = (
    *("bar chart", "line graph", "pie chart", "scatter plot", "area chart"),
    *("donut chart", "box plot", "candlestick chart", "heat map", "radar chart"),
)
SIGNS = (
    *("stop", "yield", "no entry", "speed limit", "roundabout", "priority road", "no parking", "roadworks"),
    *("railway crossing", "one way", "end of limits", "hospital"),
)
RED, WHITE, BLUE, BLACK, GOLD = (200, 25, 35), (245, 245, 245), (20, 70, 190), (20, 20, 20), (250, 200, 30)


def draw_chart(random: Random, label: int) -> Picture:
    """A small chart with random data and its axes."""
    image, pen, background = blank(random)
    name = random.choice(tuple(COLOURS))
    paint = jittered(COLOURS[name], random)
    left, top = random.randint(3, 9), random.randint(3, 9)
    right, bottom = random.randint(SIDE - 9, SIDE - 3), random.randint(SIDE - 9, SIDE - 3)
    if CHARTS[label] not in ("pie chart", "donut chart", "heat map", "radar chart"):
        pen.line([(left, top), (left, bottom), (right, bottom)], jittered((190, 190, 190), random), 2)
    _paint_chart(pen, random, CHARTS[label], paint, (left, top, right, bottom))
    return Picture(finished(image, random), f"in {name} on a {background} page")


def _paint_chart(pen: Pen, random: Random, chart: str, paint: Colour, box: tuple[int, int, int, int]) -> None:
    left, top, right, bottom = box
    width, height, middle = right - left, bottom - top, ((left + right) / 2, (top + bottom) / 2)
    radius = min(width, height) / 2
    if chart in ("line graph", "area chart"):
        points = [(left + width * i / 5, bottom - height * random.uniform(0.1, 1)) for i in range(6)]
        if chart == "area chart":
            pen.polygon([(left, bottom), *points, (right, bottom)], fill=paint)
        else:
            pen.line(points, paint, 3)
    elif chart == "scatter plot":
        for _ in range(random.randint(12, 22)):
            disc(pen, (random.uniform(left, right), random.uniform(top, bottom)), 2.2, fill=paint)
    elif chart in ("pie chart", "donut chart"):
        _paint_pie(pen, random, paint, middle, radius, hole=0.55 if chart == "donut chart" else 0)
    elif chart == "heat map":
        for cell in range(16):
            x, y = left + width * (cell % 4) / 4, top + height * (cell // 4) / 4
            shade = random.uniform(0.15, 1)
            pen.rectangle((x, y, x + width / 4, y + height / 4), fill=tuple(int(part * shade) for part in paint))
    elif chart == "radar chart":
        spokes = polygon(6, middle, radius, 0)
        pen.polygon([_toward(middle, spoke, random.uniform(0.3, 1)) for spoke in spokes], fill=paint)
        pen.polygon(spokes, outline=(190, 190, 190))
        for spoke in spokes:
            pen.line((middle, spoke), (190, 190, 190), 1)
    else:
        _paint_columns(pen, random, chart, paint, box)


def _toward(start: tuple[float, float], end: tuple[float, float], share: float) -> tuple[float, float]:
    return start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1])


def _paint_pie(
    pen: Pen, random: Random, paint: Colour, middle: tuple[float, float], radius: float, hole: float
) -> None:
    cuts = sorted(random.uniform(0, 360) for _ in range(3))
    box = (middle[0] - radius, middle[1] - radius, middle[0] + radius, middle[1] + radius)
    for start, end, shade in zip(cuts, [*cuts[1:], cuts[0] + 360], (1, 0.7, 0.4), strict=True):
        pen.pieslice(box, start, end, fill=tuple(int(part * shade) for part in paint))
    if hole:
        disc(pen, middle, radius * hole, fill=(125, 125, 125))


def _paint_columns(pen: Pen, random: Random, chart: str, paint: Colour, box: tuple[int, int, int, int]) -> None:
    """Bars stand on the axis; boxes have whiskers and a median; candles have a wick and two colours."""
    left, top, right, bottom = box
    count = {"bar chart": random.randint(4, 6), "box plot": random.randint(2, 3), "candlestick chart": 6}[chart]
    pitch = (right - left) / count
    for i in range(count):
        x = left + pitch * (i + 0.5)
        low, high = sorted(random.uniform(top + 8, bottom - 8) for _ in range(2))
        if chart == "bar chart":
            pen.rectangle((x - pitch * 0.3, low - 6, x + pitch * 0.3, bottom), fill=paint)
            continue
        half = pitch * 0.3
        pen.line((x, low - 7, x, high + 7), WHITE, 2)
        box_paint = paint if chart == "box plot" or random.random() < 0.5 else RED
        pen.rectangle((x - half, low - 2, x + half, high + 2), fill=box_paint)
        if chart == "box plot":
            pen.line((x - half, (low + high) / 2, x + half, (low + high) / 2), BLACK, 2)


def draw_sign(random: Random, label: int) -> Picture:
    """A road sign at the roadside."""
    image, pen, background = blank(random)
    radius = random.uniform(19, 25)
    x, y = random.uniform(radius + 2, SIDE - radius - 2), random.uniform(radius + 1, SIDE - radius - 8)
    pen.line((x, y, x, SIDE), jittered((150, 150, 150), random), 4)
    _paint_sign(pen, SIGNS[label], x, y, radius)
    return Picture(finished(image, random), f"before a {background} wall")


def _paint_sign(pen: Pen, sign: str, x: float, y: float, r: float) -> None:
    middle, up = (x, y), -math.pi / 2
    if sign == "stop":
        pen.polygon(polygon(8, middle, r, math.pi / 8), fill=RED)
        pen.line((x - r * 0.6, y, x + r * 0.6, y), WHITE, int(r * 0.4))
    elif sign in ("yield", "roadworks"):
        turn = -up if sign == "yield" else up
        pen.polygon(polygon(3, middle, r * 1.1, turn), fill=RED)
        pen.polygon(polygon(3, middle, r * 0.65, turn), fill=WHITE if sign == "yield" else GOLD)
        if sign == "roadworks":
            pen.line((x, y - r * 0.3, x, y + r * 0.3), BLACK, 4)
    elif sign == "priority road":
        pen.polygon(polygon(4, middle, r, 0), fill=WHITE)
        pen.polygon(polygon(4, middle, r * 0.7, 0), fill=GOLD)
    elif sign == "railway crossing":
        for slope in (-1, 1):
            pen.line((x - r, y - slope * r * 0.7, x + r, y + slope * r * 0.7), RED, int(r * 0.5))
            pen.line((x - r, y - slope * r * 0.7, x + r, y + slope * r * 0.7), WHITE, int(r * 0.25))
    elif sign in ("one way", "hospital"):
        pen.rectangle((x - r, y - r * 0.6, x + r, y + r * 0.6) if sign == "one way" else _square(x, y, r * 0.85), BLUE)
        _paint_arrow(pen, x, y, r) if sign == "one way" else _paint_letter_h(pen, x, y, r * 0.5)
    else:
        _paint_round_sign(pen, sign, x, y, r)


def _square(x: float, y: float, r: float) -> tuple[float, float, float, float]:
    return x - r, y - r, x + r, y + r


def _paint_arrow(pen: Pen, x: float, y: float, r: float) -> None:
    pen.line((x - r * 0.7, y, x + r * 0.2, y), WHITE, int(r * 0.3))
    pen.polygon([(x + r * 0.1, y - r * 0.45), (x + r * 0.75, y), (x + r * 0.1, y + r * 0.45)], fill=WHITE)


def _paint_letter_h(pen: Pen, x: float, y: float, r: float) -> None:
    for dx in (-r, r):
        pen.line((x + dx, y - r, x + dx, y + r), WHITE, 4)
    pen.line((x - r, y, x + r, y), WHITE, 4)


def _paint_round_sign(pen: Pen, sign: str, x: float, y: float, r: float) -> None:
    middle = (x, y)
    if sign == "no entry":
        disc(pen, middle, r, fill=RED)
        pen.rectangle((x - r * 0.65, y - r * 0.18, x + r * 0.65, y + r * 0.18), fill=WHITE)
    elif sign == "speed limit":
        disc(pen, middle, r, fill=RED)
        disc(pen, middle, r * 0.7, fill=WHITE)
        pen.line((x - r * 0.25, y - r * 0.35, x - r * 0.25, y + r * 0.35), BLACK, 3)
        disc(pen, (x + r * 0.2, y), r * 0.3, outline=BLACK, width=3)
    elif sign == "roundabout":
        disc(pen, middle, r, fill=BLUE)
        pen.arc(_square(x, y, r * 0.6), 20, 320, WHITE, 4)
        pen.polygon(polygon(3, (x + r * 0.55, y - r * 0.1), r * 0.3, -math.pi / 2), fill=WHITE)
    elif sign == "no parking":
        disc(pen, middle, r, fill=RED)
        disc(pen, middle, r * 0.75, fill=BLUE)
        pen.line((x - r * 0.6, y - r * 0.6, x + r * 0.6, y + r * 0.6), RED, int(r * 0.25))
    else:  # end of limits
        disc(pen, middle, r, fill=WHITE)
        for shift in (-0.2, 0.05, 0.3):
            pen.line((x - r * 0.5 + shift * r, y + r * 0.6, x + r * 0.4 + shift * r, y - r * 0.6), BLACK, 2)


DOMAINS = (
    Domain("CHARTS", "adaptation", "classification", "a picture of a {}.", "a {}", CHARTS, draw_chart),
    Domain("SIGNS", "adaptation", "classification", "a {} road sign.", "a {} road sign", SIGNS, draw_sign, "jpg"),
)
