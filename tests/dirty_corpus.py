"""Dirty input, made on the spot: image files and boxes with everything that has been seen wrong with them.

Every readable image shows the same picture, a bright mark on a dark ground, so that a test can look whether
it came out right, and whether a box still lies on the mark.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from data_worlds import encode
from PIL import Image
from PIL.PngImagePlugin import PngInfo

SIZE = (96, 64)
MARK = (8, 8, 40, 24)  # the mark's box on the picture as shown, xyxy
GROUND, BRIGHT = (30, 60, 110), (250, 230, 60)
MAX_PIXELS = 1_000_000  # what the tests allow; the bomb states more

_AS_STORED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}  # fmt: skip


@dataclass(frozen=True)
class DirtyImage:
    """A file, and what has to become of it: ``cause`` of its rejection, or None where it shows ``picture``.

    ``data`` is None where the file is not there. ``several``: it holds more pictures than the first.
    """

    data: bytes | None
    cause: str | None = None
    picture: Image.Image | None = None
    several: bool = False


def picture(mode: str = "RGB") -> Image.Image:
    """The mark on its ground, as it looks in ``mode``."""
    image = Image.new("RGB", SIZE, GROUND)
    image.paste(BRIGHT, MARK)
    return image.convert(mode)


def dirty_images() -> dict[str, DirtyImage]:
    """Files by name."""
    return (
        _colour_spaces() | _transparent() | _turned() | _of_several_pictures() | _odd_wrapping() | _damaged()
    )


def _colour_spaces() -> dict[str, DirtyImage]:
    colour, grey = picture(), picture("L")
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    negative = Image.fromarray(65535 - np.asarray(deep))
    packed = _packed(np.asarray(deep) >> 4, 12).ljust(2 * SIZE[0] * SIZE[1])
    twelve_bits = Image.frombytes("I;16", SIZE, packed)
    black_and_white = grey.point(lambda value: 255 * (value > 127)).convert("1")
    numbers = np.asarray(grey).astype(np.float32)
    return {
        "plain.jpg": _shows(encode(colour, "JPEG", quality=95), colour),
        "progressive.jpg": _shows(encode(colour, "JPEG", quality=95, progressive=True), colour),
        "cmyk adobe.jpg": _shows(encode(picture("CMYK"), "JPEG", quality=95), colour),
        "cmyk.tif": _shows(encode(picture("CMYK"), "TIFF"), colour),
        "grey.png": _shows(encode(grey, "PNG"), grey),
        "grey 16 bit.png": _shows(encode(deep, "PNG"), grey),
        "grey 16 bit.tif": _shows(encode(deep, "TIFF"), grey),
        "grey 16 bit, white is zero.tif": _shows(_tiff(negative, 262, 1, 0), grey),
        "grey 12 bit.tif": _shows(_tiff(twelve_bits, 258, 16, 12), grey),
        "rgb 16 bit.png": _shows(_png_16_bit(np.asarray(colour)), colour),
        "rgba 16 bit.png": _shows(_png_16_bit(np.asarray(picture("RGBA"))), colour),
        "palette.png": _shows(encode(colour.quantize(4), "PNG"), colour),
        "palette.gif": _shows(encode(colour.quantize(4), "GIF"), colour),
        "palette.bmp": _shows(encode(colour.quantize(4), "BMP"), colour),
        "1 bit.png": _shows(encode(black_and_white, "PNG"), black_and_white),
        "1 bit fax.tif": _shows(encode(black_and_white, "TIFF", compression="group4"), black_and_white),
        "lab.tif": _shows(encode(_lab(), "TIFF"), colour),
        "ycbcr.tif": _shows(encode(colour.convert("YCbCr"), "TIFF"), colour),
        "integers of 32 bits.tif": DirtyImage(
            encode(Image.fromarray(numbers.astype(np.int32)), "TIFF"), "unsupported_pixels"
        ),
        "floats.tif": DirtyImage(encode(Image.fromarray(numbers / 255), "TIFF"), "unsupported_pixels"),
    }


def _transparent() -> dict[str, DirtyImage]:
    """The ground is transparent, over black as careless writers leave it: it has to be shown white."""
    shown = Image.new("RGB", SIZE, "white")
    shown.paste(BRIGHT, MARK)
    clear = Image.new("RGBA", SIZE, (0, 0, 0, 0))
    clear.paste((*BRIGHT, 255), MARK)
    palette = Image.new("P", SIZE, 0)
    palette.putpalette([0, 0, 0, *BRIGHT])
    palette.paste(1, MARK)
    deep = Image.fromarray(np.asarray(shown.convert("L")).astype(np.uint16) * 257)
    return {
        "alpha.png": _shows(encode(clear, "PNG"), shown),
        "alpha.webp": _shows(encode(clear, "WEBP", lossless=True), shown),
        "alpha.tif": _shows(encode(clear, "TIFF"), shown),
        "alpha of grey.png": _shows(encode(clear.convert("LA"), "PNG"), shown.convert("L")),
        "palette with alpha.png": _shows(encode(palette, "PNG", transparency=bytes([0, 255])), shown),
        "palette with clear entry.png": _shows(encode(palette, "PNG", transparency=0), shown),
        "palette with clear entry.gif": _shows(encode(palette, "GIF", transparency=0), shown),
        "clear colour.png": _shows(
            encode(_on((1, 2, 3)), "PNG", transparency=(1, 2, 3)), shown
        ),
        "clear grey of 16 bits.png": _shows(
            encode(_with_ground(deep, 5), "PNG", transparency=5), shown.convert("L")
        ),
        "clear grey of 4 bits.png": _shows(_png_of_few_greys(4, 1, 11), _grey_mark(11 * 17)),
        "clear grey of 2 bits.png": _shows(_png_of_few_greys(2, 1, 2), _grey_mark(2 * 85)),
        "clear colour of 16 bits.png": DirtyImage(
            _png_16_bit(np.asarray(_on((1, 2, 3))), transparent=(257, 514, 771)), "unsupported_pixels"
        ),
    }  # fmt: skip


def _turned() -> dict[str, DirtyImage]:
    turned = {}
    for orientation in range(1, 9):
        stored = picture()
        if orientation in _AS_STORED:
            stored = stored.transpose(_AS_STORED[orientation])
        exif = Image.Exif()
        exif[0x0112] = orientation
        for form in ("JPEG", "PNG", "TIFF", "WEBP"):
            turned[f"exif {orientation}.{form.lower()}"] = _shows(encode(stored, form, exif=exif), picture())
    unknown = Image.Exif()
    unknown[0x0112] = 77
    exif = {
        "exif unknown.jpg": ("JPEG", unknown),
        "exif damaged.jpg": ("JPEG", b"Exif\0\0II*\0" + b"\xff" * 40),
        "exif cut off.png": ("PNG", b"Exif\0\0MM\0*\0\0\0\x08\0\x09"),
        "exif no exif.webp": ("WEBP", b"\0junk"),
    }
    for name, (form, block) in exif.items():
        turned[name] = _shows(encode(picture(), form, exif=block), picture())
    return turned


def _of_several_pictures() -> dict[str, DirtyImage]:
    """What is shown is the first."""
    others = [Image.new("RGB", SIZE, colour) for colour in ("red", "white")]
    several = {"save_all": True, "append_images": others}

    def first(form: str, **options) -> DirtyImage:
        return DirtyImage(encode(picture(), form, **several, **options), None, picture(), several=True)

    return {
        "animated.gif": first("GIF"),
        "animated.webp": first("WEBP", lossless=True),
        "animated.png": first("PNG"),
        "pages.tif": first("TIFF"),
        "phone.mpo": (phone := first("MPO", quality=95)),
        "phone, second picture cut off.jpg": replace(phone, data=phone.data[:-50]),
    }


def _odd_wrapping() -> dict[str, DirtyImage]:
    png, jpeg = encode(picture(), "PNG"), encode(picture(), "JPEG", quality=95)
    long = PngInfo()
    long.add_text("workflow", "node " * 300_000, zip=True)
    return {
        "long text.png": _shows(encode(picture(), "PNG", pnginfo=long), picture()),
        "long colour profile.png": _shows(encode(picture(), "PNG", icc_profile=bytes(1_500_000)), picture()),
        "preview within.jpg": _shows(encode(picture(), "JPEG", quality=95, comment=_preview()), picture()),
        "scan begins behind.jpg": _shows(jpeg + b"film\xff\xda" + bytes(100), picture()),
        "png by another name.jpg": _shows(png, picture()),
        "no suffix": _shows(jpeg, picture()),
        "garbage behind.jpg": _shows(jpeg + b"\0garbage" * 100, picture()),
        "garbage behind.png": _shows(png + b"<html>" * 100, picture()),
        "a.b.c..png": _shows(png, picture()),
        "ünïcode 雪 \U0001f600.png": _shows(png, picture()),
        "=._ __%2F&'\"\n.png": _shows(png, picture()),
    }


def _damaged() -> dict[str, DirtyImage]:
    noise = Image.effect_noise(SIZE, 80).convert("RGB")
    cut = {
        f"cut off.{form.lower()}": DirtyImage(data[: 2 * len(data) // 3], "corrupt_image")
        for form in ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP")
        for data in [encode(noise, form)]
    }
    filled = {
        f"filled with zeros, {name}": DirtyImage(data[: len(data) // 2] + bytes(len(data)), "corrupt_image")
        for name, data in {
            "plain.jpg": encode(noise, "JPEG"),
            "preview before.jpg": encode(noise, "JPEG", comment=_preview()),
            "plain.png": encode(noise, "PNG"),
        }.items()
    }
    return cut | filled | {
        "empty.jpg": DirtyImage(b"", "empty_image"),
        "one byte.jpg": DirtyImage(b"\xff", "not_an_image"),
        "zeros.jpg": DirtyImage(bytes(5000), "not_an_image"),
        "page.jpg": DirtyImage(b"<!DOCTYPE html><title>404</title>", "not_an_image"),
        "drawing.png": DirtyImage(b'<svg xmlns="http://www.w3.org/2000/svg"/>', "not_an_image"),
        "paper.jpg": DirtyImage(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3", "not_an_image"),
        "bomb.png": DirtyImage(_png(50_000, 50_000, 1, 0, bytes(50_000 // 8 + 1)), "too_large"),
        "bomb.gif": DirtyImage(_gif_of_size(65_000, 65_000), "too_large"),
        "no size.gif": DirtyImage(_gif_of_size(0, 0), "not_an_image"),
        "not there.jpg": DirtyImage(None, "missing_image"),
    }  # fmt: skip


def _shows(data: bytes, shown: Image.Image) -> DirtyImage:
    return DirtyImage(data, None, shown.convert("RGB"))


def _on(ground: tuple[int, int, int]) -> Image.Image:
    image = Image.new("RGB", SIZE, ground)
    image.paste(BRIGHT, MARK)
    return image


def _with_ground(image: Image.Image, value: int) -> Image.Image:
    ground = Image.new(image.mode, SIZE, value)
    ground.paste(image.crop(MARK), MARK)
    return ground


def _grey_mark(value: int, ground: int = 255) -> Image.Image:
    return _with_ground(Image.new("L", SIZE, value), ground)


def _preview() -> bytes:
    """A JPEG to lie in another's header."""
    return encode(Image.new("RGB", (16, 16)), "JPEG")


def _lab() -> Image.Image:
    from PIL import ImageCms

    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    return ImageCms.buildTransform(*profiles, "RGB", "LAB").apply(picture())


def _tiff(image: Image.Image, tag: int, value: int, other: int) -> bytes:
    """What Pillow reads but does not write: the image, with another value of a tag."""
    entry, changed = (struct.pack("<HHII", tag, 3, 1, number) for number in (value, other))
    return encode(image, "TIFF").replace(entry, changed)


def _png_of_few_greys(bits: int, ground: int, mark: int) -> bytes:
    """The same: a grey mark on a ground that is transparent, less than 8 bits a pixel."""
    raw = b"".join(b"\0" + _packed(row, bits) for row in np.asarray(_grey_mark(mark, ground)))
    return _png(*SIZE, bits, 0, raw, transparent=(ground,))


def _packed(values: np.ndarray, bits: int) -> bytes:
    """Unsigned numbers of ``bits`` bits, close together."""
    digits = "".join(f"{value:0{bits}b}" for value in values.flat)
    return int(digits, 2).to_bytes(len(digits) // 8, "big")


def _png_16_bit(pixels: np.ndarray, transparent: tuple[int, ...] = ()) -> bytes:
    """The same: 16 bits a channel."""
    height, width, channels = pixels.shape
    rows = (pixels.astype(">u2") * 257).astype(">u2").reshape(height, -1)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    return _png(width, height, 16, {3: 2, 4: 6}[channels], raw, transparent)


def _png(
    width: int, height: int, depth: int, colour_type: int, raw: bytes, transparent: tuple[int, ...] = ()
) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + (chunk(b"tRNS", struct.pack(f">{len(transparent)}H", *transparent)) if transparent else b"")
        + chunk(b"IDAT", zlib.compress(raw))
        + chunk(b"IEND", b"")
    )


def _gif_of_size(width: int, height: int) -> bytes:
    gif = bytearray(encode(picture("P"), "GIF"))
    gif[6:10] = struct.pack("<HH", width, height)
    frame = gif.index(b",\0\0\0\0" + struct.pack("<HH", *SIZE))
    gif[frame + 5 : frame + 9] = struct.pack("<HH", width, height)
    return bytes(gif)


def write_files(folder: Path, images: dict[str, DirtyImage]) -> Path:
    folder.mkdir(parents=True)
    for name, image in images.items():
        if image.data is not None:
            (folder / name).write_bytes(image.data)
    return folder
