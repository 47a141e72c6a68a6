"""Pictures to send, and what must hold of pictures that come back."""

import base64
import io

from PIL import Image


class CheckFailed(Exception):
    """A client got something that it must not get."""


def ensure(condition, message):
    if not condition:
        raise CheckFailed(message)


def sample(size=64):
    """A picture to start from: two colours, so that it is no error to see only one in it."""
    image = Image.new("RGB", (size, size), (200, 40, 40))
    image.paste((40, 80, 200), (size // 2, 0, size, size))
    return image


def openai_mask(size=64):
    """Transparent in the left half: that is painted anew."""
    image = Image.new("RGBA", (size, size), (0, 0, 0, 255))
    image.paste((0, 0, 0, 0), (0, 0, size // 2, size))
    return image


def white_mask(size=64):
    """White in the left half: that is painted anew."""
    image = Image.new("L", (size, size), 0)
    image.paste(255, (0, 0, size // 2, size))
    return image


def png_file(image, name="picture.png"):
    """A file as the OpenAI SDK uploads it."""
    data = io.BytesIO()
    image.save(data, "PNG")
    return (name, data.getvalue(), "image/png")


def data_url(image):
    return "data:image/png;base64," + base64.b64encode(png_file(image)[1]).decode()


def check_bytes(data, size, kind="PNG", prompt=None):
    """Decodes a picture: its format, its size, more than one colour, and the metadata of how it was made."""
    image = Image.open(io.BytesIO(data))
    image.load()
    check_image(image, size)
    ensure(image.format == kind, f"a {image.format} instead of a {kind}")
    if prompt is not None:
        text = image.info.get("parameters", "") if kind == "PNG" else exif_comment(image)
        ensure(prompt in text, f"the metadata lacks the prompt: {text!r}")
    return image


def check_image(image, size):
    ensure(image.size == size, f"{image.size} instead of {size}")
    colours = image.convert("RGB").getcolors(maxcolors=1 << 24)
    ensure(len(colours) > 1, "the picture has one colour only")


def exif_comment(image):
    user_comment = 0x9286
    exif = image.getexif()
    comment = exif.get(user_comment) or exif.get_ifd(0x8769).get(user_comment, b"")
    return comment[8:].decode("utf-16-be", "replace")


def check_base64(text, size, kind="PNG", prompt=None):
    ensure(not text.startswith("data:"), "base64 with the head of a data URL")
    return check_bytes(base64.b64decode(text, validate=True), size, kind, prompt)
