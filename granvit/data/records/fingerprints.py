"""Fingerprints: 64 bits that stay nearly the same when an image is resized, re-encoded or slightly cropped.

The hash is ImageHash's `phash` (the signs of the lowest 8 x 8 frequencies of a 32 x 32 grey thumbnail around
their median), so other tools that use that library find the same digits.
"""

from __future__ import annotations

import imagehash
import numpy as np
from PIL import Image
from scipy.fft import dctn

# The hash of an image that has nothing to compare: a blank page, a plain colour, a bare gradient. Most of its
# frequencies are zero or rounding, so their signs say nothing, and unlike images would share or nearly share
# them. Only equal bytes make such images duplicates (granvit.data.mixtures.contamination).
FEATURELESS = "0" * 16

_SIDE = 32
_FREQUENCIES = 8
# Half of the 64 frequencies have to lie this far from their median (orthonormal transform of 0-255): JPEG at
# quality 30 moves them by 0.7 on photographs and 1.2 on scans, and by 7 at least they lie apart on real ones.
_LEAST_AMPLITUDE = 1.0


def perceptual_hash(image: Image.Image) -> str:
    """16 hexadecimal digits for an image as shown (EXIF orientation applied); ``FEATURELESS`` for one whose
    frequencies are rounding noise.
    """
    thumbnail = image.convert("L").resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    low = dctn(np.asarray(thumbnail, np.float64), norm="ortho")[:_FREQUENCIES, :_FREQUENCIES]
    if np.median(np.abs(low - np.median(low))) < _LEAST_AMPLITUDE:
        return FEATURELESS
    return str(imagehash.phash(thumbnail, _FREQUENCIES, _SIDE // _FREQUENCIES))


def detail_hash(image: Image.Image) -> str:
    """64 hexadecimal digits: the same hash of 16 x 16 frequencies. Receipts and slides of one template share
    the coarse hash; their lines of text part here.
    """
    return str(imagehash.phash(image, 16))
