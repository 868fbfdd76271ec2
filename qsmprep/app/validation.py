"""The BIDS validator, where it is installed: its findings are told, qsmprep's own checks decide."""

from __future__ import annotations

import atexit
import json
import logging
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from qsmprep.bids.problem import printable
from qsmprep.engine.session import private_folder
from qsmprep.findings import Warning

logger = logging.getLogger("qsmprep")
PROGRAM = "bids-validator-deno"
SHOWN = 5
LARGEST_TEXT_BYTES = 2**28
_TEXTS = (".json", ".tsv", ".bval", ".bvec", ".md", ".txt")
_NOT_VALIDATED = frozenset({"derivatives", "sourcedata", "code", ".git", ".datalad"})


def start_validation(bids_dir: Path, participant_labels: Sequence[str] = ()) -> subprocess.Popen[str] | None:
    """Start the validator beside the other checks, on the chosen participants alone if there are any.

    None, and a line in the log, where it is not installed, or where a file of the dataset would keep it for ever.
    """
    program = shutil.which(PROGRAM) or shutil.which(PROGRAM, path=str(Path(sys.executable).parent))
    if program is None:
        logger.info("%s is not installed: the dataset is checked by qsmprep's own rules alone.", PROGRAM)
        return None
    folder = _with_chosen(bids_dir, participant_labels) if participant_labels else bids_dir
    if (endless := next(_endless(folder), None)) is not None:
        text = "%s is not run, as it would not come to an end: %s is no regular file, or a huge one. Remove it."
        logger.warning(text, PROGRAM, printable(endless))
        return None
    command = [program, "--json", "--ignoreNiftiHeaders", str(folder)]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    atexit.register(_end, process)  # where nobody waits for it, as the input was refused
    return process


def validation_findings(process: subprocess.Popen[str], timeout_s: float = 300) -> list[Warning]:
    """Errors the validator found, the first of them in words, as one warning; none for a valid dataset.

    An error of the validator need not concern the images that are processed, so it does not stop the run.
    """
    try:
        output, _ = process.communicate(timeout=timeout_s)
        errors = [issue for issue in json.loads(output)["issues"]["issues"] if issue.get("severity") == "error"]
    except (subprocess.TimeoutExpired, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        text = f"The BIDS validator gave no result ({type(error).__name__}); the dataset was not validated."
        return [Warning("validator-silent", text, f"Run {PROGRAM} on it, or take --skip-bids-validation.")]
    finally:
        _end(process)
    if not errors:
        return []
    named = [printable(f"{issue.get('location', '')} {issue.get('code', '')}".strip()) for issue in errors[:SHOWN]]
    more = f", and {len(errors) - SHOWN} more" if len(errors) > SHOWN else ""
    text = f"The BIDS validator finds errors in the dataset: {'; '.join(named)}{more}."
    return [Warning("validator-errors", text, f"Mend them; {PROGRAM} tells more of each.")]


def _end(process: subprocess.Popen[str]) -> None:
    """Stop the validator if it still runs, and leave no zombie."""
    if process.poll() is None:
        process.kill()
        process.wait()


def _with_chosen(bids_dir: Path, participant_labels: Sequence[str]) -> Path:
    """A folder of links to all of a dataset but its other participants: the validator reads whatever lies before it.

    A thousand jobs of a participant each would else read the whole dataset a thousand times.
    """
    folder = Path(tempfile.mkdtemp(prefix="dataset-", dir=private_folder()))
    chosen = {f"sub-{label.removeprefix('sub-')}" for label in participant_labels}
    for name in os.listdir(bids_dir):
        if (not name.startswith("sub-") or name in chosen) and name not in _NOT_VALIDATED:
            (folder / name).symlink_to(bids_dir / name)
    return folder


def _endless(folder: Path) -> Iterator[str]:
    """Files of a dataset that a program that reads all of them would wait for, or never read to the end."""
    for place, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if name not in _NOT_VALIDATED]
        for name in files:
            path = os.path.join(place, name)
            try:
                found = os.stat(path)
            except OSError:  # a link to nothing: no program waits for it
                continue
            if not stat.S_ISREG(found.st_mode) or (name.endswith(_TEXTS) and found.st_size > LARGEST_TEXT_BYTES):
                yield path
