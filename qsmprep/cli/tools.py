"""Entry point of the program `qsmprep-tools`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from qsmprep.cli.process import run_program


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit status: 0 done, 1 failed, 2 wrong usage, 130 for Ctrl-C."""
    return run_program("qsmprep-tools", _main, argv)


def _main(argv: Sequence[str]) -> int:
    # Imported only now, so that Ctrl-C is told in one line as soon as anything is loaded.
    from qsmprep.cli.commands import run_command

    return run_command(argv)


if __name__ == "__main__":
    sys.exit(main())
