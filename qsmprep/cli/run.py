"""Entry point of the program `qsmprep`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from qsmprep.cli.parser import parse


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, do what it asks, and return the exit status: 0 all well, 1 failure, 2 usage."""
    request, settings = parse(sys.argv[1:] if argv is None else argv)
    # Imported only now, so that --help and --version answer at once.
    if request.analysis_level == "group":
        from qsmprep.app.group import run as run_group

        return run_group(request)
    from qsmprep.app.application import run

    return run(request, settings)


if __name__ == "__main__":
    sys.exit(main())
