"""PaddleOCR's model folders: one's own, or made from the files that a Python package carries."""

from __future__ import annotations

import shutil
import tempfile
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import yaml

from granvit.errors import GranvitError

CARRIER = "rapidocr"
CARRIED_MODELS = {
    "PP-OCRv6_small_det": "PP-OCRv6_det_small.onnx",
    "PP-OCRv6_small_rec": "PP-OCRv6_rec_small.onnx",
}
# The files that hold a model's weights, for each of PaddleOCR's engines; one set of them has to be there.
_WEIGHTS = {
    "onnxruntime": [["inference.onnx"]],
    "paddle": [["inference.json", "inference.pdiparams"], ["inference.pdmodel", "inference.pdiparams"]],
}
# What PaddleOCR's own inference.yml files say beside the model's name; the scale is 1/255.
_DETECTION = """
PreProcess:
  transform_ops:
  - DecodeImage: {channel_first: false, img_mode: BGR}
  - DetLabelEncode:
  - DetResizeForTest: {resize_long: 960}
  - NormalizeImage:
      {mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225], scale: 0.00392156862745098, order: hwc}
  - ToCHWImage:
  - KeepKeys: {keep_keys: [image, shape]}
PostProcess:
  {name: DBPostProcess, thresh: 0.3, box_thresh: 0.6, max_candidates: 1000, unclip_ratio: 1.5}
"""
_RECOGNITION = """
PreProcess:
  transform_ops:
  - DecodeImage: {channel_first: false, img_mode: BGR}
  - MultiLabelEncode:
  - RecResizeImg: {image_shape: [3, 48, 320]}
  - KeepKeys: {keep_keys: [image]}
PostProcess: {name: CTCLabelDecode}
"""


def model_folder(models_dir: str | Path, name: str, engine: str = "onnxruntime") -> Path:
    """The folder of model ``name``, in the layout PaddleOCR loads (``inference.yml`` and the engine's
    weights); made from the carrier package where it is missing.

    Safe for jobs that start at once: the folder appears under its name complete or not at all. Raises
    GranvitError, with the way to get it, for a model that is not there or not in the engine's format.
    """
    folder = Path(models_dir) / name
    if not (folder / "inference.yml").is_file():
        if name not in CARRIED_MODELS:
            raise GranvitError(
                f"{folder}: no inference.yml; put PaddleOCR's model folder {name} there ({_download(folder)} "
                f"and data.ocr.engine: paddle, or {_convert(folder)} for onnxruntime), or choose one of "
                f"{', '.join(CARRIED_MODELS)}, which the package {CARRIER} carries"
            )
        _unpack_carried(folder, name)
    _demand_weights(folder, engine)
    return folder


def _demand_weights(folder: Path, engine: str) -> None:
    if any(all((folder / file).is_file() for file in needed) for needed in _WEIGHTS[engine]):
        return
    expected = " or ".join(" + ".join(needed) for needed in _WEIGHTS[engine])
    if engine == "onnxruntime":
        remedy = f"convert it ({_convert(folder)}) or set data.ocr.engine: paddle"
    else:
        remedy = f"fetch PaddleOCR's own files ({_download(folder)}) or set data.ocr.engine: onnxruntime"
    raise GranvitError(f"{folder}: not a model for data.ocr.engine {engine!r}, no {expected} in it; {remedy}")


def _download(folder: Path) -> str:
    return f"`hf download PaddlePaddle/{folder.name} --local-dir {folder}`"


def _convert(folder: Path) -> str:
    return f"`paddlex --paddle2onnx --paddle_model_dir {folder} --onnx_model_dir {folder}`"


def _unpack_carried(folder: Path, name: str) -> None:
    onnx = _carried_file(CARRIED_MODELS[name])
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{name}.") as temporary:
        staged = Path(temporary) / name
        staged.mkdir()
        shutil.copyfile(onnx, staged / "inference.onnx")
        settings = yaml.safe_load(_DETECTION if name.endswith("_det") else _RECOGNITION)
        settings["Global"] = {"model_name": name}
        if not name.endswith("_det"):
            settings["PostProcess"]["character_dict"] = _carried_characters(onnx)
        (staged / "inference.yml").write_text(yaml.safe_dump(settings, allow_unicode=True), encoding="utf-8")
        try:
            staged.rename(folder)
        except OSError:  # another job was faster
            if not (folder / "inference.yml").is_file():
                raise


def _carried_file(file_name: str) -> Path:
    try:
        for file in files(CARRIER) or []:
            if file.name == file_name:
                return Path(file.locate())
    except PackageNotFoundError:
        pass
    raise GranvitError(
        f"OCR model {file_name} not found: the Python package {CARRIER} that carries it is not installed in "
        f"this environment; install the pinned requirements again (pip install --no-deps {CARRIER}==3.10.0)"
    )


def _carried_characters(onnx: Path) -> list[str]:
    """The characters the recogniser knows, in the order of its classes: the ONNX file carries them one a
    line.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(str(onnx), providers=["CPUExecutionProvider"])
    return session.get_modelmeta().custom_metadata_map["character"].split("\n")
