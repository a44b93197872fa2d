"""Detectron2's ViTDet behind the detector (Sec. 3); imported only when it is chosen.

Written against Detectron2's documented API (LazyConfig, instantiate, a model that takes a list of dicts
with ``image``, ``height``, ``width`` and returns ``instances``). Its DetectionCheckpointer is not used: it
unpickles whatever the file holds, and a checkpoint is data.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from granvit.data.annotators.detect import Detections
from granvit.errors import GranvitError

if TYPE_CHECKING:
    from torch import Tensor, nn

# All that a pickled dictionary of arrays needs. NumPy's own modules moved with its version 2.
_ARRAYS = {
    *(
        (f"numpy.{core}.multiarray", name)
        for core in ("core", "_core")
        for name in ("_reconstruct", "scalar")
    ),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("collections", "OrderedDict"),
    ("_codecs", "encode"),
}
# Buffers that checkpoints of older versions hold and models no longer do (Detectron2's own list).
_DROPPED = ("anchor_generator.cell_anchors", "pixel_mean", "pixel_std")


class Detectron2Backend:
    """A model that a lazy config describes, in the resolution that the config tests it at.

    ``config``: a ``.py`` lazy config inside its checkout of Detectron2, such as
    ``projects/ViTDet/configs/COCO/cascade_mask_rcnn_vitdet_h_75ep.py`` (it imports its neighbours);
    ``weights``: the published ``.pkl``, a ``.pth`` or a ``.safetensors``.
    """

    def __init__(self, config: str, weights: str | None, device: str):
        import torch

        from granvit.device import pick_device

        for key, value in (("model", config), ("weights", weights)):
            if value is None or not Path(value).is_file():
                raise GranvitError(
                    f"data.detector.{key} is {value!r}, which is no file; the back end detectron2 needs "
                    "`model` (a lazy config of a Detectron2 checkout, projects/ViTDet/configs/...) and "
                    "`weights` (its checkpoint, from the table in projects/ViTDet/README.md)"
                )
        try:
            from detectron2.config import LazyConfig, instantiate
        except ImportError as error:
            raise GranvitError(
                f"data.detector.backend is 'detectron2', which cannot be imported here ({error}); install it "
                "for this torch (https://detectron2.readthedocs.io/tutorials/install.html), or set "
                "data.detector.backend: transformers with a model of its kind"
            ) from error
        described = LazyConfig.load(str(config))
        self._torch, self._device = torch, pick_device(device)
        self._model = instantiate(described.model)
        _load_weights(self._model, Path(weights))
        self._model.eval().to(self._device)
        if getattr(getattr(self._model, "roi_heads", None), "mask_on", False):
            self._model.roi_heads.mask_on = False  # only boxes are asked for: saves the mask head's time
        padding = getattr(getattr(self._model, "backbone", None), "padding_constraints", {})
        self.pads_alike = padding.get("square_size", 0) > 0  # ViTDet's: a square of 1024 pixels
        self._bgr = getattr(self._model, "input_format", "BGR") == "BGR"
        self._resizes = instantiate(described.dataloader.test.mapper.augmentations)

    def prepare(self, image: Image.Image) -> dict[str, Tensor]:
        pixels = np.asarray(image)
        for resize in self._resizes:
            pixels = resize.get_transform(pixels).apply_image(pixels)
        if self._bgr:
            pixels = pixels[:, :, ::-1]
        return {"image": self._torch.from_numpy(np.array(pixels.transpose(2, 0, 1)))}

    def detect(self, prepared: list[dict[str, Tensor]], sizes: list[tuple[int, int]]) -> list[Detections]:
        asked = [
            {"image": tensors["image"].to(self._device), "height": height, "width": width}
            for tensors, (width, height) in zip(prepared, sizes, strict=True)
        ]
        with self._torch.inference_mode():
            answers = [answer["instances"].to("cpu") for answer in self._model(asked)]
        return [Detections(seen.pred_boxes.tensor, seen.scores, seen.pred_classes) for seen in answers]


def _load_weights(model: nn.Module, path: Path) -> None:
    """Fill the model from a checkpoint, entirely: a detector with some random weights finds boxes, too."""
    state = read_checkpoint(path)
    result = model.load_state_dict(state, strict=False)
    missing = [key for key in result.missing_keys if not key.endswith(_DROPPED)]
    unknown = [key for key in result.unexpected_keys if not any(name in key for name in _DROPPED)]
    if missing or unknown:
        raise GranvitError(
            f"{path}: not the weights of this model: {len(missing)} are missing "
            f"(such as {(missing or [None])[0]!r}), {len(unknown)} are unknown to it (such as "
            f"{(unknown or [None])[0]!r}); set data.detector.weights to the checkpoint that belongs to "
            "data.detector.model"
        )


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """A state dict from ``.safetensors``, from ``.pth`` (tensors only), or from a ``.pkl`` of Detectron2's
    model zoo, of which nothing but arrays is let in.

    Raises GranvitError for a file that holds anything else.
    """
    import torch

    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        if path.suffix == ".pkl":
            with open(path, "rb") as file:
                loaded = _ArrayUnpickler(file, encoding="latin1").load()
        else:
            loaded = torch.load(path, map_location="cpu", weights_only=True)
        state = loaded.get("model", loaded)
        return {name: torch.as_tensor(value) for name, value in state.items()}
    except (pickle.UnpicklingError, OSError, EOFError, AttributeError, TypeError, ValueError) as error:
        raise GranvitError(
            f"{path}: no checkpoint of arrays ({error}); fetch data.detector.weights again from the table in "
            "Detectron2's projects/ViTDet/README.md"
        ) from error


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ARRAYS:
            raise pickle.UnpicklingError(f"it wants to load {module}.{name}")
        return super().find_class(module, name)
