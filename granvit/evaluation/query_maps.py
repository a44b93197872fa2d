"""The maps of Figs. 1b, 8 and 9: some query points, and what each encoder makes of them, as plain files."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors.numpy import save

from granvit.boxes import Box
from granvit.config.figures import QueryPoints
from granvit.data.records.images import UnreadableImage, decode_rgb
from granvit.data.records.records import hash_key
from granvit.device import pick_device
from granvit.errors import GranvitError
from granvit.evaluation.heldout_regions import HeldOutImage, heldout_images
from granvit.evaluation.locality import look, query_patch
from granvit.files import replacing, write_json
from granvit.models.encoders import load_saved_encoder
from granvit.progress import Progress

PICTURE_SIDE = 640  # pixels of the longer side of a picture that is kept for drawing


@dataclass(frozen=True)
class Query:
    """A point (``x``, ``y``: pixels) on an image; ``key``: of its record, or the file of a user's own;
    ``box``: the region whose centre it is, None on a user's own image."""

    key: str
    picture: Image.Image
    x: float
    y: float
    box: Box | None


def choose_queries(
    images: Iterable[HeldOutImage], data_types: Mapping[str, str], wanted: QueryPoints, figure: str
) -> list[Query]:
    """The query points of a figure: the user's own, then those that hashes choose; fewer where the held-out
    images are fewer. ``data_types``: source -> natural or ocr.

    Raises GranvitError for an image that cannot be read, and for a source that ``data_types`` lacks.
    """
    fitting = (
        image
        for image in images
        if image.data_type(data_types) == wanted.data_type and len(image.boxes) >= wanted.min_boxes
    )
    queries = [_own(own.image, own.point) for own in wanted.own]
    for image in heapq.nsmallest(wanted.images, fitting, key=lambda image: _rank(figure, image.key)):
        picture = image.open()
        boxes = sorted(image.boxes, key=lambda box: _rank(figure, f"{image.key} {box}"))
        for box in boxes[: wanted.points]:
            x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
            queries.append(Query(image.key, picture, x, y, box))
    return queries


def _rank(figure: str, name: str) -> tuple[int, str]:
    return hash_key(name, figure), name


def _own(path: str, point: Sequence[float]) -> Query:
    try:
        picture = decode_rgb(Path(path).read_bytes())
    except (OSError, UnreadableImage) as error:
        raise GranvitError(
            f"config/figures.yaml: own: image {path!r} cannot be read ({error}); correct its path, or "
            "take it out"
        ) from error
    return Query(path, picture, point[0] * picture.width, point[1] * picture.height, None)


def map_queries(
    models: Mapping[str, str | Path],
    mixture: str | Path,
    data_types: Mapping[str, str],
    wanted: QueryPoints,
    out_maps: str | Path,
    out_points: str | Path,
    device: str = "auto",
    log: str | Path | None = None,
) -> None:
    """Write ``out_points`` (JSON: what is shown, and the query's patch in each encoder's grid) and
    ``out_maps`` (safetensors: ``{n}.picture`` uint8 (H, W, 3), ``{n}.{encoder}.attention`` and ``.cosine``
    fp32 (G, G) over the padded square).

    ``models``: name shown -> model folder. Raises GranvitError for what cannot be read.
    """
    figure = Path(out_points).stem
    queries = choose_queries(heldout_images(mixture), data_types, wanted, figure)
    points = [_facts(query) for query in queries]
    arrays = {f"{number}.picture": _thumbnail(query.picture) for number, query in enumerate(queries)}
    progress = Progress(len(models), f"maps {figure}", "encoders", log)
    for done, (name, model) in enumerate(models.items(), 1):
        encoder = load_saved_encoder(Path(model) / "encoder").to(pick_device(device))
        side = encoder.grid
        for number, query in enumerate(queries):
            patch = query_patch(query.x, query.y, *query.picture.size, side)
            maps = look(encoder, [encoder.preprocess(query.picture)])
            for kind, of in (("attention", maps.attention), ("cosine", maps.cosine)):
                arrays[f"{number}.{name}.{kind}"] = of(0, [patch])[0].reshape(side, side).cpu().numpy()
            points[number]["patches"][name] = {"grid": side, "row": patch // side, "column": patch % side}
        progress.update(done)
    with replacing(out_maps) as staged:
        staged.write_bytes(save(arrays))
    write_json(out_points, {"points": points}, sort_keys=False)


def _facts(query: Query) -> dict[str, Any]:
    """What a drawing needs to know of a query, and its sidecar says."""
    width, height = query.picture.size
    size = {"width": width, "height": height}
    point = [round(query.x / width, 4), round(query.y / height, 4)]
    return {"key": query.key, **size, "point": point, "box": query.box, "patches": {}}


def _thumbnail(picture: Image.Image) -> np.ndarray:
    small = picture.copy()
    small.thumbnail((PICTURE_SIDE, PICTURE_SIDE), Image.Resampling.LANCZOS)
    return np.asarray(small)
