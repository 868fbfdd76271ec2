"""The stages of the pipeline: their headings, their order, their line of consensus table 5, their sentence."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """How a stage is spoken of.

    Attributes
    ----------
    name : as in the run record.
    heading : of the report's section.
    table5 : line of consensus table 5 that it belongs to.
    sentence : of the methods text; `{}` stands for the methods used.
    """

    name: str
    heading: str
    table5: str
    sentence: str


# fmt: off
STAGES = (
    Stage("input", "Input and phase preparation", "Phase reconstruction", "The input images were prepared by {}."),
    Stage("phase-offset", "Phase offset removal", "Phase reconstruction",
          "Phase offsets were removed before unwrapping by {}."),
    Stage("mask", "Brain mask", "Masking", "The brain mask was made by {}."),
    Stage("reliable-mask", "Mask of reliable phase", "Masking",
          "Voxels with unreliable phase were excluded by {}."),
    Stage("background-mask", "Mask of background field removal", "Masking",
          "The mask of background field removal was made by {}."),
    Stage("qsm-mask", "Mask of the susceptibility map", "Masking",
          "The mask of the susceptibility map was made by {}."),
    Stage("unwrapping", "Phase unwrapping", "Phase unwrapping", "The phase was unwrapped by {}."),
    Stage("echo-combination", "Echo combination: total field", "Echo combination",
          "The echoes were combined into a map of the total field by {}."),
    Stage("background", "Background field removal", "Background field removal",
          "Background fields were removed by {}."),
    Stage("weights", "Weights of the inversion", "Dipole inversion", "The data were weighted in the inversion by {}."),
    Stage("inversion", "Dipole inversion: susceptibility", "Dipole inversion",
          "Magnetic susceptibility was computed from the tissue field by {}."),
    Stage("registration", "Registration of the orientations", "Further processing",
          "The orientations of the head were laid over each other by {}."),
    Stage("cosmos", "Several orientations: COSMOS", "Dipole inversion",
          "Magnetic susceptibility was computed from the tissue fields of several orientations by {}."),
    Stage("sti", "Several orientations: susceptibility tensor", "Dipole inversion",
          "The susceptibility tensor was computed from the tissue fields of several orientations by {}."),
    Stage("chisep-cosmos", "Several orientations: source separation", "Source separation",
          "Paramagnetic and diamagnetic susceptibility were told apart from several orientations by {}."),
    Stage("reference", "Reference of susceptibility", "Referencing",
          "Susceptibility is given in ppm, relative to {}."),
    Stage("relaxometry", "Relaxometry: R2*, T2*, S0", "Relaxometry", "R2*, T2* and S0 were estimated by {}."),
    Stage("r2", "Relaxometry of the spin echoes: R2", "Relaxometry", "R2 was estimated from spin echoes by {}."),
    Stage("r2-registration", "Registration of the spin echoes", "Further processing",
          "The spin echo scan was laid over the gradient echoes by {}."),
    Stage("r2prime", "Reversible relaxation: R2'", "Relaxometry", "R2' was taken as {}."),
    Stage("echo-inversion", "Susceptibility of each echo", "Further processing",
          "For the decay's fit, each echo's susceptibility was computed by {}."),
    Stage("separation", "Source separation: para- and diamagnetic susceptibility", "Source separation",
          "Paramagnetic and diamagnetic susceptibility were told apart by {}."),
    Stage("t1w-registration", "Registration of the T1w image", "Further processing",
          "The T1w image was laid over the gradient echoes by {}."),
    Stage("segmentation", "Segmentations", "Further processing", "Regions were taken from {}."),
    Stage("atlas", "Atlases", "Further processing", "Regions of an atlas were taken from {}."),
    Stage("regions", "Regional values", "Further processing", "Regional values are {}."),
    Stage("quality", "Quality numbers", "Further processing", "The result was judged by {}."),
)
# fmt: on

# Lines of table 5 in the paper's order; relaxometry and source separation are ours.
TABLE5_ALGORITHMS = (
    "Phase reconstruction",
    "Phase unwrapping",
    "Echo combination",
    "Masking",
    "Background field removal",
    "Dipole inversion",
    "Relaxometry",
    "Source separation",
)

_ALIASES = {
    "masking": "mask",
    "brain-mask": "mask",
    "phase": "input",
    "phase-preparation": "input",
    "preparation": "input",
    "unwrap": "unwrapping",
    "field": "echo-combination",
    "bfr": "background",
    "referencing": "reference",
}


def stage_of(name: str) -> Stage:
    """The stage of that name; one made from the name itself when it is unknown.

    >>> stage_of("Echo_combination").table5
    'Echo combination'
    """
    plain = re.sub(r"[\s_]+", "-", name.strip().lower())
    plain = _ALIASES.get(plain, plain)
    for stage in STAGES:
        if stage.name == plain:
            return stage
    heading = name.replace("-", " ").replace("_", " ").strip().capitalize() or "Further step"
    table5 = "Masking" if "mask" in plain else "Further processing"
    return Stage(plain, heading, table5, heading + ": {}.")
