"""The closed vocabulary of the miniature world. Small on purpose: a 128-wide model has minutes to learn all
of it."""

from __future__ import annotations

SHAPES = ("face", "square", "triangle", "cross", "ring")
COLOURS = {
    "red": (214, 40, 40),
    "green": (42, 157, 60),
    "blue": (36, 80, 210),
    "yellow": (250, 204, 21),
    "pink": (246, 130, 190),
    "black": (18, 18, 18),
}
TEXTURES = ("plain", "striped")
SIZES = {"small": 2, "large": 3}  # side in cells of the 64 px grid
PLACES = ("top left", "top", "top right", "left", "center", "right", "bottom left", "bottom", "bottom right")

# Printed on pages, signs, charts and receipts: at most four letters, so that a word spans two patches of 64
# px.
WORDS = (
    "tea", "milk", "rice", "cake", "fish", "soup", "corn", "salt",
    "egg", "ham", "pie", "jam", "nuts", "plum", "bean", "oat",
)  # fmt: skip
MAX_VALUE = 12
DOCUMENT_KINDS = ("text", "chart", "table", "receipt", "rich")
NUMBER_WORDS = ("zero", "one", "two", "three", "four")
