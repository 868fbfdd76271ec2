"""The stages of the pipeline, one row each: everything that is said of a stage stands here.

Settings, command line, run records, report, methods text and documentation read this table. The methods of a stage
stand in `registry.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True)
class Section:
    """Options that do not belong to a method: a section of the settings file, and flags of the same prefix.

    Attributes
    ----------
    name : of the section.
    module, options_class : where its dataclass is.
    prefix : of its flags; the name unless given.
    """

    name: str
    module: str
    options_class: str
    prefix: str | None = None

    @property
    def flag_prefix(self) -> str:
        """What the flags begin with; empty for none."""
        return self.name if self.prefix is None else self.prefix


@dataclass(frozen=True)
class Stage:
    """One stage.

    Attributes
    ----------
    name : in settings, records, and on the command line.
    heading : of the report's section.
    table5 : line of consensus table 5 that it belongs to.
    sentence : of the methods text; `{}` stands for the methods used.
    sections : options of the stage that do not belong to a method.
    words : what can be chosen beside the methods of the registry, and what it means.
    several : whether several methods may be chosen, one map each.
    needed : whether there is no susceptibility map without it.
    at_a_glance : whether its method is among the few that characterise a run.
    bare : the method that its flag means where no word follows; empty: a word must follow.
    """

    name: str
    heading: str
    table5: str
    sentence: str
    sections: tuple[Section, ...] = ()
    words: Mapping[str, str] = field(default_factory=dict)
    several: bool = False
    needed: bool = False
    at_a_glance: bool = False
    bare: str = ""


# fmt: off
# In the order in which the report tells them, that of the consensus paper.
STAGES = (
    Stage("coil-combination", "Combination of the coils", "Phase reconstruction",
          "The images of the single coils were combined by {}.",
          sections=(Section("coils", "qsmprep.coils.combination", "CoilOptions", prefix=""),),
          words={"auto": "aspire where TE2 = 2 TE1, else mcpc-3d-s-coils, of images of single coils"}),
    Stage("input", "Input and phase preparation", "Phase reconstruction", "The phase images were prepared by {}.",
          sections=(Section("input", "qsmprep.bids.input_options", "InputOptions", prefix=""),), needed=True),
    Stage("phase-offset", "Phase offset removal", "Phase reconstruction",
          "Phase offsets were removed before unwrapping by {}.", words={"none": "the phase offset stays"}),
    Stage("echo-selection", "Choice of echoes", "Phase reconstruction", "Only {} were used further."),
    Stage("mask-image", "Image for brain extraction", "Masking", "Brain extraction was applied to the {}."),
    Stage("mask", "Brain mask", "Masking", "The brain mask was made by {}.",
          words={"auto": "fsl-bet where FSL is installed, else bet, or net where bet's mask has no brain's shape",
                 "fsl-bet": "BET of FSL, with the options of bet"},
          needed=True),
    Stage("field-mask", "Region of the field map", "Masking", "The field was mapped in {}."),
    Stage("unwrapping", "Phase unwrapping", "Phase unwrapping", "The phase was unwrapped by {}.",
          needed=True, at_a_glance=True),
    Stage("echo-combination", "Echo combination: total field", "Echo combination",
          "The echoes were combined into a map of the total field by {}.", needed=True),
    Stage("field-scaling", "Scaling of the total field", "Echo combination",
          "The total field in Hz was computed by {}."),
    Stage("reliable-mask", "Mask of reliable phase", "Masking", "Voxels with unreliable phase were excluded by {}.",
          sections=(Section("reliable-mask", "qsmprep.masking.consensus", "ReliableMaskOptions"),)),
    Stage("background-mask", "Mask of background field removal", "Masking",
          "The mask for background field removal was {}.",
          sections=(Section("background-mask", "qsmprep.masking.consensus", "BackgroundMaskOptions"),)),
    Stage("background", "Background field removal", "Background field removal",
          "Background fields were removed by {}.",
          sections=(Section("background-refinement", "qsmprep.background.refinement", "RefinementOptions"),),
          needed=True, at_a_glance=True),
    Stage("relaxometry", "Relaxometry: R2*, T2*, S0", "Relaxometry", "R2*, T2* and S0 were estimated by {}.",
          sections=(Section("r2star", "qsmprep.settings", "R2starOptions"),),
          words={"auto": "arlo where three echoes or more are equally spaced, else log-linear",
                 "none": "no maps of relaxation, no source separation"}),
    Stage("r2", "Relaxometry of the spin echoes: R2", "Relaxometry", "R2 was estimated from spin echoes by {}.",
          words={"auto": "epg where there is a spin echo scan", "none": "spin echoes are not used"}),
    Stage("r2-registration", "Registration of the spin echoes", "Further processing",
          "The spin echo images were registered to the gradient echoes by {}."),
    Stage("r2prime", "Reversible relaxation: R2'", "Relaxometry", "R2' was computed as {}.",
          sections=(Section("r2prime", "qsmprep.separation.r2prime", "R2primeOptions"),)),
    Stage("weights", "Weights of the inversion", "Dipole inversion",
          "The data were weighted in the inversion by {}.",
          sections=(Section("weights", "qsmprep.field.weights", "WeightOptions"),)),
    Stage("inversion", "Dipole inversion: susceptibility", "Dipole inversion",
          "Magnetic susceptibility was computed from the tissue field by {}.",
          several=True, needed=True, at_a_glance=True),
    Stage("registration", "Registration of the orientations", "Further processing",
          "The orientations of the head were registered to each other by {}.",
          sections=(Section("orientation", "qsmprep.settings", "OrientationOptions"),)),
    Stage("cosmos", "Several orientations: COSMOS", "Dipole inversion",
          "Magnetic susceptibility was computed from the tissue fields of several orientations by {}.",
          sections=(Section("cosmos", "qsmprep.orientation.cosmos", "CosmosOptions"),)),
    Stage("sti", "Several orientations: susceptibility tensor", "Dipole inversion",
          "The susceptibility tensor was computed from the tissue fields of several orientations by {}.",
          sections=(Section("sti", "qsmprep.orientation.sti", "StiOptions"),)),
    Stage("chisep-cosmos", "Several orientations: source separation", "Source separation",
          "Paramagnetic and diamagnetic susceptibility were separated from several orientations by {}.",
          sections=(Section("chisep-cosmos", "qsmprep.orientation.chisep_cosmos", "ChisepCosmosOptions"),)),
    Stage("reference", "Reference of susceptibility", "Referencing",
          "Susceptibility is given in ppm, relative to {}.",
          sections=(Section("reference", "qsmprep.settings", "ReferenceOptions"),)),
    Stage("echo-inversion", "Susceptibility of each echo", "Further processing",
          "For the fit of the decay, the susceptibility of each echo was computed by {}."),
    Stage("separation", "Source separation: para- and diamagnetic susceptibility", "Source separation",
          "Paramagnetic and diamagnetic susceptibility were separated by {}.",
          sections=(Section("relaxometric", "qsmprep.separation.constants", "RelaxometricOptions"),
                    Section("source", "qsmprep.settings", "SourceOptions")),
          words={"auto": "chisep-medi where there is R2*", "none": "no source separation"}),
    Stage("swi", "Susceptibility-weighted images", "Further processing",
          "Susceptibility-weighted images (SWI) were made by {}.",
          sections=(Section("minip", "qsmprep.weighting.minip", "MinipOptions"),),
          words={"none": "no susceptibility-weighted images"}, bare="clear-swi"),
    Stage("smwi", "Images weighted by susceptibility", "Further processing",
          "Images weighted by susceptibility (SMWI) were made by {}.",
          sections=(Section("smwi", "qsmprep.weighting.smwi", "SmwiOptions"),)),
    Stage("display", "Display of susceptibility", "Further processing",
          "For display, linear grey was used in {}.",
          sections=(Section("display", "qsmprep.settings", "DisplayOptions", prefix=""),)),
    Stage("t1w-registration", "Registration of the T1w image", "Further processing",
          "The T1-weighted image was registered to the gradient echoes by {}."),
    Stage("segmentation", "Segmentations", "Further processing", "Regions were taken from {}."),
    Stage("atlas", "Atlases", "Further processing", "Regions of an atlas were taken from {}."),
    Stage("regions", "Regional values", "Further processing", "Regional values were computed: {}.",
          sections=(Section("roi", "qsmprep.analysis.regions", "RegionOptions"),)),
    Stage("output-space", "Maps in the space of a template", "Further processing",
          "Maps were brought into the space of a template: {}.",
          sections=(Section("output", "qsmprep.settings", "OutputOptions"),)),
    Stage("quality", "Quality numbers", "Further processing", "The quality of the result was assessed by {}."),
)
# fmt: on

# Lines of table 5 in the paper's order, and whether it asks for them: relaxometry and source separation are ours.
TABLE5_ALGORITHMS: Mapping[str, bool] = MappingProxyType(
    {
        "Phase reconstruction": True,
        "Phase unwrapping": True,
        "Echo combination": True,
        "Masking": True,
        "Background field removal": True,
        "Dipole inversion": True,
        "Relaxometry": False,
        "Source separation": False,
    }
)

_BY_NAME: Mapping[str, Stage] = MappingProxyType({stage.name: stage for stage in STAGES})
_RANK: Mapping[str, int] = MappingProxyType({stage.name: rank for rank, stage in enumerate(STAGES)})


def stage_of(name: str) -> Stage:
    """The stage of that name; for one that is not in the table (a damaged record), one made from the name itself.

    >>> stage_of("echo-combination").table5
    'Echo combination'
    """
    if name in _BY_NAME:
        return _BY_NAME[name]
    heading = name.replace("-", " ").replace("_", " ").strip().capitalize() or "Further step"
    return Stage(name, heading, "Further processing", heading + ": {}.")


def rank_of(name: str) -> int:
    """Place of a stage in the order of the report; after all others for one that is not in the table."""
    return _RANK.get(name, len(STAGES))


def sections() -> tuple[Section, ...]:
    """Options of all stages that do not belong to a method, in the table's order."""
    return tuple(section for stage in STAGES for section in stage.sections)
