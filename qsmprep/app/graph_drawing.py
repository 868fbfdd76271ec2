"""The graph of each run as a drawing, for those who want to see what nipype is given (`--write-graph`)."""

from __future__ import annotations

import logging
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from nipype.pipeline.engine import Workflow

from qsmprep.files.storage import storage_message

logger = logging.getLogger("qsmprep")


def write_graphs(graphs: Mapping[str, Workflow], folder: Path) -> None:
    """Write each graph as NAME_graph.dot and, where Graphviz is installed, NAME_graph.svg. A failure is told only.

    Parameters
    ----------
    graphs : name -> workflow.
    folder : made if missing.
    """
    dot = shutil.which("dot")
    if dot is None:
        logger.warning("--write-graph: Graphviz (its program dot) is not installed, so that the graphs in %s are text "
                       "without a picture. Install it, or draw them elsewhere: dot -Tsvg -O FILE.", folder)  # fmt: skip
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, workflow in graphs.items():
            path = folder / f"{name}_graph.dot"
            workflow.write_hierarchical_dotfile(str(path), colored=True, simple_form=True)
            if dot is not None:
                subprocess.run([dot, "-Tsvg", f"-o{path.with_suffix('.svg')}", str(path)], check=True, text=True,
                               capture_output=True)  # fmt: skip
    except OSError as error:
        logger.warning("--write-graph: %s", storage_message(error, folder))
    except subprocess.CalledProcessError as error:
        logger.warning("--write-graph: dot failed: %s", " ".join((error.stderr or "no message").split()))
