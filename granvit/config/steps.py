"""Step versions: how a change of code reaches the workflow's cache.

Snakemake reruns a job when its parameters change, not when this package does. So every job carries the
version of its step from config/steps.yaml, which also records a hash of the code that the step covers; a test
fails while the two disagree. After a change of a step's code, say whether results change:

    python -m granvit.config.steps               # which steps' code has changed
    python -m granvit.config.steps bump stage1   # results change: stage 1 will run again
    python -m granvit.config.steps keep stage1   # results stay: record the new code only
"""

from __future__ import annotations

import hashlib
import sys
from functools import lru_cache
from pathlib import Path

import yaml

from granvit.errors import GranvitError

ROOT = Path(__file__).resolve().parents[2]
STEPS_FILE = ROOT / "config" / "steps.yaml"


@lru_cache(maxsize=1)
def load_steps() -> dict[str, dict]:
    """step -> {version: int, files: list of files or folders, code: sha256 of their contents}."""
    return yaml.safe_load(STEPS_FILE.read_text())


def version(step: str) -> int:
    """The version of a step's code. Raises GranvitError for an unknown step."""
    try:
        return load_steps()[step]["version"]
    except KeyError:
        raise GranvitError(
            f"config/steps.yaml: '{step}' is not a step; known: {', '.join(load_steps())}"
        ) from None


def covered_files(files: list[str]) -> list[Path]:
    """The Python files that `files` name, folders expanded, in a fixed order."""
    found: set[Path] = set()
    for name in files:
        path = ROOT / name
        found |= set(path.rglob("*.py")) if path.is_dir() else {path}
    return sorted(found)


def code_hash(files: list[str]) -> str:
    """sha256 over names and contents of the covered files. Raises GranvitError where one is gone."""
    digest = hashlib.sha256()
    for path in covered_files(files):
        if not path.is_file():
            raise GranvitError(
                f"config/steps.yaml: {path.relative_to(ROOT)} is gone; take it out of its steps' files"
            )
        digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def changed_steps() -> list[str]:
    """Steps whose code is not the code that config/steps.yaml records."""
    return [name for name, step in load_steps().items() if code_hash(step["files"]) != step["code"]]


def record(action: str, names: list[str]) -> None:
    """Write the present code of the steps `names` to config/steps.yaml; `bump` raises their versions too."""
    lines = STEPS_FILE.read_text().splitlines()
    steps, current = load_steps(), None
    for i, line in enumerate(lines):
        if line and not line[0].isspace() and line.endswith(":"):
            current = line[:-1]
        elif current in names and line.startswith("  version:") and action == "bump":
            lines[i] = f"  version: {steps[current]['version'] + 1}"
        elif current in names and line.startswith("  code:"):
            lines[i] = f"  code: {code_hash(steps[current]['files'])}"
    STEPS_FILE.write_text("\n".join(lines) + "\n")


def main(arguments: list[str]) -> int:
    if not arguments:
        changed = changed_steps()
        print("\n".join(changed) if changed else "no step's code has changed")
        return 1 if changed else 0
    action, names = arguments[0], arguments[1:] or changed_steps()
    unknown = [name for name in names if name not in load_steps()]
    if action not in ("bump", "keep") or unknown:
        print(__doc__, file=sys.stderr)
        return 2
    record(action, names)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
