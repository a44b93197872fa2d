"""The models behind the detector: any that transformers loads, or Detectron2's ViTDet (Sec. 3).

Detectron2 is imported only where it is chosen. Its back end is written against its documented API
(LazyConfig, instantiate, a model that takes a list of dicts with ``image``, ``height``, ``width`` and returns
``instances``). Its DetectionCheckpointer is not used: it unpickles whatever the file holds, and a checkpoint
is data.
"""

from __future__ import annotations

import os
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from PIL import Image

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


@dataclass(frozen=True)
class Detections:
    """What a model sees in one image: ``boxes (N, 4)`` xyxy in pixels of that image, ``scores (N)`` 0-1,
    ``labels (N)`` class numbers; on the CPU.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor


class Backend(Protocol):
    """A detection model. ``prepare`` makes an image ready by itself, as tensors by name; ``detect`` takes
    images that may share a batch, with their sizes (width, height) as shown: those whose tensors have equal
    shapes, or any where ``pads_alike`` (the model brings every image to one size by itself).
    """

    pads_alike: bool

    def prepare(self, image: Image.Image) -> dict[str, Tensor]: ...

    def detect(self, prepared: list[dict[str, Tensor]], sizes: list[tuple[int, int]]) -> list[Detections]: ...


class TransformersBackend:
    """Any ``AutoModelForObjectDetection`` with its image processor, from a folder or by hub id."""

    pads_alike = False

    def __init__(self, model: str, device: str):
        import torch
        from transformers import AutoImageProcessor, AutoModelForObjectDetection

        from granvit.device import pick_device

        self._torch, self._device = torch, pick_device(device)
        if Path(model).is_absolute() or model.startswith(".") or os.path.exists(model):
            _demand_model_folder(model)
        try:
            self._processor = AutoImageProcessor.from_pretrained(model)
            loaded, info = AutoModelForObjectDetection.from_pretrained(model, output_loading_info=True)
        except (OSError, ValueError) as error:
            raise GranvitError(
                f"data.detector.model is {model!r}, which is no object detection model that transformers can "
                f"load ({str(error).splitlines()[0]}); name a folder with config.json, model.safetensors and "
                "preprocessor_config.json, or a hub id"
            ) from error
        if info["missing_keys"]:
            raise GranvitError(
                f"data.detector.model is {model!r}, whose checkpoint lacks {len(info['missing_keys'])} of "
                f"the detector's weights, such as {sorted(info['missing_keys'])[0]!r}: it was not trained to "
                "detect; name a detection checkpoint"
            )
        if not hasattr(self._processor, "post_process_object_detection"):
            raise GranvitError(
                f"data.detector.model is {model!r}, whose {type(self._processor).__name__} gives no boxes; "
                "name a model whose image processor has post_process_object_detection"
            )
        self._model = loaded.eval().to(self._device)

    def prepare(self, image: Image.Image) -> dict[str, Tensor]:
        return dict(self._processor(images=[image], return_tensors="pt"))

    def detect(self, prepared: list[dict[str, Tensor]], sizes: list[tuple[int, int]]) -> list[Detections]:
        inputs = {
            name: self._torch.cat([tensors[name] for tensors in prepared]).to(self._device)
            for name in prepared[0]
        }
        with self._torch.inference_mode():
            outputs = self._model(**inputs)
        heights_widths = [(height, width) for width, height in sizes]
        # Threshold 0: transformers keeps scores above it, the configuration says "or more".
        seen = self._processor.post_process_object_detection(
            outputs, threshold=0.0, target_sizes=heights_widths
        )
        return [Detections(one["boxes"].cpu(), one["scores"].cpu(), one["labels"].cpu()) for one in seen]


def _demand_model_folder(model: str) -> None:
    if not (Path(model) / "config.json").is_file():
        raise GranvitError(
            f"data.detector.model is {model!r}: no config.json there; put the model's folder in that place "
            "(transformers' layout: config.json, model.safetensors, preprocessor_config.json)"
        )


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
