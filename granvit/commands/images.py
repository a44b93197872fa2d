"""``granvit describe | locate | caption | ask | attention``: what a trained model says about one image."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from granvit.commands.asked import own_output, positive, say
from granvit.commands.chosen_model import chosen_model, model_options
from granvit.errors import GranvitError

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

    from granvit.evaluation.own_images import Region

_LONGEST = {"describe": 48, "locate": 32, "caption": 256, "ask": 128}  # open: tokens of an answer
_KINDS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}


def add_commands(groups: Any) -> None:
    """Add the five commands to the command line."""
    describe = _command(
        groups, "describe", run_describe, "what is in a box, around a point, or in the whole image",
        "granvit describe photo.jpg --box 40,60,320,300; granvit describe photo.jpg --point 0.5,0.4",
    )  # fmt: skip
    place = describe.add_mutually_exclusive_group()
    place.add_argument("--box", metavar="X1,Y1,X2,Y2", help="pixels, or fractions of the image (all up to 1)")
    place.add_argument("--point", metavar="X,Y", help="the same; a square of a quarter of the shorter side")

    locate = _command(
        groups, "locate", run_locate, "where a text's thing is; draws its box on a copy",
        'granvit locate photo.jpg "the red square" --out found.png',
    )  # fmt: skip
    locate.add_argument("text", help="what to look for")
    locate.add_argument("--out", help="the picture with the box (IMAGE-located.png, in this folder)")

    _command(groups, "caption", run_caption, "what the image shows, in a paragraph", "granvit caption a.png")

    ask = _command(
        groups, "ask", run_ask, "an answer to a question about the image",
        'granvit ask receipt.png "What is the total?" --run mini/sft-granvit',
    )  # fmt: skip
    ask.add_argument("question", help="as it is given to the model")

    attention = _command(
        groups, "attention", run_attention, "what the encoder looks at from a point; draws the map on a copy",
        "granvit attention photo.jpg --point 210,95",
    )  # fmt: skip
    attention.add_argument("--point", metavar="X,Y", required=True, help="pixels, or fractions of the image")
    attention.add_argument("--out", help="the picture with the map (IMAGE-attention.png, in this folder)")


def _command(groups: Any, name: str, run: Any, words: str, example: str) -> argparse.ArgumentParser:
    command = groups.add_parser(
        name, help=words, description=words, epilog=f"example: {example} "
        "(exit status: 0 answered, 1 not, with one line that says why, 2 wrong usage)",
    )  # fmt: skip
    command.add_argument("image", help="file of an image, shown as a browser shows it (EXIF applied)")
    model_options(command)
    command.add_argument("--device", default="auto", help="auto | cpu | cuda | npu")
    command.add_argument("--json", action="store_true", help="print JSON instead of the answer alone")
    if name in _LONGEST:
        longest = _LONGEST[name]
        command.add_argument(
            "--max-new-tokens", type=int, default=longest, metavar="N", help=f"longest answer ({longest})"
        )
    command.set_defaults(run=run)
    return command


def run_describe(arguments: argparse.Namespace) -> int:
    """Print what a box shows."""
    from granvit.boxes import format_box
    from granvit.data.records.prompts import bbox2caption_question
    from granvit.evaluation.own_images import open_picture, relative
    from granvit.reporting.finished_runs import DESCRIBE

    picture = open_picture(arguments.image)
    region = _region(arguments, picture)
    box = {"pixels": [round(value, 2) for value in region.box], "read_as": region.read_as}
    box["fractions"] = relative(region.box, *picture.size)
    say(f"box: {_numbers(box['pixels'])} pixels of {picture.width} x {picture.height} ({region.read_as})")
    question = bbox2caption_question(format_box(region.box, *picture.size))
    facts = _answer(arguments, picture, question, DESCRIBE)
    _print(arguments, facts | {"box": box}, facts["answer"])
    return 0


def _region(arguments: argparse.Namespace, picture: Image) -> Region:
    """The box that is meant, and how it was read."""
    from granvit.evaluation.own_images import Region, around_point, read_box, read_point

    if arguments.box is not None:
        region = read_box(arguments.box, *picture.size)
        return Region(region.box, f"read as {region.read_as}")
    if arguments.point is not None:
        x, y, read_as = read_point(arguments.point, *picture.size)
        return Region(around_point(x, y, *picture.size), f"around a point read as {read_as}")
    return Region([0.0, 0.0, *map(float, picture.size)], "the whole image")


def run_locate(arguments: argparse.Namespace) -> int:
    """Print the box that the model gives and draw it; status 1 where its answer is none."""
    from granvit.boxes import parse_box
    from granvit.data.records.prompts import caption2bbox_question
    from granvit.evaluation.own_images import located, open_picture, require_words
    from granvit.reporting.finished_runs import LOCATE

    text = require_words(arguments.text, "the text to look for")
    out = _output(arguments, "located")
    picture = open_picture(arguments.image)
    facts = _answer(arguments, picture, caption2bbox_question(text), LOCATE)
    fractions = parse_box(facts["answer"])
    pixels = located(fractions, *picture.size)
    facts["box"] = {"pixels": pixels, "fractions": fractions} if pixels else None
    facts["drawn"] = str(out) if pixels else None
    if pixels:
        _draw_box(picture, pixels)
        _save(picture, out)
        say(f"drawn on {out}")
    _print(arguments, facts, f"{_numbers(pixels)} pixels" if pixels else facts["answer"])
    if not pixels:
        say(f"error: the answer is no box: {facts['answer']!r}")
    return int(not pixels)


def run_caption(arguments: argparse.Namespace) -> int:
    """Print a caption of the whole image."""
    from granvit.data.records.prompts import GLOBAL_CAPTION_QUESTION
    from granvit.evaluation.own_images import open_picture
    from granvit.reporting.finished_runs import CAPTION

    facts = _answer(arguments, open_picture(arguments.image), GLOBAL_CAPTION_QUESTION, CAPTION)
    _print(arguments, facts, facts["answer"])
    return 0


def run_ask(arguments: argparse.Namespace) -> int:
    """Print the answer to a question."""
    from granvit.evaluation.own_images import open_picture, require_words
    from granvit.reporting.finished_runs import ASK

    require_words(arguments.question, "the question")
    facts = _answer(arguments, open_picture(arguments.image), arguments.question, ASK)
    _print(arguments, facts, facts["answer"])
    return 0


def run_attention(arguments: argparse.Namespace) -> int:
    """Draw where the encoder looks from a point's patch, and say where most."""
    from granvit.evaluation.own_images import open_picture, read_point

    out = _output(arguments, "attention")
    picture = open_picture(arguments.image)
    x, y, read_as = read_point(arguments.point, *picture.size)
    folder, label = chosen_model(arguments, None)
    with own_output():
        values, patch = _attention(folder, picture, (x, y), arguments.device)
    grid = len(values)
    from granvit.reporting.map_figures import overlaid, patch_box, stretched

    row, column = divmod(patch, grid)
    most = dict(zip(("row", "column"), map(int, divmod(int(values.argmax()), grid)), strict=True))
    drawn = overlaid(picture, stretched(values, *picture.size))
    _draw_box(drawn, patch_box({"row": row, "column": column, "grid": grid}, *picture.size))
    _save(drawn, out)
    facts = _facts(arguments, picture, folder, label) | {
        "point": {"pixels": [round(x, 2), round(y, 2)], "read_as": read_as},
        "grid": grid, "patch": {"row": row, "column": column}, "most": most,
        "attention": [[round(float(value), 6) for value in line] for line in values], "drawn": str(out),
    }  # fmt: skip
    at = patch_box({**most, "grid": grid}, *picture.size)
    say(f"point: {_numbers([round(x, 2), round(y, 2)])} pixels (read as {read_as}); drawn on {out}")
    words = f"looks most at {_numbers([round(value, 1) for value in at])} pixels, "
    _print(arguments, facts, f"{words}{100 * float(values.max()):.1f} % of its attention")
    return 0


def _attention(
    folder: Path, picture: Image, point: tuple[float, float], device: str
) -> tuple[np.ndarray, int]:
    """The map (grid, grid) of the patch that holds a point (pixels), and that patch."""
    from granvit.device import pick_device
    from granvit.evaluation.locality import look, query_patch
    from granvit.models.encoders import load_saved_encoder

    place = folder if (folder / "preprocessor_config.json").is_file() else folder / "encoder"
    encoder = load_saved_encoder(place).to(pick_device(device))
    patch = query_patch(*point, *picture.size, encoder.grid)
    values = look(encoder, [encoder.preprocess(picture)]).attention(0, [patch])[0]
    return values.reshape(encoder.grid, encoder.grid).cpu().numpy(), patch


def _answer(arguments: argparse.Namespace, picture: Image, question: str, ability: str) -> dict[str, Any]:
    """What is printed as JSON: the model, the question and its answer."""
    positive(arguments, "max_new_tokens")
    folder, label = chosen_model(arguments, ability)
    with own_output():
        from granvit.evaluation.toolkits import Answerer

        answerer = Answerer(folder, arguments.device)
        answer = answerer.answer([[picture]], [question], arguments.max_new_tokens)[0]
    return _facts(arguments, picture, folder, label) | {"question": question, "answer": answer}


def _facts(arguments: argparse.Namespace, picture: Image, folder: Path, label: str | None) -> dict[str, Any]:
    size = {"width": picture.width, "height": picture.height}
    return {"image": arguments.image, **size, "model": str(folder), "run": label}


def _output(arguments: argparse.Namespace, what: str) -> Path:
    """Where the copy is drawn; told before a model is loaded."""
    out = Path(arguments.out or f"{Path(arguments.image).stem}-{what}.png")
    if out.suffix.lower() not in _KINDS:
        raise GranvitError(f"--out {out}: expected a file that ends with {', '.join(_KINDS)}")
    if out.resolve() == Path(arguments.image).resolve():
        raise GranvitError(f"--out {out}: that is the image itself; give another file")
    return out


def _draw_box(picture: Image, box: list[float]) -> None:
    """A red rectangle with a white rim."""
    from PIL import ImageDraw

    thick = max(2, round(max(picture.size) / 200))
    draw, corners = ImageDraw.Draw(picture), [round(value) for value in box]
    draw.rectangle([corners[0] - 1, corners[1] - 1, corners[2] + 1, corners[3] + 1], None, "white", thick + 2)
    draw.rectangle(corners, None, "#e00024", thick)


def _save(picture: Image, out: Path) -> None:
    from granvit.files import replacing

    with replacing(out) as staged:
        picture.save(staged, format=_KINDS[out.suffix.lower()])


def _numbers(values: list[float]) -> str:
    return ",".join(f"{value:g}" for value in values)


def _print(arguments: argparse.Namespace, facts: dict[str, Any], words: str) -> None:
    print(json.dumps(facts, indent=2, ensure_ascii=False) if arguments.json else words)
