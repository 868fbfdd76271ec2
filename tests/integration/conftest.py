"""Runs of the real command line on simulated heads, shared by the tests that look at them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from qsmprep.phantom.dataset import simulate
from qsmprep.phantom.options import SimulationOptions


@dataclass(frozen=True)
class Finished:
    """A run of the command line that has ended."""

    bids: Path
    out: Path
    work: Path
    status: int
    stdout: str
    stderr: str

    def image(self, name: str, folder: str = "anat", subject: str = "01") -> np.ndarray:
        return np.asarray(nib.load(self.out / f"sub-{subject}" / folder / f"sub-{subject}_{name}.nii.gz").dataobj)

    def truth(self, name: str, folder: str = "anat") -> np.ndarray:
        base = self.bids / "derivatives" / "truth" / "sub-01" / folder
        return np.asarray(nib.load(base / f"sub-01_{name}.nii.gz").dataobj)


def qsmprep(bids: Path, out: Path, *words: str, work: Path | None = None, path: str | None = None) -> Finished:
    """Run the program as a user does, in a process of its own.

    The template of regions is laid, and steps run in processes of their own, only where the words say so: each is a
    third to a half of the time of a coarse head.
    """
    work = work or out.with_name(out.name + "-work")
    for flag, value in (("--roi", "none"), ("--plugin", "linear")):
        if not any(word.startswith(flag) for word in words):
            words = (*words, "--roi-template" if flag == "--roi" else flag, value)
    command = [sys.executable, "-m", "qsmprep.cli.run", str(bids), str(out), "participant", "-w", str(work), *words]
    environment = dict(os.environ, **({"PATH": path} if path else {}))
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False, env=environment)
    return Finished(bids, out, work, done.returncode, done.stdout, done.stderr)


def merge(target: Path, sources: dict[str, Path]) -> Path:
    """One dataset whose subject of each name is subject 01 of the dataset given for it."""
    for label, source in sources.items():
        target.mkdir(exist_ok=True)
        shutil.copy(source / "dataset_description.json", target)
        for path in (source / "sub-01").rglob("*"):
            if path.is_file():
                parts = [part.replace("sub-01", f"sub-{label}") for part in path.relative_to(source).parts]
                (target / Path(*parts)).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target / Path(*parts))
    return target


@pytest.fixture(scope="session")
def small_head(tmp_path_factory) -> Path:
    """A simulated head at 3 mm, five echoes."""
    return simulate(tmp_path_factory.mktemp("small") / "bids", SimulationOptions(voxel_size="3"))


@pytest.fixture(scope="session")
def finished(small_head, tmp_path_factory) -> Finished:
    """The default pipeline with a second inversion, on the small head."""
    return qsmprep(small_head, tmp_path_factory.mktemp("default") / "out", "--inversion", "fansi", "tkd",
                   "--roi-template", "auto", "--plugin", "pool")  # fmt: skip


@pytest.fixture(scope="session")
def run_qsmprep():
    """The function that runs the program."""
    return qsmprep


@pytest.fixture(scope="session")
def merge_subjects():
    """The function that makes one dataset of several."""
    return merge
