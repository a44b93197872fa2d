"""How often two sets of predictions differ, where arithmetic is not fp32 on one kind of machine.

    python -m granvit.evaluation.agreement PREDICTIONS PREDICTIONS

Both are folders of ``{benchmark}.jsonl``. Prints, per benchmark and in all, how many answers differ; exit
code 1 where the folders do not answer the same questions.
"""

from __future__ import annotations

import sys
from pathlib import Path

from granvit.errors import GranvitError
from granvit.evaluation.answer_files import read_answers


def differing(first: Path, second: Path) -> dict[str, tuple[int, int]]:
    """benchmark -> (answers that differ, answers). Raises GranvitError where the questions are not the
    same."""
    names = {path.name for folder in (first, second) for path in Path(folder).glob("*.jsonl")}
    if not names:
        raise GranvitError(f"{first}, {second}: no predictions ({{benchmark}}.jsonl) in either folder")
    found = {}
    for name in sorted(names):
        for folder in (first, second):
            if not (Path(folder) / name).is_file():
                raise GranvitError(f"{folder}: there is no {name}, which the other folder has")
        ours, theirs = (read_answers(Path(folder) / name) for folder in (first, second))
        if ours.keys() != theirs.keys():
            index = min(ours.keys() ^ theirs.keys())
            raise GranvitError(f"{name}: only one of the two folders answers question {index}")
        found[name.removesuffix(".jsonl")] = (sum(ours[i] != theirs[i] for i in ours), len(ours))
    return found


def main(arguments: list[str]) -> int:
    if len(arguments) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        found = differing(*map(Path, arguments))
    except GranvitError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    width = max(map(len, found))
    for name, (apart, answers) in found.items():
        print(f"{name:{width}}  {apart} of {answers} answers differ")
    apart, answers = (sum(column) for column in zip(*found.values(), strict=True))
    print(f"total: {apart} of {answers} answers differ ({100 * apart / answers:.2f} %)")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
