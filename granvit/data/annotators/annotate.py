"""Annotate: records get their boxes and texts (step 2 of the data flow).

What writes them is an `Annotator`: the detector, the captioner, OCR. A shard goes through its source's
annotators chunk by chunk; each finished chunk is one line of a journal, so that a killed job goes on where it
stopped and ends in the same bytes.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Protocol, Self, TextIO

from granvit.data.records.records import COUNT_COLUMNS, NO_TEXT, REJECT_COLUMNS, Record, Reject
from granvit.data.records.shards import Sample, count_samples, read_shard
from granvit.files import remove_leftovers, replacing, write_csv
from granvit.progress import Progress

REPLACED = "replaced_by_annotator"  # a region of the source's own, where the annotator finds its own


@dataclass
class Annotated:
    """What an annotator made of one sample: the new record, and what it left out of it.

    A region that is rejected is not in the record, so regions in = regions kept + regions rejected.
    """

    record: Record
    rejects: list[Reject] = field(default_factory=list)


class Annotator(Protocol):
    """Writes boxes, texts or captions into records.

    ``batch_size``: how many samples ``annotate`` is given at once, at most; they come back in their order,
    and no sample's result depends on its company. ``describe``: every setting that decides the outcome; it
    goes into the records' provenance and the journal's first line. An attribute ``causes``, where there is
    one, names the causes of rejection that the counts list even where nothing fell to them.
    """

    batch_size: int

    def describe(self) -> dict[str, str]: ...

    def annotate(self, samples: list[Sample]) -> list[Annotated]: ...

    def close(self) -> None: ...


def annotate_shard(
    in_tar: str | Path,
    out_jsonl: str | Path,
    out_rejects: str | Path,
    out_counts: str | Path,
    annotators: Sequence[Annotator],
    journal: str | Path | None = None,
    log: str | Path | None = None,
) -> None:
    """Write the shard's records as the annotators, in their order, leave them; without any, as the source
    gave them (UMG-41M's boxes and captions are kept, Sec. 3).

    Whoever annotates, a region that ends without a text is rejected (``no_region_text``): nothing could be
    asked about it. ``out_rejects`` lists what was left out (REJECT_COLUMNS). ``out_counts`` has a row for
    each cause, on what the causes before it left, and the row ``annotate`` with the outcome; its
    ``regions_in`` are those the source gave and those the annotators found. ``journal``: where finished work
    is kept while the job runs; it is removed when the outputs are written.
    """
    remove_leftovers(out_jsonl, out_rejects, out_counts)
    in_tar = Path(in_tar)
    progress = Progress(count_samples(in_tar), f"annotate {in_tar.parent.name}/{in_tar.stem}", "images", log)
    tally = Tally([cause for annotator in annotators for cause in getattr(annotator, "causes", ())])
    with ExitStack() as stack:
        for annotator in annotators:
            stack.callback(annotator.close)
        records = stack.enter_context(_written(out_jsonl))
        rejects = stack.enter_context(_written(out_rejects))
        done = stack.enter_context(Journal(journal if annotators else None, annotators))
        table = csv.writer(rejects, lineterminator="\n")
        table.writerow(REJECT_COLUMNS)
        for result in map(without_empty_texts, _annotated(read_shard(in_tar), annotators, done, progress)):
            records.write(result.record.to_json() + "\n")
            path = result.record.provenance.get("file", "")
            table.writerows([result.record.key, r.what, r.cause, r.regions, path] for r in result.rejects)
            tally.add(result)
        write_csv(out_counts, COUNT_COLUMNS, tally.rows())
    if journal:
        Path(journal).unlink(missing_ok=True)


@contextmanager
def _written(path: str | Path) -> Iterator[TextIO]:
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        yield file


def without_empty_texts(result: Annotated) -> Annotated:
    """The result without the regions that no one gave a text, each of them a reject; those that the filters
    are to drop (text None) stay for them to count."""
    kept = [region for region in result.record.regions if region.text is None or region.text.strip()]
    missing = len(result.record.regions) - len(kept)
    if not missing:
        return result
    rejects = result.rejects + [Reject("region", NO_TEXT, 1)] * missing
    return Annotated(replace(result.record, regions=kept), rejects)


class Tally:
    """Images and regions that came in and went out, by cause of rejection."""

    def __init__(self, causes: Iterable[str]):
        self.causes = dict.fromkeys([*causes, NO_TEXT])  # in the order in which they strike
        self.images: Counter[str] = Counter()
        self.kept: Counter[str] = Counter()
        self.lost: Counter[tuple[str, str]] = Counter()

    def add(self, result: Annotated) -> None:
        source = result.record.source
        self.images[source] += 1
        self.kept[source] += len(result.record.regions)
        for reject in result.rejects:
            self.lost[source, reject.cause] += reject.regions

    def rows(self) -> Iterator[list[object]]:
        """Rows of COUNT_COLUMNS: each cause on what the causes before it left, then the outcome."""
        seen = sorted({cause for (_, cause), regions in self.lost.items() if regions} - self.causes.keys())
        for source, images in sorted(self.images.items()):
            found = left = self.kept[source] + sum(n for (of, _), n in self.lost.items() if of == source)
            for cause in [*self.causes, *seen]:
                before, left = left, left - self.lost[source, cause]
                yield [source, "sequence", cause, images, images, before, left]
            yield [source, "sequence", "annotate", images, images, found, left]


class Journal:
    """Finished chunks of one shard, a line each, in an append-only file.

    Its first line names the annotators and their settings; a journal of other settings is started anew. A
    line is taken back only for the chunk whose very bytes it answers, so neither another shard nor another
    batch size can be mixed in. The last line may be torn by a kill: it is cut off, its chunk done again.
    """

    def __init__(self, path: str | Path | None, annotators: Sequence[Annotator]):
        self.path = Path(path) if path else None
        self._header = _line({"journal": 1, "annotators": [annotator.describe() for annotator in annotators]})
        self._file = None
        self._replaying = False

    def __enter__(self) -> Self:
        if self.path:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.touch()
            self._file = open(self.path, "r+b")  # noqa: SIM115 (closed by __exit__)
            self._replaying = self._file.readline() == self._header
            if not self._replaying:
                self._file.seek(0)
                self._append(self._header)
        return self

    def __exit__(self, *_: object) -> None:
        if self._file:
            self._file.close()

    def recall(self, digest: str) -> list[Annotated] | None:
        """What was made of the chunk with this digest, or None: then, and from then on, it has to be made."""
        if not self._replaying:
            return None
        start = self._file.tell()
        line = self._file.readline()
        if line.endswith(b"\n"):
            with suppress(ValueError, KeyError, TypeError):  # not a line of ours: as good as torn
                entry = json.loads(line)
                if entry["chunk"] == digest:
                    return [
                        Annotated(Record.from_json(record), [Reject(**reject) for reject in rejects])
                        for record, rejects in entry["results"]
                    ]
        self._replaying = False
        self._file.seek(start)
        return None

    def remember(self, digest: str, results: Sequence[Annotated]) -> None:
        """Append a finished chunk; what lies behind the last line recalled is cut off first."""
        if self._file:
            made = [[r.record.to_json(), [asdict(reject) for reject in r.rejects]] for r in results]
            self._append(_line({"chunk": digest, "results": made}))

    def _append(self, line: bytes) -> None:
        self._file.truncate()
        self._file.write(line)
        self._file.flush()


def _line(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def _digest(chunk: Sequence[Sample]) -> str:
    digest = hashlib.sha256()
    for sample in chunk:
        digest.update(hashlib.sha256(sample.record.to_json().encode()).digest())
        digest.update(hashlib.sha256(sample.image).digest())
    return digest.hexdigest()


def _annotated(
    samples: Iterator[Sample], annotators: Sequence[Annotator], journal: Journal, progress: Progress
) -> Iterator[Annotated]:
    # Chunks are counted from the shard's start, whatever was done before: a resumed job forms the batches
    # that an uninterrupted one forms. One chunk is all that is ever held in memory.
    size = max((annotator.batch_size for annotator in annotators), default=1)
    done = made = 0
    while chunk := list(islice(samples, size)):
        digest = _digest(chunk) if annotators else ""
        results = journal.recall(digest)
        if results is None:
            if done and not made:
                progress.say(f"{progress.label} | {done} images taken from the journal")
                progress.start = done
            results = run_annotators(chunk, annotators)
            journal.remember(digest, results)
            made += len(chunk)
        done += len(chunk)
        progress.update(done)
        yield from results


def run_annotators(chunk: list[Sample], annotators: Sequence[Annotator]) -> list[Annotated]:
    """What the annotators, one after the other, make of some samples, in their order."""
    results = [Annotated(sample.record) for sample in chunk]
    for annotator in annotators:
        samples = [replace(sample, record=r.record) for sample, r in zip(chunk, results, strict=True)]
        made: list[Annotated] = []
        for start in range(0, len(samples), annotator.batch_size):
            made += annotator.annotate(samples[start : start + annotator.batch_size])
        results = [
            Annotated(
                replace(new.record, provenance=new.record.provenance | annotator.describe()),
                old.rejects + new.rejects,
            )
            for old, new in zip(results, made, strict=True)
        ]
    return results
