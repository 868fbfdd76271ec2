"""The spaces in which maps are written: words of `--output-spaces` and what they mean."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

NATIVE = "native"
# What fMRIPrep calls the space of the images themselves.
NATIVE_ALIASES = (NATIVE, "func", "run", "bold", "boldref", "sbref")
# Templates of TemplateFlow without cohorts, for a hint; any other that lies in its folder may be asked for too.
KNOWN_TEMPLATES = (
    "MNI152NLin2009cAsym", "MNI152NLin2009aSym", "MNI152NLin2009aAsym", "MNI152NLin2009bAsym", "MNI152NLin2009bSym",
    "MNI152NLin2009cSym", "MNI152NLin6Asym", "MNI152NLin6Sym", "MNI152Lin", "MNI305", "MNIColin27", "OASIS30ANTs",
    "NKI", "PNC",
)  # fmt: skip
SURFACES = re.compile(r"fsaverage\d?|fsLR|fsnative|onavg|civet\w*", re.IGNORECASE)
OF_T1W = ("anat", "T1w", "T2w", "individual")
RESOLUTIONS = {"1": 1.0, "2": 2.0}  # of TemplateFlow's files, mm


@dataclass(frozen=True)
class Space:
    """A template in which maps are wanted, at one or several resolutions.

    `resolutions` are "1", "2", or "" for voxels of the scan's size.
    """

    name: str
    resolutions: tuple[str, ...] = ("",)


@dataclass(frozen=True)
class PlannedSpace:
    """A template with its files.

    Attributes
    ----------
    space : what was asked for.
    t1w : its T1w image; None for the package's own template.
    mask : mask of its brain; None where the T1w image shows the brain alone, or for the package's own.
    source : which files these are, in words.
    citations : publications of the template.
    """

    space: Space
    t1w: Path | None = None
    mask: Path | None = None
    source: str = ""
    citations: tuple[str, ...] = ()


def parse_spaces(words: Sequence[str], known: Sequence[str] = ()) -> tuple[Space, ...]:
    """The templates among the words of `--output-spaces`, each once, in the order given.

    Parameters
    ----------
    words : as "native", "MNI152NLin2009cAsym", "MNI152NLin2009cAsym:res-2".
    known : further templates that lie at hand; with none given, every well-formed word is taken for one.

    Raises
    ------
    ValueError : a word that is no space here, or a modifier that is not known.

    >>> parse_spaces(["native", "MNI152NLin2009cAsym:res-1", "MNI152NLin2009cAsym:res-2"])
    (Space(name='MNI152NLin2009cAsym', resolutions=('1', '2')),)
    """
    found: dict[str, list[str]] = {}
    for word in words:
        name, *modifiers = word.strip().split(":")
        _check_name(name, word)
        if name in NATIVE_ALIASES:
            if modifiers:
                raise ValueError(f"--output-spaces {word}: {name} is the grid of the scan; it takes no modifier.")
            continue
        resolutions = [_resolution(modifier, word) for modifier in modifiers] or [""]
        if known and name not in known:
            raise ValueError(f"--output-spaces {word}: unknown space{_near(name, known)} {_can_be(known)}")
        chosen = found.setdefault(name, [])
        for resolution in resolutions:
            if resolution not in chosen:
                chosen.append(resolution)
    return tuple(Space(name, tuple(resolutions)) for name, resolutions in found.items())


def _check_name(name: str, word: str) -> None:
    """ValueError for what is no volume, or no name."""
    if SURFACES.fullmatch(name):
        raise ValueError(f"--output-spaces {word}: {name} is a surface; maps are written as volumes only.")
    if name in OF_T1W:
        raise ValueError(
            f"--output-spaces {word}: maps are not resampled to the T1w image. Take native: the transform between "
            "both is in the report, and segmentations of the T1w image are brought to the maps."
        )
    if not re.fullmatch("[0-9A-Za-z]+", name):
        raise ValueError(f"--output-spaces: {word!r} is no space. {_can_be(KNOWN_TEMPLATES)}")


def _resolution(modifier: str, word: str) -> str:
    entity, dash, value = modifier.partition("-")
    if entity in ("cohort", "den", "label", "scale"):
        raise ValueError(f"--output-spaces {word}: the modifier {entity}- is not supported; take res-1 or res-2.")
    plain = value.lstrip("0") or value
    if entity != "res" or not dash or (plain not in RESOLUTIONS and value != NATIVE):
        raise ValueError(f"--output-spaces {word}: the modifier {modifier!r} is not known; it may be res-1 (1 mm), "
                         "res-2 (2 mm) or res-native (voxels of the scan's size, as without).")  # fmt: skip
    return "" if value == NATIVE else plain


def _near(name: str, known: Sequence[str]) -> str:
    lower = {other.lower(): other for other in (NATIVE, *KNOWN_TEMPLATES, *known)}
    found = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.75)
    return f"; did you mean {lower[found[0]]}?" if found else "."


def _can_be(known: Sequence[str]) -> str:
    return f"Spaces are native and templates by TemplateFlow's names: {', '.join(known)}."
