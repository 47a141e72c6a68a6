"""The grounds behind the things: sea, snow, meadow, mountains, desert, clouds and a starry sky, by day, night and sunset."""

import math
import random

from PIL import ImageDraw

# Sky per time of day. Every flat tone a ground uses is listed in TONES, so that the analyser can tell ground from thing.
SKY = {"day": (176, 220, 240), "night": (30, 36, 78), "sunset": (252, 178, 128)}
SNOW_SKY = {"day": (196, 214, 230), "night": (44, 52, 92), "sunset": (248, 196, 180)}
DESERT_SKY = {"day": (253, 226, 178), "night": (46, 38, 80), "sunset": (246, 150, 112)}
LAND = {
    "sea": [(74, 158, 204), (48, 126, 184)],
    "snow": [(222, 234, 244), (246, 250, 254)],
    "meadow": [(146, 200, 108), (106, 176, 88)],
    "mountains": [(150, 152, 200), (108, 112, 170)],
    "desert": [(240, 190, 112), (226, 164, 88)],
}
NIGHT = (22, 28, 70)
STAR = (255, 244, 200)
CLOUD = (244, 250, 253)


def _mix(a, b, share):
    return tuple(round(x + (y - x) * share) for x, y in zip(a, b))


def tones(ground, time):
    """(sky, [land tones from far to near]) of a ground."""
    sky = {"snow": SNOW_SKY, "desert": DESERT_SKY}.get(ground, SKY)[time]
    if ground == "stars":
        sky = NIGHT
    land = LAND.get(ground, [])
    if time == "night":
        land = [_mix(c, NIGHT, 0.5) for c in land]
    elif time == "sunset":
        land = [_mix(c, (214, 96, 96), 0.22) for c in land]
    return sky, land


def details(ground, time):
    """The smaller tones: snow caps, pines, clouds, the green at the mountains' feet."""
    sky, _ = tones(ground, time)
    if ground == "mountains":
        feet = _mix((96, 150, 120), NIGHT, 0.5 if time == "night" else 0.0)
        return {"cap": _mix((255, 255, 255), sky, 0.15 if time != "night" else 0.4), "feet": feet}
    if ground == "snow":
        return {"pine": _mix((96, 140, 150), sky, 0.35)}
    if ground == "clouds":
        return {"cloud": CLOUD if time == "day" else _mix(CLOUD, sky, 0.6 if time == "night" else 0.4)}
    return {}


def _curve(w, h, base, height, waves, phase):
    """A filled outline: a wavy upper edge around `base` (shares of the height), down to the bottom."""
    top = [(x, h * (base + height * math.sin(2 * math.pi * (x / w * waves + phase)))) for x in range(0, w + 1, max(1, w // 96))]
    return top + [(w, top[-1][1]), (w, h), (0, h)]


def _stars(d, w, h, rng, count, low):
    for _ in range(count):
        x, y, r = rng.uniform(0.03, 0.97) * w, rng.uniform(0.03, low) * h, rng.choice([0.008, 0.011, 0.014]) * min(w, h)
        d.ellipse((x - r, y - r, x + r, y + r), fill=STAR)


def _cloud(d, x, y, s, colour):
    for dx, dy, r in ((-0.9, 0.1, 0.5), (0, -0.25, 0.75), (0.9, 0.1, 0.55)):
        d.ellipse((x + (dx - r) * s, y + (dy - r) * s, x + (dx + r) * s, y + (dy + r) * s), fill=colour)
    d.rounded_rectangle((x - 1.4 * s, y + 0.05 * s, x + 1.45 * s, y + 0.65 * s), 0.3 * s, fill=colour)


def _peak(d, w, h, x, top, half, base, colour, cap):
    px, py, by = x * w, top * h, base * h
    d.polygon([(px, py), (px + half * w, by), (px - half * w, by)], fill=colour)
    s, drop = 0.3 * half * w, 0.3 * (by - py)
    d.polygon([(px, py), (px + s, py + drop), (px + s * 0.4, py + drop * 0.75), (px, py + drop * 1.15),
               (px - s * 0.45, py + drop * 0.75), (px - s, py + drop)], fill=cap)


def _pine(d, x, y, s, colour):
    for k in range(3):
        top, half = y - s * (1.5 - 0.42 * k), s * (0.3 + 0.13 * k)
        d.polygon([(x, top), (x + half, top + 0.62 * s), (x - half, top + 0.62 * s)], fill=colour)


def paint_ground(image, scene):
    ground, time = scene.ground, scene.time
    d, (w, h) = ImageDraw.Draw(image), image.size
    rng = random.Random(scene.seed)
    if ground == "plain":
        return
    (sky, land), small = tones(ground, time), details(ground, time)
    d.rectangle((0, 0, w, h), fill=sky)
    if time == "night" or ground == "stars":
        _stars(d, w, h, rng, 26 if ground in ("stars", "clouds") else 14, 0.97 if ground in ("stars", "clouds") else 0.5)
    phase = rng.random()
    if ground == "sea":
        d.polygon(_curve(w, h, 0.64, 0.012, 4, phase), fill=land[0])
        d.polygon(_curve(w, h, 0.80, 0.016, 3, phase + 0.4), fill=land[1])
    elif ground == "snow":
        d.polygon(_curve(w, h, 0.62, 0.03, 1, phase), fill=land[0])
        for x in (0.1, 0.2, 0.86):
            _pine(d, x * w, 0.66 * h, 0.13 * min(w, h), small["pine"])
        d.polygon(_curve(w, h, 0.76, 0.03, 1, phase + 0.45), fill=land[1])
        for _ in range(14):
            x, y, r = rng.uniform(0.03, 0.97) * w, rng.uniform(0.03, 0.55) * h, rng.choice([0.009, 0.013]) * min(w, h)
            d.ellipse((x - r, y - r, x + r, y + r), fill=(255, 255, 255))
    elif ground == "meadow":
        d.polygon(_curve(w, h, 0.64, 0.04, 1, phase), fill=land[0])
        d.polygon(_curve(w, h, 0.78, 0.035, 1, phase + 0.4), fill=land[1])
    elif ground == "mountains":
        for x, top, half in ((0.2, 0.34, 0.34), (0.82, 0.3, 0.36)):
            _peak(d, w, h, x, top, half, 0.86, land[0], small["cap"])
        _peak(d, w, h, 0.5, 0.46, 0.3, 0.88, land[1], small["cap"])
        d.polygon(_curve(w, h, 0.82, 0.02, 1, phase), fill=small["feet"])
    elif ground == "desert":
        d.polygon(_curve(w, h, 0.66, 0.03, 1, phase), fill=land[0])
        d.polygon(_curve(w, h, 0.79, 0.03, 1, phase + 0.5), fill=land[1])
    elif ground == "clouds":
        for x, y in ((0.16, 0.2), (0.84, 0.3), (0.24, 0.82), (0.8, 0.86)):
            _cloud(d, (x + rng.uniform(-0.04, 0.04)) * w, (y + rng.uniform(-0.04, 0.04)) * h, 0.1 * min(w, h), small["cloud"])
