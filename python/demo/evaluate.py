"""Measures how well the demo model follows 200 captions of combinations that it was never trained on.

Run:  python python/demo/evaluate.py --binary target/release/zimage       (or --diffusers to render with ZImagePipeline)
The pictures are judged by plain image analysis: what differs from the background is cut out and compared with drawings of every
kind in every colour. The analyser knows of the caption only how many things there are and which tones the scene's ground has.
It is first tried on drawn pictures, where the right answer is known; --drawn stops after that.
"""

import argparse
import json
import random
import subprocess
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from captions import fits, sample
from draw import COLOURS, CREAM, KINDS, Scene, Thing, render
from scenery import STAR, details, tones

SIZES = [(128, 128)] * 8 + [(160, 96), (96, 160)]
BARS = {"colour": 0.95, "background": 0.95, "position": 0.90, "kind": 0.85}
CROP = 32
FAR = (150, 255, 60)  # a paper that no thing comes near


def held_out_samples(count=200, seed=2024, contrast=95):
    """The fixed list: single things on plain grounds and in scenes, pairs and counts on plain grounds; all state their colours."""
    rng, out = random.Random(seed), []
    while len(out) < count:
        i = len(out)
        what = "single" if i % 20 < 11 else "pair" if i % 20 < 16 else "count"
        s = sample(rng, held=True, kinds=[what], contrast=contrast)
        scene = (s.scene.ground != "plain")
        if scene != (what == "single" and i % 20 < 5) or not s.attributes["colour0"]:
            continue
        if what == "pair" and not s.attributes["colour1"]:
            continue
        size = SIZES[i % len(SIZES)]
        out.append((s, size if fits(s, size) else SIZES[0]))
    return out


def spread(pixels, colours):
    """Distance of every pixel to the nearest of some colours."""
    d = pixels[..., None, :].astype(np.float32) - np.array(colours, np.float32)
    return np.sqrt((d ** 2).sum(-1)).min(-1)


def grow(mask, by):
    p = np.pad(mask, 1)
    stack = [p[1 + y:p.shape[0] - 1 + y, 1 + x:p.shape[1] - 1 + x] for y in (-1, 0, 1) for x in (-1, 0, 1)]
    return np.any(stack, 0) if by > 0 else np.all(stack, 0)


def pieces(mask):
    """Labels of connected parts, by letting the highest number spread until nothing changes."""
    label = np.where(mask, np.arange(1, mask.size + 1).reshape(mask.shape), 0)
    while True:
        p = np.pad(label, 1)
        new = np.max([p[1 + y:p.shape[0] - 1 + y, 1 + x:p.shape[1] - 1 + x] for y in (-1, 0, 1) for x in (-1, 0, 1)], 0) * mask
        if (new == label).all():
            return label
        label = new


def cut_out(picture, scene):
    """Mask of what does not belong to the background, and the background's colour on plain grounds."""
    edge = np.concatenate([picture[:3].reshape(-1, 3), picture[-3:].reshape(-1, 3), picture[:, :3].reshape(-1, 3), picture[:, -3:].reshape(-1, 3)])
    if scene.ground == "plain":
        back = np.median(edge, 0)
        return grow(grow(spread(picture, [back]) > 40, -1), 1), back
    sky, land = tones(scene.ground, scene.time)
    small = list(details(scene.ground, scene.time).values())
    colours = [sky, *land, *small] + ([(255, 255, 255)] if scene.ground == "snow" else [])
    mask = grow(grow(spread(picture, colours) > 34, -1), 1)
    if scene.time == "night" or scene.ground in ("stars", "snow"):
        label = pieces(mask)
        for n, area in Counter(label[mask].tolist()).items():
            if area < 30:
                mask &= label != n
    return mask, None


def clusters(mask, count):
    """Splits the mask into `count` things: k-means on the places of its pixels, the best of several starts."""
    points = np.argwhere(mask).astype(np.float32)
    if len(points) < 20 * count:
        return []
    rng, best = np.random.default_rng(0), None
    for _ in range(8 if count > 1 else 1):
        centres = points[rng.choice(len(points), count, replace=False)]
        for _ in range(12):
            owner = ((points[:, None] - centres) ** 2).sum(-1).argmin(1)
            centres = np.stack([points[owner == k].mean(0) if (owner == k).any() else centres[k] for k in range(count)])
        cost = ((points - centres[owner]) ** 2).sum()
        if best is None or cost < best[0]:
            best = (cost, owner)
    return [points[best[1] == k].astype(int) for k in range(count) if (best[1] == k).any()]


def normal_crop(picture, mask):
    """The tight box around a mask, scaled to CROP x CROP: colours, mask, and width over height."""
    ys, xs = np.where(mask)
    y0, y1, x0, x1 = ys.min(), ys.max() + 1, xs.min(), xs.max() + 1
    m = np.asarray(Image.fromarray(mask[y0:y1, x0:x1].astype(np.uint8) * 255).resize((CROP, CROP), Image.BILINEAR), np.float32) / 255
    c = np.asarray(Image.fromarray(picture[y0:y1, x0:x1]).resize((CROP, CROP), Image.BILINEAR), np.float32)
    return c, m, np.log((x1 - x0) / (y1 - y0)), ((x0 + x1) / 2 / mask.shape[1], (y0 + y1) / 2 / mask.shape[0])


class Templates:
    """Drawings of every kind in every colour, flat and outlined, cut out as the pictures are."""

    def __init__(self):
        self.names, colours, masks, ratios = [], [], [], []
        for kind in KINDS:
            for colour in COLOURS:
                for size, outlined, paper in ((0.345, False, FAR), (0.5, False, FAR), (0.5, True, FAR), (0.46, False, CREAM), (0.25, False, FAR)):
                    if spread(np.array([[COLOURS[colour]]]), [paper]) < 95:
                        continue
                    # On cream paper the cut-out loses pale parts, such as a mushroom's stem.
                    scene = Scene([Thing(kind, colour, 0.5, 0.5, size)], paper=paper, outlined=outlined)
                    p = np.asarray(render(scene, 128, 128))
                    c, m, ratio, _ = normal_crop(p, cut_out(p, scene)[0])
                    self.names.append((kind, colour))
                    colours.append(c)
                    masks.append(m)
                    ratios.append(ratio)
        self.colours, self.masks, self.ratios = np.stack(colours), np.stack(masks), np.array(ratios)

    def name(self, crop):
        c, m, ratio, _ = crop
        shape = np.abs(self.masks - m).mean((1, 2))
        both = np.minimum(self.masks, m)
        hue = (np.sqrt(((self.colours - c) ** 2).sum(-1)) / 255 * both).sum((1, 2)) / both.sum((1, 2)).clip(1)
        return self.names[int((shape + 0.5 * hue + 0.3 * np.abs(self.ratios - ratio)).argmin())]


def place_right(s, centres):
    """Whether stated places and relations hold; None where the caption states none."""
    a, checks = s.attributes, []
    if s.kind == "single":
        x, y = centres[0]
        for value, word, names in ((x, a["x"], ("left", "centre", "right")), (y, a["y"], ("top", "centre", "bottom"))):
            if word:
                low, high = {"left": (0, 0.42), "top": (0, 0.42), "centre": (0.38, 0.62)}.get(names[word - 1], (0.58, 1))
                checks.append(low <= value <= high)
    elif s.kind == "pair" and a["relation"] in (1, 2, 3, 4):
        (x0, y0), (x1, y1) = centres
        checks.append([x0 < x1 - 0.15, x0 > x1 + 0.15, y0 < y1 - 0.15, y0 > y1 + 0.15][a["relation"] - 1])
    return all(checks) if checks else None


def judge(picture, s, templates):
    """Counter of (measure, right) for one picture."""
    out = []
    mask, back = cut_out(picture, s.scene)
    if back is not None and s.attributes["paper"]:
        names = list(COLOURS)
        out.append(("background", names[int(spread(np.array([COLOURS[n] for n in names])[:, None], [back]).argmin())] == names[s.attributes["paper"] - 1]))
    elif back is None:
        sky, land = tones(s.scene.ground, s.scene.time)
        rim = np.ones(mask.shape, bool)
        rim[6:-6, 6:-6] = False
        near = spread(picture, [sky, *land, *details(s.scene.ground, s.scene.time).values(), STAR, (255, 255, 255)]) < 40
        out.append(("background", near[rim].mean() > 0.75))
    want = s.scene.things
    found = clusters(mask, len(want))
    if len(found) < len(want):
        return out + [("colour", False)] * len(want) + [("kind", False)] * len(want) + [("position", False)] * (place_right(s, [(0, 0), (0, 0)]) is not None)
    crops = []
    for points in found:
        own = np.zeros_like(mask)
        own[points[:, 0], points[:, 1]] = True
        crops.append(normal_crop(picture, own))
    names = [templates.name(c) for c in crops]
    order = match(names, want, [c[3] for c in crops], s)
    for i, k in enumerate(order):
        out += [("colour", names[k][1] == want[i].colour), ("kind", names[k][0] == want[i].kind)]
    right = place_right(s, [crops[k][3] for k in order])
    if right is not None:
        out.append(("position", right))
    if s.kind == "count":
        label = pieces(mask)
        areas = Counter(label[mask].tolist()).values()
        out.append(("count", sum(a > 0.25 * max(areas) for a in areas) == len(want)))
    return out


def match(names, want, centres, s):
    """Which found thing is which asked one: the assignment that gets most kinds and colours right; by place when that is equal."""
    if len(want) != 2 or s.kind != "pair":
        return range(len(want))
    def score(order):
        return sum((names[k][0] == w.kind) + (names[k][1] == w.colour) for k, w in zip(order, want))
    same, swapped = score((0, 1)), score((1, 0))
    if same == swapped:
        axis = 0 if abs(want[0].x - want[1].x) > 0.2 else 1
        first = (want[0].x < want[1].x) if axis == 0 else (want[0].y < want[1].y)
        return (0, 1) if (centres[0][axis] < centres[1][axis]) == first else (1, 0)
    return (0, 1) if same > swapped else (1, 0)


def tally(pictures, samples, templates):
    total, right, wrong = Counter(), Counter(), []
    for i, (picture, (s, _)) in enumerate(zip(pictures, samples)):
        marks = judge(picture, s, templates)
        for measure, ok in marks:
            total[measure] += 1
            right[measure] += bool(ok)
        if missed := sorted({m for m, ok in marks if not ok}):
            wrong.append((i, s.caption, missed))
    return {m: (right[m], total[m]) for m in sorted(total)}, wrong


def render_binary(args, samples, folder):
    pictures = [None] * len(samples)
    for size in dict.fromkeys(size for _, size in samples):
        chosen = [i for i, (_, z) in enumerate(samples) if z == size]
        part = folder / f"{size[0]}x{size[1]}"
        part.mkdir(parents=True, exist_ok=True)
        (part / "prompts.txt").write_text("".join(samples[i][0].caption + "\n" for i in chosen))
        command = [args.binary, "generate", "--prompt-file", str(part / "prompts.txt"), "--seed", str(args.seed), "--steps", str(args.steps),
                   "--width", str(size[0]), "--height", str(size[1]), "-o", str(part / "{index}.png"), "-q"]
        subprocess.run(command + (["--model", str(args.model)] if args.model else []), check=True, stdout=subprocess.DEVNULL)
        files = sorted(part.glob("*.png"), key=lambda p: int(p.stem))
        assert len(files) == len(chosen), f"{len(files)} pictures for {len(chosen)} prompts"
        for i, path in zip(chosen, files):
            pictures[i] = np.asarray(Image.open(path).convert("RGB"))
    return pictures


def render_diffusers(args, samples, folder):
    import torch
    from diffusers import ZImagePipeline
    pipe = ZImagePipeline.from_pretrained(args.model or "assets/demo", torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    pictures = []
    for i, (s, (width, height)) in enumerate(samples):
        generator = torch.Generator().manual_seed(args.seed + i)
        p = pipe(s.caption, width=width, height=height, num_inference_steps=args.steps, guidance_scale=0.0, generator=generator, max_sequence_length=128)
        p.images[0].save(folder / f"{i}.png")
        pictures.append(np.asarray(p.images[0]))
    return pictures


def main():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("--binary", default="target/release/zimage")
    ap.add_argument("--model", type=Path, help="directory of the model (default: the binary's own; assets/demo with --diffusers)")
    ap.add_argument("--diffusers", action="store_true")
    ap.add_argument("--tries", type=int, default=600, help="drawn pictures to try the analyser on")
    ap.add_argument("--drawn", action="store_true", help="only try the analyser on drawn pictures")
    ap.add_argument("--seed", type=int, default=7)
    ap.add_argument("--steps", type=int, default=8)
    ap.add_argument("--out", type=Path, help="keep the pictures and report.json here")
    args = ap.parse_args()
    templates = Templates()
    drawn = held_out_samples(args.tries, seed=99)
    result, wrong = tally([np.asarray(render(s.scene, *size)) for s, size in drawn], drawn, templates)
    right, total = (sum(v[i] for v in result.values()) for i in (0, 1))
    print(f"analyser on {len(drawn)} drawn pictures: {right / total:.2%} right", {m: f"{a}/{b}" for m, (a, b) in result.items()})
    if args.drawn:
        return [print(w) for w in wrong]
    samples = held_out_samples()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.out or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        pictures = (render_diffusers if args.diffusers else render_binary)(args, samples, folder)
        result, wrong = tally(pictures, samples, templates)
        (folder / "report.json").write_text(json.dumps({"result": result, "wrong": wrong}, indent=1))
    for measure, (a, b) in result.items():
        bar = BARS.get(measure)
        print(f"{measure:11} {a:4}/{b:<4} {a / b:7.1%}" + (f"   bar {bar:.0%} {'met' if a / b >= bar else 'MISSED'}" if bar else ""))
    for w in wrong:
        print("  ", *w)


if __name__ == "__main__":
    main()
