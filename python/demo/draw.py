"""Draws the pictures that the demo model is trained on: flat, poster-like things and scenes.

A picture is a `Scene` (background, time of day, style and one to three `Thing`s); `render(scene, width, height)` gives an RGB
picture. Run it alone to see what training sees:  python python/demo/draw.py OUT.png
"""

import math
import random
import sys
from dataclasses import dataclass, field

from PIL import Image, ImageDraw

SUPERSAMPLE = 3
NATIVE, GRID = 128, 8
INK = (38, 36, 52)
CREAM = (252, 243, 224)

# One colour per name; the analyser of evaluate.py relies on these being well apart.
COLOURS = {
    "red": (222, 52, 48), "orange": (245, 138, 36), "yellow": (252, 208, 52), "green": (62, 160, 84),
    "teal": (30, 168, 172), "blue": (44, 100, 212), "purple": (124, 70, 176), "pink": (246, 136, 178),
    "brown": (134, 84, 54), "black": (34, 33, 42), "white": (252, 252, 250), "gray": (146, 150, 160),
}
# What lies behind when the caption names no background: pale papers.
PAPERS = [(252, 243, 224), (226, 240, 248), (253, 230, 218), (226, 244, 230), (236, 230, 248)]

SHAPES = ["circle", "square", "triangle", "star", "heart", "diamond", "hexagon"]
THINGS = ["house", "tree", "boat", "flower", "fish", "balloon", "cat", "car", "mushroom", "fox", "sun", "moon", "rocket"]
KINDS = SHAPES + THINGS
SCENES = ["sea", "snow", "meadow", "mountains", "desert", "clouds", "stars"]


@dataclass
class Thing:
    kind: str
    colour: str
    x: float  # centre, as a share of the width
    y: float  # centre, as a share of the height
    size: float  # extent, as a share of the native 128 pixels


@dataclass
class Scene:
    things: list = field(default_factory=list)
    ground: str = "plain"  # "plain" or one of SCENES
    paper: tuple = PAPERS[0]  # the colour of a plain background
    time: str = "day"  # day, night, sunset
    outlined: bool = False
    seed: float = 0  # places stars, flakes and clouds
    free: bool = False  # things may stand anywhere, off the grid too


def mix(a, b, share):
    return tuple(round(x + (y - x) * share) for x, y in zip(a, b))


def dark(c, share=0.3):
    return mix(c, INK, share)


def light(c, share=0.5):
    # White has no tint of its own: a cool gray keeps its parts apart.
    return mix(c, (255, 255, 255), share) if sum(c) < 730 else (214, 220, 230)


class Pen:
    """Draws in units of a thing: x to the right and y down, both from -1 to 1 around the thing's centre."""

    def __init__(self, image, cx, cy, half, outlined=False):
        self.d, self.cx, self.cy, self.half = ImageDraw.Draw(image), cx, cy, half
        self.width = max(3, round(half * 0.075)) if outlined else 0

    def _p(self, pts):
        return [(self.cx + x * self.half, self.cy + y * self.half) for x, y in pts]

    def poly(self, pts, colour, plain=False):
        p = self._p(pts)
        self.d.polygon(p, fill=colour)
        if self.width and not plain:
            self.d.line(p + p[:2], fill=INK, width=self.width, joint="curve")

    def oval(self, x, y, rx, ry, colour, plain=False):
        (x0, y0), (x1, y1) = self._p([(x - rx, y - ry), (x + rx, y + ry)])
        edge = self.width if not plain else 0
        self.d.ellipse((x0, y0, x1, y1), fill=colour, outline=INK if edge else None, width=edge)

    def box(self, x0, y0, x1, y1, colour, radius=0.0, plain=False):
        (a, b), (c, d) = self._p([(x0, y0), (x1, y1)])
        edge = self.width if not plain else 0
        self.d.rounded_rectangle((a, b, c, d), radius * self.half, fill=colour,
                                 outline=INK if edge else None, width=edge)

    def line(self, pts, colour, width):
        self.d.line(self._p(pts), fill=colour, width=max(2, round(width * self.half)), joint="curve")


def ring(n, r0, r1=None, turn=-90.0):
    """n corners around the centre; with r1 every other corner lies at r1 (a star)."""
    steps = n if r1 is None else 2 * n
    out = []
    for i in range(steps):
        a = math.radians(turn + 360 * i / steps)
        r = r0 if r1 is None or i % 2 == 0 else r1
        out.append((r * math.cos(a), r * math.sin(a)))
    return out


def circle(p, c):
    p.oval(0, 0, 0.96, 0.96, c)


def square(p, c):
    p.box(-0.86, -0.86, 0.86, 0.86, c)


def triangle(p, c):
    p.poly([(0, -0.92), (1, 0.84), (-1, 0.84)], c)


def star(p, c):
    p.poly([(x, y + 0.06) for x, y in ring(5, 1.05, 0.44)], c)


def heart(p, c):
    pts = []
    for i in range(60):
        t = 2 * math.pi * i / 60
        x = 16 * math.sin(t) ** 3
        y = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
        pts.append((x / 17, -(y + 2.5) / 16))
    p.poly(pts, c)


def diamond(p, c):
    p.poly([(0, -1), (0.68, 0), (0, 1), (-0.68, 0)], c)


def hexagon(p, c):
    p.poly(ring(6, 1.0, turn=0), c)


def house(p, c):
    p.box(0.38, -0.86, 0.6, -0.3, dark(c, 0.5))
    p.box(-0.74, -0.16, 0.74, 0.94, c)
    p.poly([(-0.98, -0.1), (0, -0.96), (0.98, -0.1)], dark(c, 0.38))
    p.box(-0.16, 0.36, 0.2, 0.94, CREAM if sum(c) < 700 else (196, 206, 220))
    for x in (-0.56, 0.36):
        p.box(x, 0.1, x + 0.24, 0.36, (255, 232, 150))


def tree(p, c):
    p.poly([(-0.15, 0.96), (-0.1, 0.1), (0.1, 0.1), (0.15, 0.96)], (122, 78, 50) if c != COLOURS["brown"] else (82, 52, 38))
    p.oval(-0.42, 0.0, 0.46, 0.44, c)
    p.oval(0.42, 0.0, 0.46, 0.44, c)
    p.oval(0, -0.4, 0.56, 0.56, c)
    p.oval(0, -0.1, 0.5, 0.42, c, plain=True)
    p.oval(-0.2, -0.52, 0.2, 0.17, light(c, 0.25), plain=True)


def boat(p, c):
    p.box(-0.05, -0.9, 0.04, 0.42, (110, 74, 52))
    p.poly([(0.1, -0.86), (0.82, 0.26), (0.1, 0.26)], light(c, 0.55))
    p.poly([(-0.12, -0.66), (-0.68, 0.26), (-0.12, 0.26)], light(c, 0.3))
    p.poly([(-0.98, 0.38), (0.98, 0.38), (0.62, 0.88), (-0.62, 0.88)], c)


def flower(p, c):
    p.box(-0.06, 0.0, 0.06, 0.98, (58, 138, 74))
    p.poly([(0, 0.82), (0.3, 0.5), (0.56, 0.5), (0.34, 0.76)], (58, 138, 74))
    p.poly([(0, 0.82), (-0.3, 0.5), (-0.56, 0.5), (-0.34, 0.76)], (58, 138, 74))
    for i in range(6):
        a = math.radians(60 * i + 30)
        p.oval(0.38 * math.cos(a), -0.34 + 0.38 * math.sin(a), 0.27, 0.27, c)
    p.oval(0, -0.34, 0.22, 0.22, (252, 208, 52) if c not in (COLOURS["yellow"], COLOURS["orange"]) else (134, 84, 54))


def fish(p, c):
    p.poly([(-0.4, 0), (-0.98, -0.5), (-0.84, 0), (-0.98, 0.5)], dark(c, 0.25))
    p.poly([(-0.3, -0.35), (0.05, -0.8), (0.4, -0.35)], dark(c, 0.25))
    p.oval(0.2, 0, 0.78, 0.52, c)
    p.poly([(0.0, 0.05), (-0.28, 0.3), (0.12, 0.3)], dark(c, 0.25), plain=True)
    p.oval(0.6, -0.12, 0.13, 0.13, (255, 255, 255), plain=True)
    p.oval(0.63, -0.12, 0.07, 0.07, INK, plain=True)


def balloon(p, c):
    string = [(0.07 * math.sin(i * 0.9), 0.42 + 0.058 * i) for i in range(10)]
    p.line(string, dark(c, 0.45) if sum(c) > 110 else (120, 120, 130), 0.05)
    p.poly([(-0.13, 0.5), (0, 0.34), (0.13, 0.5)], dark(c, 0.25))
    p.oval(0, -0.28, 0.62, 0.7, c)
    p.oval(-0.24, -0.52, 0.13, 0.2, light(c, 0.5), plain=True)


def cat(p, c):
    for s in (-1, 1):
        p.poly([(s * 0.84, -0.94), (s * 0.86, 0.0), (s * 0.16, -0.52)], c)
        p.poly([(s * 0.72, -0.68), (s * 0.72, -0.3), (s * 0.42, -0.5)], (246, 170, 176), plain=True)
    p.oval(0, 0.16, 0.9, 0.76, c)
    feature = INK if sum(c) > 200 else (250, 226, 120)
    for s in (-1, 1):
        p.oval(s * 0.36, 0.06, 0.13, 0.17, feature, plain=True)
        for dy in (-0.06, 0.1):
            p.line([(s * 0.4, 0.4 + dy / 2), (s * 0.84, 0.38 + dy * 2)], mix(feature, c, 0.35), 0.035)
    p.poly([(-0.1, 0.3), (0.1, 0.3), (0, 0.42)], (240, 120, 140), plain=True)


def car(p, c):
    p.poly([(-0.6, -0.08), (-0.4, -0.52), (0.34, -0.52), (0.62, -0.08)], c)
    p.poly([(-0.44, -0.08), (-0.31, -0.4), (-0.05, -0.4), (-0.05, -0.08)], (206, 232, 244), plain=True)
    p.poly([(0.05, -0.08), (0.05, -0.4), (0.27, -0.4), (0.46, -0.08)], (206, 232, 244), plain=True)
    p.box(-0.98, -0.1, 0.98, 0.42, c, radius=0.18)
    p.oval(0.86, 0.1, 0.1, 0.1, (255, 236, 150), plain=True)
    for x in (-0.52, 0.52):
        p.oval(x, 0.42, 0.25, 0.25, INK if sum(c) > 150 else (90, 92, 104))
        p.oval(x, 0.42, 0.1, 0.1, (220, 224, 230), plain=True)


def mushroom(p, c):
    p.box(-0.3, -0.1, 0.3, 0.94, (250, 232, 204), radius=0.2)
    half = [(0.96 * math.cos(math.radians(a)), 0.12 - 1.02 * math.sin(math.radians(a))) for a in range(0, 181, 6)]
    p.poly(half, c)
    spots = (255, 252, 244) if sum(c) < 700 else (190, 200, 214)
    for x, y, r in ((-0.42, -0.2, 0.16), (0.06, -0.54, 0.18), (0.48, -0.14, 0.15)):
        p.oval(x, y, r, r * 0.95, spots, plain=True)


def fox(p, c):
    tip = (255, 250, 240) if sum(c) < 700 else (200, 208, 222)
    tail = [(0.2, 0.9), (0.7, 0.92), (0.96, 0.6), (0.98, 0.1), (0.84, -0.24), (0.66, 0.1), (0.5, 0.46)]
    p.poly(tail, dark(c, 0.18))
    p.poly([(0.975, 0.14), (0.84, -0.24), (0.67, 0.08), (0.84, 0.02)], tip, plain=True)
    p.poly([(-0.5, 0.94), (-0.42, 0.2), (-0.1, -0.1), (0.26, 0.16), (0.44, 0.6), (0.46, 0.94)], c)
    p.poly([(-0.3, 0.1), (-0.02, 0.1), (-0.12, 0.62), (-0.26, 0.62)], tip, plain=True)
    for s in (-1, 1):
        p.poly([(-0.16 + s * 0.5, -0.98), (-0.16 + s * 0.52, -0.4), (-0.16 + s * 0.06, -0.62)], c)
        p.poly([(-0.16 + s * 0.42, -0.82), (-0.16 + s * 0.42, -0.62), (-0.16 + s * 0.26, -0.68)], dark(c, 0.6), plain=True)
    p.poly([(-0.74, -0.42), (-0.5, -0.66), (0.18, -0.66), (0.42, -0.42), (-0.16, 0.24)], c)
    p.poly([(-0.74, -0.42), (-0.34, -0.26), (-0.16, 0.0), (0.02, -0.26), (0.42, -0.42), (-0.16, 0.24)], tip, plain=True)
    p.oval(-0.16, 0.16, 0.09, 0.08, INK, plain=True)
    for s in (-1, 1):
        p.oval(-0.16 + s * 0.2, -0.34, 0.06, 0.08, INK if sum(c) > 150 else (250, 226, 120), plain=True)


def sun(p, c):
    for i in range(10):
        a = math.radians(36 * i)
        b, u = (math.cos(a), math.sin(a)), (-math.sin(a), math.cos(a))
        p.poly([(0.66 * b[0] + 0.14 * u[0], 0.66 * b[1] + 0.14 * u[1]), (b[0], b[1]),
                (0.66 * b[0] - 0.14 * u[0], 0.66 * b[1] - 0.14 * u[1])], c)
    p.oval(0, 0, 0.6, 0.6, c)


def moon(p, c):
    outer = [(0.95 * math.cos(math.radians(a)) - 0.1, 0.95 * math.sin(math.radians(a))) for a in range(48, 313, 6)]
    ox, oy = outer[-1]
    r, cx = 0.86, ox + math.sqrt(0.86 ** 2 - oy ** 2)
    start = math.degrees(math.atan2(oy, ox - cx)) % 360
    inner = [(cx + r * math.cos(math.radians(a)), r * math.sin(math.radians(a)))
             for a in [start - (start - (360 - start)) * i / 30 for i in range(31)]]
    p.poly([(x + 0.22, y) for x, y in outer + inner], c)


def rocket(p, c):
    p.poly([(-0.2, 0.6), (0, 1.0), (0.2, 0.6)], (252, 170, 40))
    for s in (-1, 1):
        p.poly([(s * 0.3, 0.1), (s * 0.66, 0.52), (s * 0.62, 0.8), (s * 0.24, 0.6)], dark(c, 0.4))
    body = [(-0.3, 0.64), (-0.4, 0.1), (-0.32, -0.4), (-0.18, -0.74), (0, -0.98),
            (0.18, -0.74), (0.32, -0.4), (0.4, 0.1), (0.3, 0.64)]
    p.poly(body, c)
    p.oval(0, -0.2, 0.2, 0.2, dark(c, 0.4), plain=True)
    p.oval(0, -0.2, 0.14, 0.14, (206, 236, 248), plain=True)


DRAW = {name: globals()[name] for name in KINDS}


def spot(share, length, half):
    """A thing's centre in pixels: inside the picture and on the autoencoder's grid of 8.

    On the grid a thing looks the same to the transformer wherever it stands: with free places it would need far more training.
    """
    low = math.ceil(half / GRID) * GRID
    at = math.floor(share * length / GRID + 0.5) * GRID
    return min(max(at, low), length - low)


def draw_thing(image, thing, scale, outlined=False, free=False):
    w, h = image.size[0] // scale, image.size[1] // scale
    half = thing.size * NATIVE / 2
    x, y = (thing.x * w, thing.y * h) if free else (spot(thing.x, w, half), spot(thing.y, h, half))
    DRAW[thing.kind](Pen(image, x * scale, y * scale, half * scale, outlined), COLOURS[thing.colour])


def render(scene, width, height):
    from scenery import paint_ground

    big = Image.new("RGB", (width * SUPERSAMPLE, height * SUPERSAMPLE), scene.paper)
    paint_ground(big, scene)
    for thing in scene.things:
        draw_thing(big, thing, SUPERSAMPLE, scene.outlined, scene.free)
    return big.reduce(SUPERSAMPLE)


def main():
    rng = random.Random(1)
    names, tiles = list(COLOURS), []
    for i, kind in enumerate(KINDS):
        for j in range(2):
            tiles.append(Scene([Thing(kind, names[(i * 5 + j * 7) % 12], 0.5, 0.5, 0.62)], paper=PAPERS[i % 5], outlined=j == 1))
    for g in SCENES:
        for time in ("day", "night", "sunset"):
            tiles.append(Scene([Thing(rng.choice(THINGS), rng.choice(names), 0.5, 0.5, 0.4)], ground=g, time=time, seed=rng.random()))
    sheet = Image.new("RGB", (10 * 132, -(-len(tiles) // 10) * 132), (255, 255, 255))
    for i, s in enumerate(tiles):
        sheet.paste(render(s, 128, 128), (i % 10 * 132, i // 10 * 132))
    sheet.save(sys.argv[1])


if __name__ == "__main__":
    main()
