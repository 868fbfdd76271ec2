"""What the consensus paper advises against, as the metadata of a run tell it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qsmprep.bids.kinds import OF_DATATYPE
from qsmprep.bids.metadata import number
from qsmprep.bids.problem import Problem
from qsmprep.bids.scans import GreRun


def consensus_warnings(run: GreRun) -> list[Problem]:
    """What the consensus paper advises against, told by the metadata."""
    facts, found = run.metadata, []

    def advise(code: str, text: str, remedy: str) -> None:
        found.append(Problem("warning", code, run.name, text, "", remedy))

    if len(run.echoes) == 1:
        advise("single-echo",
               "a single echo: phase offsets cannot be removed and there is no R2*; several echoes are advised",
               "Acquire several echoes next time; take care with values near the mask's edge.")  # fmt: skip
    if str(facts.get("MRAcquisitionType", "")).upper() == "2D":
        advise("two-dimensional", "a 2D acquisition: slices may differ in phase; 3D is advised",
               "Offsets of slices are taken off where they show (--slice-phase); acquire in 3D next time.")  # fmt: skip
    fraction = number(facts.get("PartialFourier"))
    if fraction is not None and 0 < fraction < 1:
        advise("partial-fourier", f"partial Fourier {fraction:g}: phase is blurred; full sampling is advised",
               "Expect blur along that direction; scan with full sampling next time.")  # fmt: skip
    sequence = " ".join(_texts(facts, "ScanningSequence", "PulseSequenceType", "SequenceName")).upper()
    in_func = run.suffix in OF_DATATYPE["func"]
    if in_func or {"EP", "EPI"} & set(sequence.replace("\\", " ").split()) or "ECHO PLANAR" in sequence:
        advise("echo-planar", "echo planar imaging: geometric distortion, which is not corrected here",
               "Correct the geometric distortion before regions are compared with other images.")  # fmt: skip
    images = {word.upper() for word in _texts(_merged(run), "ImageType", "ImageTypeText")}
    filtered = images & {"SWI", "MNIP", "HOMODYNE", "FILTERED", "HP", "HIGHPASS"}
    if filtered:
        advise("image-type-filtered", f"ImageType holds {min(filtered)}: phase filtered for SWI cannot be used",
               "Export the unfiltered phase from the scanner and run again; do not use this map.")  # fmt: skip
    return found


def _merged(run: GreRun) -> dict[str, Any]:
    """ImageType of all images together, since magnitude and phase differ in it."""
    merged: dict[str, list[str]] = {}
    for echo in run.echoes:
        for facts in echo.metadata.values():
            for key in ("ImageType", "ImageTypeText"):
                merged.setdefault(key, []).extend(_texts(facts, key))
    return merged


def _texts(facts: Mapping[str, Any], *keys: str) -> list[str]:
    values = [facts.get(key) for key in keys]
    return [str(item) for value in values if value for item in (value if isinstance(value, list) else [value])]
