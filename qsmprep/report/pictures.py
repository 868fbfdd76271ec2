"""The pictures of the report: how each is drawn, where it stands, and which are overlaid."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from qsmprep.report.figures import STYLES

# What a window is chosen for: pictures of one are shown alike.
SUSCEPTIBILITY, SOURCES = "susceptibility", "sources"


@dataclass(frozen=True)
class PictureKind:
    """One kind of picture.

    Attributes
    ----------
    name : the `desc` of its file.
    suffix : of its file.
    stages : steps of the report it stands in.
    caption : below the picture.
    display : options of the mosaic.
    histogram : whether a histogram of its values is shown with it.
    window : what its window is chosen for, with others: "susceptibility", "sources"; empty: it has one of its own.
    """

    name: str
    suffix: str
    stages: tuple[str, ...]
    caption: str
    display: Mapping[str, Any]
    histogram: bool = False
    window: str = ""


@dataclass(frozen=True)
class Comparison:
    """Pictures of one layout that are overlaid in one step of the report.

    Attributes
    ----------
    stage : step of the report.
    names : of the pictures, the lower one first.
    title : of the comparison.
    look : what to look for, in a sentence.
    """

    stage: str
    names: tuple[str, ...]
    title: str
    look: str


def _kind(name: str, suffix: str, stages: str, style: str, title: str, caption: str, **more: Any) -> PictureKind:
    display = {**STYLES[style], "title": title, **more.pop("display", {})}
    more["window"] = {"chi": SUSCEPTIBILITY, "source": SOURCES}.get(style, "")
    return PictureKind(name, suffix, tuple(stages.split()), caption, display, **more)


# fmt: off
PICTURES: Mapping[str, PictureKind] = {kind.name: kind for kind in (
    _kind("coherence", "magnitude", "coil-combination", "quality", "Coherence of the coils", "Share of the first echo's signal that is left in the sum of the coils: near 1 in the head where their phases fit together, dark spots and lines where they cancel."),
    _kind("firstecho", "phase", "input", "phase", "Wrapped phase, first echo", "Wrapped phase of the first echo, the whole slab."),
    _kind("magnitude", "magnitude", "mask", "magnitude", "Magnitude", "Magnitude (root sum of squares over echoes).", display={"window": "dimmed"}),
    _kind("masks", "magnitude", "mask", "magnitude", "Masks", "Outlines of the consensus masks on the magnitude. Mask 1: brain; mask 3: brain with reliable phase, holes filled; mask 4: where susceptibility is valid."),
    _kind("lastecho", "phase", "unwrapping", "phase", "Wrapped phase, last echo", "Wrapped phase of the last echo."),
    _kind("unwrapped", "phase", "unwrapping", "unwrapped", "Unwrapped phase", "Unwrapped phase of the last echo, or of the fitted one. Steps of 2 pi would show as sharp edges."),
    _kind("quality", "phase", "unwrapping", "quality", "Quality map", "Quality map of the unwrapping: 1 is coherent in space, magnitude and echo time."),
    _kind("total", "fieldmap", "echo-combination background", "field", "Total field", "Total field: all sources, unwrapped and combined over echoes.", histogram=True),
    _kind("local", "fieldmap", "background", "field", "Tissue field", "Tissue field, background removed.", histogram=True),
    _kind("weights", "weights", "weights", "weights", "Data weights", "Data weights of the inversion: dark voxels are trusted less."),
    _kind("chi", "Chimap", "inversion", "chi", "Susceptibility", "Susceptibility; bright is paramagnetic.", histogram=True, display={"thumbnail": True}),
    _kind("expectederror", "Chimap", "inversion", "error", "Expected error", "Absolute error that the network expects of its susceptibility: where it is bright the map is least sure. It knows of nothing that its training did not hold."),
    _kind("regions", "Chimap", "atlas", "chi", "Regions of the template", "Outlines of the template's regions on susceptibility, as they were registered: they must follow the nuclei."),
    _kind("spinecho", "MESE", "r2-registration", "magnitude", "Spin echo magnitude, registered", "Spin echo magnitude registered to the gradient echoes, with the outline of their brain mask: both must fit."),
    _kind("r2", "R2map", "r2", "rate", "R2", "Transverse relaxation rate of the spin echoes."),
    _kind("r2prime", "R2map", "r2prime", "rate", "R2'", "Reversible transverse relaxation rate, or what stands in for it.", display={"window": (0.0, 25.0)}),
    _kind("paramagnetic", "Chimap", "separation", "source", "Paramagnetic susceptibility", "Paramagnetic susceptibility (iron).", histogram=True),
    _kind("diamagnetic", "Chimap", "separation", "source", "Diamagnetic susceptibility", "Size of the diamagnetic susceptibility (myelin, calcium).", histogram=True),
    _kind("swi", "swi", "swi", "magnitude", "Susceptibility-weighted image", "Susceptibility-weighted image: veins and iron are dark."),
    _kind("minip", "minIP", "swi", "magnitude", "Minimum-intensity projection", "Minimum of the susceptibility-weighted image over a slab around each slice, within the brain: veins join up."),
    _kind("smwi", "smwi", "smwi", "magnitude", "Image weighted by susceptibility", "Magnitude darkened by the susceptibility map: dark where the iron is, not around it."),
    _kind("r2star", "R2starmap", "relaxometry", "r2star", "R2*", "Effective transverse relaxation rate.", histogram=True),
)}

COMPARISONS = (
    Comparison("mask", ("magnitude", "masks"), "Magnitude and masks",
               "The outline of mask 1 should follow the edge of the brain, without skull, eyes or holes."),
    Comparison("unwrapping", ("lastecho", "unwrapped"), "Wrapped and unwrapped phase",
               "The stripes of the wrapped phase must be gone, and no sharp edge may be left."),
    Comparison("background", ("total", "local"), "Total and tissue field",
               "Broad shades should be gone while veins and grey nuclei stay; each picture has its own window."),
    Comparison("inversion", ("chi", "*"), "Susceptibility by each method",
               "All in one window: differences are streaks, smoothing and scale."),
)
# fmt: on

# Pictures that stand at the top of a run, with its verdict, in their order.
ON_TOP = ("chi", "cosmos", "sti", "paramagnetic", "diamagnetic")

SIDE_BY_SIDE = {"separation": ("paramagnetic", "diamagnetic"), "chisep-cosmos": ("paramagnetic", "diamagnetic")}


def further_inversion(method: str) -> PictureKind:
    """The picture of a susceptibility map beside the main one."""
    return _kind(
        re.sub("[^0-9A-Za-z]", "", method),
        "Chimap",
        "inversion",
        "chi",
        f"Susceptibility, {method}",
        f"Susceptibility by {method}.",
        histogram=True,
    )


def in_space(space: str) -> PictureKind:
    """The picture of the main susceptibility map in the space of a template."""
    return _kind(
        f"space{space}",
        "Chimap",
        "output-space",
        "chi",
        f"Susceptibility in {space}",
        f"Susceptibility in {space}, with outlines of the template's brain, nuclei and ventricles: they must fit.",
    )


def picture_name(file: str) -> str:
    """The name of a picture's kind from its file; the file's own name where it has none.

    >>> picture_name("sub-01_run-1_desc-chi_Chimap.png")
    'chi'
    """
    found = re.search(r"_desc-([0-9A-Za-z]+)_", file)
    return found[1] if found else file.rsplit(".", 1)[0]
