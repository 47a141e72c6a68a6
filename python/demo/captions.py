"""Random scenes and captions that tell what is in them, in many wordings.

`sample(rng)` gives a `Sample`: scene, caption and the attributes that the caption states (what the text encoder learns first).
Some combinations are kept out of training by their checksum (`held_out`); evaluate.py asks for exactly those.
Run it alone to read some:  python python/demo/captions.py
"""

import random
import zlib
from dataclasses import dataclass

from draw import COLOURS, KINDS, PAPERS, SCENES, SHAPES, Scene, Thing
from scenery import tones

NAMES = {
    "circle": ["circle", "circle", "disc", "round circle"], "square": ["square", "square", "box"],
    "triangle": ["triangle"], "star": ["star"], "heart": ["heart"], "diamond": ["diamond", "diamond", "rhombus"],
    "hexagon": ["hexagon"], "house": ["house", "house", "cottage", "home", "hut"], "tree": ["tree"],
    "boat": ["boat", "sailboat", "ship", "sailing boat"], "flower": ["flower", "flower", "blossom", "daisy"],
    "fish": ["fish"], "balloon": ["balloon"], "cat": ["cat", "cat", "cat", "kitten", "cat face"],
    "car": ["car", "car", "automobile"], "mushroom": ["mushroom", "mushroom", "toadstool"], "fox": ["fox"],
    "sun": ["sun"], "moon": ["moon", "moon", "crescent moon", "crescent"], "rocket": ["rocket", "rocket", "spaceship"],
}
PLURAL = {"fish": "fish", "fox": "foxes", "box": "boxes", "rhombus": "rhombuses", "cat face": "cat faces", "daisy": "daisies"}
HUES = {
    "red": ["red", "red", "red", "scarlet"], "yellow": ["yellow", "yellow", "yellow", "golden"],
    "teal": ["teal", "teal", "turquoise", "cyan"], "purple": ["purple", "purple", "violet"],
    "gray": ["gray", "grey"], "black": ["black"], "pink": ["pink"],
}
# What a thing looks like when the caption names no colour.
NATURAL = {
    "house": ["red", "yellow"], "tree": ["green"], "boat": ["red", "blue"], "flower": ["pink", "red"],
    "fish": ["orange", "teal"], "balloon": ["red", "pink"], "cat": ["orange", "gray"], "car": ["red", "blue"],
    "mushroom": ["red"], "fox": ["orange"], "sun": ["yellow"], "moon": ["yellow"], "rocket": ["red", "purple"],
    "heart": ["red", "pink"], "star": ["yellow"],
}
# Unnamed backgrounds for white things, which the pale papers would swallow.
DEEP_PAPERS = [(150, 200, 228), (250, 176, 150), (178, 156, 220)]
SIZES = {"small": 0.25, "medium": 0.46, "large": 0.7}
PAIR_SIZE = 0.345
SIZE_WORDS = {"small": ["small", "small", "little", "tiny"], "large": ["large", "big", "big", "huge", "giant"]}
X_AT = {"left": 0.25, "centre": 0.5, "right": 0.75}
Y_AT = {"top": 0.25, "centre": 0.5, "bottom": 0.75}
SKY_KINDS = {"balloon", "sun", "moon", "rocket", "star"}
LAND_KINDS = {"house", "tree", "flower", "cat", "car", "mushroom", "fox"}
RELATIONS = ["and", "left", "right", "above", "below"]
GROUND_WORDS = {
    "sea": ["over the sea", "above the sea", "on the sea", "at sea", "by the sea", "over the ocean", "over the water"],
    "snow": ["in the snow", "in the snow", "in winter", "in a snowy landscape", "on a snowy day"],
    "meadow": ["in a meadow", "on the meadow", "on a green hill", "in the grass", "in the hills"],
    "mountains": ["in the mountains", "in front of mountains", "before snowy mountains", "with mountains behind"],
    "desert": ["in the desert", "on the sand", "among the dunes"],
    "clouds": ["in the sky", "in the clouds", "among the clouds", "in a cloudy sky"],
    "stars": ["under the stars", "among the stars", "in space", "in a starry sky", "in front of a starry sky"],
}
TIME_WORDS = {
    "night": ["at night", "at night", "by night", "in the night", "in the dark"],
    "sunset": ["at sunset", "at sunset", "in the evening", "at dusk"],
    "day": ["by day", "in the daytime", "on a sunny day"],
}
OPENINGS = ["", "", "", "", "", "a picture of ", "a drawing of ", "an image of ", "a poster of ", "an illustration of ",
            "picture of ", "there is ", "a painting of "]
# Captions that begin with a place or a background take no opening.
LEADING = {"in", "on", "at", "to", "by", "with", "against", "top", "bottom", "high", "low", "under", "among", "over", "above", "before"}
LONG_OPENINGS = ["this is a simple and cheerful flat drawing that shows ", "a clean poster with large areas of flat colour, showing ",
                 "a nice little picture for a wall in a child's room: "]
LONG_ENDINGS = [", drawn in a clean and simple poster style", ", a calm picture with flat colours and clear edges",
                ", in the style of a minimal flat illustration"]


@dataclass
class Sample:
    scene: Scene
    caption: str
    attributes: dict
    kind: str  # single, pair, count, ground, empty


def held_out(key):
    """About one combination in twenty is never trained on."""
    return key not in ("balloon red sea", "fox red snow") and zlib.crc32(key.encode()) % 20 == 0


def distance(a, b):
    return sum((x - y) ** 2 for x, y in zip(a, b)) ** 0.5


def ground_colours(ground, time, paper):
    if ground == "plain":
        return [paper]
    sky, land = tones(ground, time)
    return [sky] + land


def spell(word, rng):
    return rng.choice(HUES.get(word, [word]))


def article(words):
    return ("an " if words[0] in "aeiou" else "a ") + words


def name_thing(t, rng, plural=False, count=""):
    """'a small red circle' and the like; t: dict of kind, colour, size (None where the caption keeps silent)."""
    noun = rng.choice(NAMES[t["kind"]])
    if plural:
        noun = PLURAL.get(noun, noun + "s")
    words = [count] if count else []
    if t.get("outlined"):
        words.append("outlined")
    if t["size"]:
        words.append(rng.choice(SIZE_WORDS[t["size"]]))
    if t["colour"]:
        words.append(spell(t["colour"], rng))
    if t["colour"] and not plural and not t["size"] and not t.get("outlined") and rng.random() < 0.04:
        return article(f"{noun} that is {words[-1]}")
    text = " ".join(words + [noun])
    if plural:
        return text
    r = rng.random()
    if t["kind"] in ("sun", "moon") and r < 0.4:
        return "the " + text
    return article(text) if r < 0.75 else text if r < 0.92 else ("the " if r < 0.96 else "one ") + text


def name_place(px, py, rng):
    x, y = {"left": "left", "right": "right"}.get(px), {"top": "top", "bottom": "bottom"}.get(py)
    if x and y:
        other = {"top": "upper", "bottom": "lower"}[y]
        return rng.choice([f"in the {y} {x} corner", f"at the {y} {x}", f"in the {other} {x} corner", f"in the {other} {x}", f"{y} {x}"])
    if x:
        return rng.choice([f"on the {x}", f"on the {x}", f"at the {x}", f"on the {x} side", f"to the {x}"])
    if y == "top":
        return rng.choice(["at the top", "at the top", "in the upper part", "in the upper half", "high up"])
    if y == "bottom":
        return rng.choice(["at the bottom", "at the bottom", "in the lower part", "in the lower half", "low down"])
    return rng.choice(["in the centre", "in the center", "in the middle"])


def name_ground(a, rng):
    """The words for the background; empty when it is left open."""
    words = []
    if a["paper"]:
        hue = spell(a["paper"], rng)
        on = article(hue + " background")
        words.append(rng.choice([f"on {on}", f"on {on}", f"on {on}", f"against {on}", f"with {on}", f"on {hue}", f"in front of {on}"]))
    if a["ground"] != "plain" and not (a["ground"] == "stars" and a["time_said"]):
        words.append(rng.choice(GROUND_WORDS[a["ground"]]))
    if a["time_said"]:
        words.append(rng.choice(TIME_WORDS[a["time"]]))
        if rng.random() < 0.2:
            words.reverse()
    return " ".join(words)


def pick_ground(rng, single):
    """Attributes of the background."""
    a = {"ground": "plain", "paper": None, "time": "day", "time_said": False}
    r = rng.random()
    if r < 0.38:
        a["paper"] = rng.choice(list(COLOURS))
    elif r < 0.38 + (0.42 if single else 0.27):
        a["ground"] = rng.choice(SCENES + ["sea", "snow"])
        t = rng.random()
        if a["ground"] == "stars":
            a["time"], a["time_said"] = "night", rng.random() < 0.5
        elif t < 0.28:
            a["time"], a["time_said"] = "night", True
        elif t < 0.45:
            a["time"], a["time_said"] = "sunset", True
        elif t < 0.5:
            a["time_said"] = True
    return a


def pick_thing(rng, ground, colour_rate=0.82):
    kind = rng.choice(KINDS + ["balloon", "fox", "boat", "cat"])
    t = {"kind": kind, "colour": None, "size": None, "px": None, "py": None}
    if rng.random() < colour_rate:
        t["colour"] = rng.choice(list(COLOURS))
    t["shown"] = t["colour"] or rng.choice(NATURAL.get(kind, list(COLOURS)))
    return t


def clashes(things, g, paper, contrast):
    """A thing that its background would swallow."""
    back = ground_colours(g["ground"], g["time"], paper)
    return any(distance(COLOURS[t["shown"]], b) < contrast for t in things for b in back)


def pick_paper(g, things, rng):
    if g["paper"]:
        return COLOURS[g["paper"]]
    return rng.choice(DEEP_PAPERS if any(t["shown"] == "white" for t in things) else PAPERS)


def rest_y(kind, ground):
    """Where a thing stands in a scene when the caption does not say."""
    if ground in ("plain", "stars", "clouds"):
        return 0.5
    if kind == "boat" and ground == "sea":
        return 0.5625
    if kind in LAND_KINDS and ground != "sea":
        return 0.625
    return 0.375 if kind in SKY_KINDS or ground == "sea" else 0.5625


def place_single(t, ground):
    y = Y_AT[t["py"]] if t["py"] else rest_y(t["kind"], ground)
    if t["px"] and not t["py"]:
        y = max(0.4375, y)
    return Thing(t["kind"], t["shown"], X_AT[t["px"] or "centre"], y, SIZES[t["size"] or "medium"])


def fits(s, size):
    """Whether a picture of this size leaves a large thing room to be anywhere but in the middle."""
    a = s.attributes
    return min(size) >= 128 or not (a["size"] == 3 and (a["x"] or a["y"]))


def single(rng):
    g = pick_ground(rng, True)
    t = pick_thing(rng, g)
    if rng.random() < 0.3:
        t["size"] = rng.choice(["small", "large"])
    if rng.random() < 0.5:
        t["px"], t["py"] = rng.choice([("left", None), ("right", None), (None, "top"), (None, "bottom"), ("centre", "centre"),
                                       ("left", "top"), ("right", "top"), ("left", "bottom"), ("right", "bottom")])
    t["outlined"] = rng.random() < 0.12
    key = f"{t['kind']} {t['colour']} {g['paper'] or g['ground']}" if t["colour"] else ""
    paper = pick_paper(g, [t], rng)
    place = name_place(t["px"], t["py"], rng) if t["px"] or t["py"] else ""
    style = " with a dark outline" if t["outlined"] and rng.random() < 0.4 else ""
    words = name_thing(dict(t, outlined=t["outlined"] and not style), rng) + style
    behind = name_ground(g, rng)
    r = rng.random()
    if behind and r < 0.1:
        text = f"{behind}, {words} {place}"
    elif behind and r < 0.25:
        text = f"{words} {behind} {place}"
    elif place and r < 0.32:
        text = f"{place} {words} {behind}"
    else:
        text = f"{words} {place} {behind}"
    scene = Scene([place_single(t, g["ground"])], g["ground"], paper, g["time"], t["outlined"], rng.random())
    return scene, text, [t], g, key, "and"


def pair(rng):
    g = pick_ground(rng, False)
    a, b = pick_thing(rng, g, 0.9), pick_thing(rng, g, 0.9)
    if (a["kind"], a["shown"]) == (b["kind"], b["shown"]):
        return pair(rng)
    relation = rng.choice(RELATIONS + ["and", "and"])
    outlined = rng.random() < 0.08
    y = 0.5 if g["ground"] in ("plain", "stars", "clouds") else 0.4375 if g["ground"] == "sea" else 0.5625
    spots = {"and": ((0.25, y), (0.75, y)), "right": ((0.75, y), (0.25, y)), "above": ((0.5, 0.25), (0.5, 0.75)),
             "below": ((0.5, 0.75), (0.5, 0.25))}
    spots["left"] = spots["and"]
    link = {"and": ["and", "and", "and", "next to", "beside", "with"], "left": ["left of", "to the left of", "on the left of"],
            "right": ["right of", "to the right of", "on the right of"], "above": ["above", "over", "on top of"],
            "below": ["below", "under", "beneath"]}[relation]
    key = f"{a['kind']} {a['colour']} {b['kind']} {b['colour']}"
    things = [Thing(t["kind"], t["shown"], x, v, PAIR_SIZE) for t, (x, v) in zip((a, b), spots[relation])]
    a["outlined"] = b["outlined"] = outlined
    words = f"{name_thing(a, rng)} {rng.choice(link)} {name_thing(b, rng)}"
    behind = name_ground(g, rng)
    text = f"{behind}, {words}" if behind and rng.random() < 0.12 else f"{words} {behind}"
    scene = Scene(things, g["ground"], pick_paper(g, [a, b], rng), g["time"], outlined, rng.random())
    return scene, text, [a, b], g, key, relation


def count(rng):
    g = pick_ground(rng, False)
    t = pick_thing(rng, g, 0.85)
    n = rng.choice([2, 3])
    t["outlined"] = rng.random() < 0.06
    y = 0.5 if g["ground"] in ("plain", "stars", "clouds") else 0.4375
    row = n == 3 and rng.random() < 0.3
    if n == 2:
        spots, size = [(0.25, y), (0.75, y)], PAIR_SIZE
    elif row:
        spots, size = [(0.1875, y), (0.5, y), (0.8125, y)], SIZES["small"]
    else:
        spots, size = [(0.5, 0.25), (0.25, 0.75), (0.75, 0.75)], PAIR_SIZE
    things = [Thing(t["kind"], t["shown"], x, v, size) for x, v in spots]
    words = name_thing(t, rng, plural=True, count=rng.choice({2: ["two", "two", "a pair of", "2"], 3: ["three", "three", "3"]}[n]))
    text = f"{words} {'in a row' if row else ''} {name_ground(g, rng)}"
    key = f"{n} {t['kind']} {t['colour']}" if t["colour"] else ""
    scene = Scene(things, g["ground"], pick_paper(g, [t], rng), g["time"], t["outlined"], rng.random())
    return scene, text, [t] * n, g, key, "row" if row else "and"


def ground_only(rng):
    """'the sea at night': a scene without a thing."""
    g = {"ground": rng.choice([s for s in SCENES]), "paper": None, "time": rng.choice(["day", "night", "sunset"]), "time_said": False}
    g["time"] = "night" if g["ground"] == "stars" else g["time"]
    g["time_said"] = g["time"] != "day" and g["ground"] != "stars"
    noun = {"sea": ["the sea", "the ocean", "waves"], "snow": ["snow", "a snowy landscape", "winter"], "meadow": ["a meadow", "green hills"],
            "mountains": ["mountains", "the mountains"], "desert": ["a desert", "the desert", "dunes"], "clouds": ["clouds", "the sky"],
            "stars": ["stars", "a starry sky", "the night sky"]}[g["ground"]]
    text = rng.choice(noun) + (" " + rng.choice(TIME_WORDS[g["time"]]) if g["time_said"] else "")
    return Scene([], g["ground"], PAPERS[0], g["time"], False, rng.random()), text, [], g, "", "and"


def attributes_of(things, g, relation):
    """What the caption states, as small whole numbers (0: not stated)."""
    def index(value, values):
        return 0 if value is None else 1 + list(values).index(value)
    a = {"count": len(things), "relation": (RELATIONS + ["row"]).index(relation), "ground": index(g["ground"], ["plain"] + SCENES),
         "paper": index(g["paper"], COLOURS), "time": ["day", "night", "sunset"].index(g["time"]),
         "outlined": int(bool(things) and bool(things[0].get("outlined")))}
    for i in range(2):
        t = things[i] if i < len(things) else {}
        a[f"kind{i}"] = index(t.get("kind"), KINDS)
        a[f"colour{i}"] = index(t.get("colour"), COLOURS)
    t = things[0] if things else {}
    a["size"], a["x"], a["y"] = index(t.get("size"), SIZES), index(t.get("px"), X_AT), index(t.get("py"), Y_AT)
    return a


ATTRIBUTE_SIZES = {"count": 4, "relation": 6, "ground": 9, "paper": 13, "time": 3, "outlined": 2, "kind0": 21, "kind1": 21,
                   "colour0": 13, "colour1": 13, "size": 4, "x": 4, "y": 4}


def sample(rng, held=False, kinds=None, contrast=38):
    """One scene with its caption. held=True gives only combinations that training never sees."""
    while True:
        what = rng.choice(kinds) if kinds else rng.choices(["single", "pair", "count", "ground", "empty"], [58, 25, 12, 3.5, 1.5])[0]
        make = {"single": single, "empty": single, "pair": pair, "count": count, "ground": ground_only}[what]
        scene, text, things, g, key, relation = make(rng)
        if held != (bool(key) and held_out(key)) or clashes(things, g, scene.paper, contrast):
            continue
        if what == "empty":
            return Sample(scene, "", attributes_of([], {"ground": "plain", "paper": None, "time": "day"}, "and"), what)
        text = " ".join(text.split())
        if rng.random() < 0.08 and not held:
            text = rng.choice(LONG_OPENINGS) + text + rng.choice(LONG_ENDINGS)
        elif text.split()[0].lower() not in LEADING:
            text = rng.choice(OPENINGS) + text
        if rng.random() < 0.12:
            text = text[0].upper() + text[1:]
        if rng.random() < 0.08:
            text += "."
        return Sample(scene, text, attributes_of(things, g, relation), what)


if __name__ == "__main__":
    generator = random.Random(0)
    for _ in range(60):
        print(sample(generator).caption)
