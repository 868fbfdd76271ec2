"""The BIDS validator, where it is installed: its findings are told, qsmprep's own checks decide."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
from pathlib import Path

from qsmprep.findings import Warning

logger = logging.getLogger("qsmprep")
PROGRAM = "bids-validator-deno"
SHOWN = 5


def start_validation(bids_dir: Path) -> subprocess.Popen[str] | None:
    """Start the validator beside the other checks; None, and a line in the log, where it is not installed."""
    program = shutil.which(PROGRAM) or shutil.which(PROGRAM, path=str(Path(sys.executable).parent))
    if program is None:
        logger.info("%s is not installed: the dataset is checked by qsmprep's own rules alone.", PROGRAM)
        return None
    command = [program, "--json", "--ignoreNiftiHeaders", str(bids_dir)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def validation_findings(process: subprocess.Popen[str], timeout_s: float = 300) -> list[Warning]:
    """Errors the validator found, the first of them in words, as one warning; none for a valid dataset.

    An error of the validator need not concern the images that are processed, so it does not stop the run.
    """
    try:
        output, _ = process.communicate(timeout=timeout_s)
        issues = json.loads(output)["issues"]["issues"]
    except (subprocess.TimeoutExpired, ValueError, KeyError) as error:
        process.kill()
        text = f"The BIDS validator gave no result ({type(error).__name__}); the dataset was not validated."
        return [Warning("validator-silent", text, f"Run {PROGRAM} on it, or take --skip-bids-validation.")]
    errors = [issue for issue in issues if issue.get("severity") == "error"]
    if not errors:
        return []
    named = [f"{issue.get('location', '')} {issue.get('code', '')}".strip() for issue in errors[:SHOWN]]
    more = f", and {len(errors) - SHOWN} more" if len(errors) > SHOWN else ""
    text = f"The BIDS validator finds errors in the dataset: {'; '.join(named)}{more}."
    return [Warning("validator-errors", text, f"Mend them; {PROGRAM} tells more of each.")]
