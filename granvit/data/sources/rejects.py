"""What is left out of a shard: listed one by one, counted by cause, and too much of it is an error."""

from __future__ import annotations

import csv
import math
from collections import Counter
from pathlib import Path
from typing import TextIO

from granvit.data.records.records import REJECT_COLUMNS, Reject
from granvit.errors import GranvitError
from granvit.progress import write_log

# Published files hold these on purpose: LLaVA's questions without an image, COCO's boxes around crowds, VOC's
# difficult objects. They are counted, but say nothing about damage, which is what the limit is for.
_NO_DAMAGE = {"no_image", "crowd_annotation", "difficult_object"}
_EXAMPLES = 3
CUT = "box_cut"  # a cause that costs no region, but the part of its box that is not on the image


class Ledger:
    """Images and regions of one shard: how many came in, how many went out, and what became of the rest.

    ``file``: the open rejects file, which gets a row (REJECT_COLUMNS) the moment something is rejected, so
    that memory does not grow with a source's faults; ``folder``: where the source lies, for messages. Always,
    for images and for regions: in = out + rejected.
    """

    def __init__(self, file: TextIO, folder: str = ""):
        self.folder = folder
        self._rows = csv.writer(file, lineterminator="\n")
        self._rows.writerow(REJECT_COLUMNS)
        self.images_in = self.images_out = self.regions_in = self.regions_out = 0
        self._causes: Counter[tuple[str, str]] = Counter()
        self._examples: dict[tuple[str, str], list[str]] = {}
        self._harmless: Counter[str] = Counter()
        self._cuts = self._cut_squares = 0
        self._squares = 0  # of how many regions each image lost, over all images

    def add(self, key: str, regions: int | None, rejects: list[Reject], path: str) -> None:
        """Enter an image that came in: ``regions`` that went out with it (None: it was rejected itself),
        everything it lost, and its ``path`` below the folder, for people."""
        self.images_in += 1
        self.images_out += regions is not None
        self.regions_out += regions or 0
        self.regions_in += (regions or 0) + sum(reject.regions for reject in rejects)
        lost = 0
        for reject in rejects:
            self._rows.writerow([key, reject.what, reject.cause, reject.regions, path])
            self._causes[reject.what, reject.cause] += 1
            examples = self._examples.setdefault((reject.what, reject.cause), [])
            if len(examples) < _EXAMPLES:
                examples.append(path)
            # An image that is not named, but has boxes, was lost: its annotations belong to something.
            if reject.cause in _NO_DAMAGE and (reject.what == "region" or not reject.regions):
                self._harmless[reject.what] += 1
            else:
                lost += reject.regions
        self._squares += lost**2
        cuts = sum(reject.cause == CUT for reject in rejects)
        self._cuts += cuts
        self._cut_squares += cuts**2

    def counts(self) -> list[int]:
        """Images in and out, regions in and out: the last columns of a counts file."""
        return [self.images_in, self.images_out, self.regions_in, self.regions_out]

    def summary(self) -> str:
        """One line for people: what went out, and the causes of what did not."""
        causes = ", ".join(f"{cause} {count}" for (_, cause), count in self._largest_first())
        return (
            f"{self.images_out} of {self.images_in} images, {self.regions_out} of {self.regions_in} regions"
            f" | left out: {causes or 'nothing'}"
        )

    def check(
        self,
        max_share: float,
        source: str,
        rejects: Path,
        log: str | Path | None,
        sampled: bool = False,
        advice: str = "",
    ) -> None:
        """Raise GranvitError where more than ``max_share`` of the images, or of the regions, were rejected.

        ``sampled``: this is one of the source's several shards, a sample of its images, so that the limit is
        passed only where chance does not explain it (two standard deviations): one bad image of six says
        little about a source. The error says which, how many and why; the whole list, ``rejects``, goes into
        the log, since a failed job's outputs are deleted. ``advice``: how boxes may have to be read instead.
        """
        # Where not one image is left, none of them was left out on purpose.
        images = self.images_in - (self._harmless["image"] if self.images_out else 0)
        regions = self.regions_in - self._harmless["region"]
        for what, came, left in (("image", images, self.images_out), ("region", regions, self.regions_out)):
            rejected = came - left
            together = self._squares / rejected if what == "region" and rejected else 1.0
            if rejected > _limit(max_share, came, together, sampled):
                break
        else:
            return
        causes = "; ".join(
            f"{of} {cause}: {count}, such as {', '.join(self._examples[of, cause])}"
            for (of, cause), count in self._largest_first()
        )
        where = f"the whole list is in {log}" if log else "give a log to have the whole list"
        if log:
            with open(rejects, encoding="utf-8") as file:
                for line in file:
                    write_log(log, line.rstrip("\n"))
        hint = f"{advice}. " if advice and what == "region" else ""
        raise GranvitError(
            f"{source}: {rejected} of {came} {what}s were rejected, a share of {rejected / came:.3f}; "
            f"data.max_reject_share allows {max_share}. {causes} (below {self.folder}). {hint}"
            f"Fix the raw data ({where}), or raise data.max_reject_share in the configuration to go on "
            "without them"
        )

    def check_cuts(self, max_share: float, source: str, sampled: bool, advice: str) -> None:
        """Raise GranvitError where more than ``max_share`` of the regions that went out were cut at their
        image's border by more than a rounding error; ``sampled`` and ``advice`` as for ``check``."""
        together = self._cut_squares / self._cuts if self._cuts else 1.0
        if self._cuts > _limit(max_share, self.regions_out, together, sampled):
            raise GranvitError(
                f"{source}: {self._cuts} of {self.regions_out} boxes reach beyond their images and would be "
                f"cut, such as in {', '.join(self._examples['region', CUT])}; data.max_cut_share allows "
                f"{max_share}. {advice or 'No other way to read them fits better'}. Correct the row or the "
                "raw data, or raise data.max_cut_share in the configuration to have them cut"
            )

    def _largest_first(self) -> list[tuple[tuple[str, str], int]]:
        return sorted(self._causes.items(), key=lambda entry: (-entry[1], entry[0]))


def _limit(max_share: float, came: int, together: float, sampled: bool) -> float:
    """How many of ``came`` may be lost.

    A shard is a sample, so its share may lie above the source's by chance: by two standard deviations at
    most. Boxes that are lost image by image vary more than boxes that are lost one by one: ``together`` is
    the mean size of the groups in which they went.
    """
    slack = 2 * math.sqrt(max_share * came * together) if sampled else 0.0
    return max_share * came + slack
