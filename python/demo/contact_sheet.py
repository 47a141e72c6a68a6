"""Renders 40 fixed prompts into one picture with the prompts under them: docs/demo-contact-sheet.png.

Run:  python python/demo/contact_sheet.py --binary target/release/zimage       (or --diffusers)
"""

import argparse
import tempfile
from pathlib import Path
from types import SimpleNamespace

from PIL import Image, ImageDraw, ImageFont

from draw import CREAM, INK
from evaluate import render_binary, render_diffusers

SQUARE, WIDE, TALL = (128, 128), (160, 96), (96, 160)
PROMPTS = [
    ("a red balloon over the sea", SQUARE), ("a red fox in the snow", SQUARE), ("a house in the snow at night", SQUARE),
    ("a white sailboat at sunset on the sea", SQUARE), ("a rocket among the stars", SQUARE), ("a pink flower on a teal background", SQUARE),
    ("a cat at night", SQUARE), ("a yellow sun over the mountains", SQUARE),
    ("three yellow stars on a blue background", SQUARE), ("a red mushroom in a meadow", SQUARE), ("an orange fish on a blue background", SQUARE),
    ("a blue car in the desert at sunset", SQUARE), ("a purple balloon above a white cat", SQUARE), ("a big red heart", SQUARE),
    ("a teal circle left of an orange square", SQUARE), ("the moon at night in the clouds", SQUARE),
    ("a yellow house in a meadow", WIDE), ("a red sailboat on the sea", WIDE), ("two pink fish on a blue background", WIDE),
    ("a fox in the mountains at night", WIDE), ("an orange car in the snow", WIDE), ("a green tree and a red house in a meadow", WIDE),
    ("the desert at night", WIDE), ("a black cat on a yellow background", WIDE),
    ("an outlined yellow star on a purple background", SQUARE), ("a small blue boat at the bottom", SQUARE), ("a white rocket in the night", SQUARE),
    ("a purple diamond on a yellow background", SQUARE), ("three red balloons in the sky", SQUARE), ("a gray kitten next to a red mushroom", SQUARE),
    ("an orange fox on a teal background", SQUARE), ("a green triangle above a pink circle", SQUARE),
    ("a red balloon over the sea at sunset", TALL), ("a rocket in the sky", TALL), ("a tree in the snow", TALL), ("a purple flower on an orange background", TALL),
    ("two white stars in the night", TALL), ("a mushroom", TALL), ("a yellow balloon above a blue house", TALL), ("an outlined fish on a pink background", TALL),
]
CELL, GAP, LABEL, COLUMNS = 176, 12, 34, 8


def wrap(draw, text, font, width):
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if draw.textlength(longer, font) > width and lines[-1]:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def compose(pictures):
    tiles = []
    for picture in pictures:
        tile = Image.fromarray(picture)
        scale = CELL / max(tile.size)
        tiles.append(tile.resize((round(tile.width * scale), round(tile.height * scale)), Image.LANCZOS))
    rows = [tiles[i:i + COLUMNS] for i in range(0, len(tiles), COLUMNS)]
    # A row is as high as its highest picture: wide pictures need less.
    heights = [max(t.height for t in row) for row in rows]
    size = (COLUMNS * (CELL + GAP) + GAP, sum(heights) + len(rows) * (LABEL + GAP) + GAP)
    sheet, y = Image.new("RGB", size, CREAM), GAP
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=12)
    for r, (row, height) in enumerate(zip(rows, heights)):
        for k, tile in enumerate(row):
            x = GAP + k * (CELL + GAP)
            sheet.paste(tile, (x + (CELL - tile.width) // 2, y + height - tile.height))
            for n, line in enumerate(wrap(draw, PROMPTS[r * COLUMNS + k][0], font, CELL)[:2]):
                draw.text((x + CELL / 2, y + height + 4 + 14 * n), line, INK, font, anchor="ma")
        y += height + LABEL + GAP
    return sheet


def main():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("--binary", default="target/release/zimage")
    ap.add_argument("--model", type=Path)
    ap.add_argument("--diffusers", action="store_true")
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--steps", type=int, default=8)
    ap.add_argument("--out", type=Path, default=Path("docs/demo-contact-sheet.png"))
    args = ap.parse_args()
    samples = [(SimpleNamespace(caption=prompt), size) for prompt, size in PROMPTS]
    with tempfile.TemporaryDirectory() as folder:
        pictures = (render_diffusers if args.diffusers else render_binary)(args, samples, Path(folder))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    compose(pictures).save(args.out, optimize=True)


if __name__ == "__main__":
    main()
