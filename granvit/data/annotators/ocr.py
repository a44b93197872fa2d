"""PaddleOCR as the annotator of OCR images (Sec. 3), without a download.

PaddleOCR itself runs the PP-OCRv6 pipeline; its ONNX engine reads the model files that the wheel ``rapidocr``
carries (its code is never imported). A folder of one's own models, put under ``models_dir`` by its PaddleOCR
name, takes precedence, with either of the engines.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from granvit.boxes import clip_box
from granvit.config.data import FilterRules
from granvit.data.annotators.annotate import REPLACED, Annotated
from granvit.data.annotators.ocr_models import model_folder
from granvit.data.records.filters import describe_image_rules, let_in
from granvit.data.records.images import decode_rgb
from granvit.data.records.records import Region, Reject
from granvit.data.records.shards import Sample
from granvit.errors import GranvitError

LOW_SCORE = "ocr_score"


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
        """What read a page: for the provenance of its record."""
        side = f" side<={self.detection_side}" if self.detection_side else ""
        return f"paddleocr {version('paddleocr')} {self.detection} {self.recognition} {self.engine}{side}"

    def load(self):
        """The PaddleOCR pipeline: orientation and unwarping models off, because boxes refer to the image as
        it is.
        """
        folders = [
            str(model_folder(self.models_dir, name, self.engine))
            for name in (self.detection, self.recognition)
        ]
        if self.engine == "paddle" and find_spec("paddle") is None:
            raise GranvitError(
                "data.ocr.engine is 'paddle', but paddlepaddle is not installed in this environment; install "
                "it (pip install paddlepaddle==3.2.2), or set data.ocr.engine: onnxruntime"
            )
        os.environ["PADDLE_PDX_DISABLE_MODEL_SOURCE_CHECK"] = "True"
        # PaddleX makes its cache folder when it is imported, in the user's home if it is not told where.
        os.environ.setdefault("PADDLE_PDX_CACHE_HOME", str(Path(self.models_dir).resolve() / ".paddlex"))
        from paddleocr import PaddleOCR

        threads = {"intra_op_num_threads": self.threads, "inter_op_num_threads": 1}
        return PaddleOCR(
            text_detection_model_name=self.detection,
            text_detection_model_dir=folders[0],
            text_recognition_model_name=self.recognition,
            text_recognition_model_dir=folders[1],
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


class OcrReader:
    """Annotator: replaces a record's regions by the text lines that PaddleOCR reads in the image.

    Lines read with a confidence below ``min_score`` are rejected (``ocr_score``). Sec. 3: OCR images get
    local regions only, since a global description of a page says little. Images that the rules of ``filters``
    on size and shape drop are not read (None: all are).
    """

    batch_size = 1  # a page is a batch of lines already; and a killed job loses one page at most
    causes = (REPLACED, LOW_SCORE)

    def __init__(self, engine: OcrEngine, min_score: float, filters: FilterRules | None = None):
        self.engine, self.min_score, self.filters = engine, min_score, filters
        self._pipeline = None

    def describe(self) -> dict[str, str]:
        said = f"{self.engine.describe()} score>={self.min_score}"
        return {"ocr": said + (describe_image_rules(self.filters) if self.filters else "")}

    def annotate(self, samples: list[Sample]) -> list[Annotated]:
        if self._pipeline is None:
            self._pipeline = self.engine.load()
        return [self._annotate(sample) for sample in samples]

    def close(self) -> None:
        self._pipeline = None

    def _annotate(self, sample: Sample) -> Annotated:
        passes = not self.filters or let_in(sample.record, self.filters)
        lines = read_lines(self._pipeline, decode_rgb(sample.image)) if passes else []
        kept = [line for line in lines if line.score >= self.min_score]
        rejects = [Reject("region", REPLACED, 1)] * len(sample.record.regions)
        rejects += [Reject("region", LOW_SCORE, 1)] * (len(lines) - len(kept))
        return Annotated(replace(sample.record, regions=kept), rejects)


def read_lines(pipeline, image: Image.Image) -> list[Region]:
    """Text lines of an RGB image in PaddleOCR's reading order: upright boxes in whole pixels, text (empty
    where nothing could be made out), confidence 0-1.

    A line that runs at an angle gets the upright box around its four corners.
    """
    bgr = np.ascontiguousarray(np.asarray(image)[:, :, ::-1])
    (result,) = pipeline.predict(bgr)
    regions = []
    for polygon, text, score in zip(
        result["rec_polys"], result["rec_texts"], result["rec_scores"], strict=True
    ):
        corners = [*np.min(polygon, axis=0), *np.max(polygon, axis=0)]
        box = clip_box(corners, image.width, image.height)
        if box[2] > box[0] and box[3] > box[1]:
            regions.append(Region(box, text.strip(), round(float(score), 4)))
    return regions
