"""The one error that a user can cause and fix.

Every module raises `GranvitError` for a user's mistake (a wrong key, a missing folder, a broken image);
scripts and the command line print its message as one line and stop. Anything else that is raised is a bug and
keeps its traceback.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class GranvitError(Exception):
    """A user's mistake. The message names file, key and value, what was expected, and what to do."""


@contextmanager
def reading(path: str | Path) -> Iterator[None]:
    """Add to the traceback of a bug which file was being read; a GranvitError names its file itself."""
    try:
        yield
    except GranvitError:
        raise
    except Exception as error:
        error.add_note(f"while reading {path}")
        raise
