"""What is asked for on the command line, the science apart."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Request:
    """What to run on and how to behave; the science is in the settings. Every path is absolute and resolved."""

    bids_dir: Path
    output_dir: Path
    work_dir: Path
    participant_labels: tuple[str, ...] = ()
    session_labels: tuple[str, ...] = ()
    filter_file: Path | None = None
    database_dir: Path | None = None
    derivatives: tuple[tuple[str, Path], ...] = ()
    reuse: tuple[str, ...] = ()
    mask_file: Path | None = None
    segmentation_file: Path | None = None
    atlases: tuple[tuple[Path, Path, Path], ...] = ()
    skip_validation: bool = False
    clean_workdir: bool = False
    dry_run: bool = False
    boilerplate_only: bool = False
    reports_only: bool = False
    resource_monitor: bool = False
    write_graph: bool = False
    markdown_only: bool = False
    analysis_level: str = "participant"
    plugin_file: Path | None = None
    verbosity: int = 0
    command: str = ""
