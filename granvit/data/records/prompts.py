"""The paper's three question forms, word for word (Sec. 3, "Data Reformatting")."""

from __future__ import annotations

GLOBAL_CAPTION_QUESTION = "Describe in detail what is shown in the image in one paragraph"


def bbox2caption_question(box_text: str) -> str:
    """``box_text`` as ``granvit.boxes.format_box`` writes it, brackets included (Figs. 10 and 13)."""
    return (
        f"Describe the content contained within the normalized bounding box coordinates {box_text} "
        "in no more than 10 words."
    )


def caption2bbox_question(text: str) -> str:
    """``text`` is a region's caption (Figs. 11 and 12)."""
    return f"Please provide the bounding box coordinate of the region this sentence describes: {text}"
