"""The command line ``granvit``. A group of commands is a module of `granvit.commands` with a function
``add_commands``; what a command needs is imported when it runs, so that none waits for another's libraries.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from granvit.commands import data, evaluation, export, images, plan, runs, verify
from granvit.errors import GranvitError

GROUPS = (images, runs, verify, plan, export, data, evaluation)


class OneLineParser(argparse.ArgumentParser):
    """A parser whose errors are one line, without the usage before it; exit status 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}; see `{self.prog} --help`\n")


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands. Each command sets ``run``, a function of the parsed arguments that returns
    the exit status.
    """
    parser = OneLineParser(prog="granvit", description="GranViT: a fine-grained vision encoder.")
    groups = parser.add_subparsers(metavar="COMMAND", required=True)
    for group in GROUPS:
        group.add_commands(groups)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; a user's mistake, and a file that the system refuses, is one line on standard error
    and exit status 1; wrong usage is one too, and status 2.
    """
    try:
        parsed = build_parser().parse_args(arguments)
        return parsed.run(parsed)
    except GranvitError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader (head, less) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.filename is None and error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        place = error.filename or "the disk"
        print(f"error: {place}: cannot be read or written ({error.strerror}); give another", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
