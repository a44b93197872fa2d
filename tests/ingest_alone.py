"""A process that catalogues and ingests a COCO source, for tests that kill it or listen to it.

Its last line says how many files of the source it still holds open: ``ingest_alone.py SOURCE OUT TIMES``.
"""

from __future__ import annotations

import sys
from pathlib import Path

from data_worlds import ingest, spec
from dirty_corpus import MAX_PIXELS

if __name__ == "__main__":
    root, out, times = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    for number in range(times):
        ingest(spec(root, captions="none"), out / str(number), max_pixels=MAX_PIXELS)
    print(sum(str(root) in str(link.resolve()) for link in Path("/proc/self/fd").iterdir()))
