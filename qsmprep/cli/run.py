"""Entry point of the program `qsmprep`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from qsmprep.cli.process import run_program


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line asks and return the exit status: 0 all well, 1 failure, 2 usage, 130 for Ctrl-C."""
    return run_program("qsmprep", _main, argv, advice="; the same command goes on where it was")


def _main(argv: Sequence[str]) -> int:
    # Imported only now, so that Ctrl-C is told in one line as soon as anything is loaded.
    from qsmprep.cli.parser import parse

    request, settings = parse(argv)
    # And only now, so that --help and --version answer at once.
    if request.analysis_level == "group":
        from qsmprep.app.group import run as run_group

        return run_group(request)
    from qsmprep.app.application import run

    return run(request, settings)


if __name__ == "__main__":
    sys.exit(main())
