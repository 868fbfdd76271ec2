"""The table of methods. A method is one file and one line here; everything else is generated from it.

Command line, TOML schema, documentation table, methods text and provenance read this table, so nothing can drift.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType
from typing import Any

from qsmprep.stages import STAGES


@dataclass(frozen=True)
class Tuning:
    """What `qsmprep-tools tune` varies of a method unless told otherwise.

    Attributes
    ----------
    option : the one that weighs the regularisation.
    norm : what is measured as the penalty: "l1" or "l2" of the map's gradient, or of the "image".
    followers : options that keep their ratio to it: penalty parameters that only set the pace, weights that belong to it.
    range : values from and to, where the usual range around the default would miss the corner of the L-curve.
    """

    option: str
    norm: str = "l1"
    followers: tuple[str, ...] = ()
    range: tuple[float, float] | None = None


@dataclass(frozen=True)
class Method:
    """One way to do one step.

    Attributes
    ----------
    stage : the step of the consensus paper it belongs to.
    name : what the user types.
    module : where it lives; the module defines `function` and, when it has options, `options_class`.
    function : name of the pure function in the module.
    options_class : name of its options dataclass in the module; empty when it has none.
    title : how the methods text calls it.
    citations : keys of `data/references.bib`.
    recommended : whether the consensus paper recommends it (True) or another kind of method (False); None where the
        paper does not judge.
    sparse : whether it penalises with a norm that favours sparse edges (L1, TV, TGV).
    tuning : what `tune` varies; None where that has to be said.
    """

    stage: str
    name: str
    module: str
    function: str
    options_class: str
    title: str
    citations: tuple[str, ...] = ()
    recommended: bool | None = None
    sparse: bool = False
    tuning: Tuning | None = None

    def load(self) -> Callable[..., Any]:
        """The function itself."""
        function: Callable[..., Any] = getattr(import_module(self.module), self.function)
        return function

    def options_type(self) -> type[Any] | None:
        """The options dataclass, or None."""
        return getattr(import_module(self.module), self.options_class) if self.options_class else None

    def inputs(self) -> tuple[str, ...]:
        """Names of the parameters of the function, `options` apart."""
        return tuple(name for name in inspect.signature(self.load()).parameters if name != "options")

    def required(self) -> tuple[str, ...]:
        """Names of the parameters without a default: what the method needs."""
        parameters = inspect.signature(self.load()).parameters.values()
        return tuple(p.name for p in parameters if p.default is inspect.Parameter.empty)

    def needs_network(self) -> bool:
        """Whether the method works by a network, so that it needs a file of weights."""
        return "network" in self.required()

    def run(self, options: Any = None, **available: Any) -> Any:
        """Call the function with those of the available inputs that it takes."""
        chosen = {name: value for name, value in available.items() if name in self.inputs()}
        missing = [name for name in self.required() if chosen.get(name) is None]
        if missing:
            raise ValueError(f"{self.stage} method {self.name!r} needs {', '.join(missing)}, not available here.")
        if self.options_class:
            chosen["options"] = options
        return self.load()(**chosen)


# fmt: off
METHODS = (
    Method("coil-combination", "aspire", "qsmprep.coils.aspire", "aspire", "", "ASPIRE", ("eckstein2018", "robinson2017")),
    Method("coil-combination", "mcpc-3d-s-coils", "qsmprep.coils.mcpc3ds", "mcpc3ds", "", "MCPC-3D-S", ("eckstein2018", "robinson2017")),
    Method("phase-offset", "mcpc-3d-s", "qsmprep.phase.mcpc3ds", "mcpc3ds", "Mcpc3dsOptions", "MCPC-3D-S", ("eckstein2018",)),
    Method("unwrapping", "romeo", "qsmprep.unwrap.romeo", "romeo", "RomeoOptions", "ROMEO", ("dymerska2021",), recommended=True),
    Method("unwrapping", "laplacian", "qsmprep.unwrap.laplacian", "laplacian", "LaplacianOptions", "Laplacian unwrapping", ("schofield2003",), recommended=False),
    Method("echo-combination", "weighted", "qsmprep.field.weighted", "weighted_field", "WeightedFieldOptions", "weighted averaging of the unwrapped echoes", ("dymerska2021",), recommended=True),
    Method("echo-combination", "linear-fit", "qsmprep.field.linear", "linear_field", "", "weighted linear fit with offset", ("liu2013",), recommended=True),
    Method("echo-combination", "nonlinear-fit", "qsmprep.field.nonlinear", "nonlinear_field", "NonlinearFieldOptions", "non-linear complex fit", ("liu2013",), recommended=True),
    Method("mask", "bet", "qsmprep.masking.bet", "bet", "BetOptions", "BET", ("smith2002",), recommended=True),
    Method("mask", "robust", "qsmprep.masking.robust", "robust_mask", "RobustMaskOptions", "magnitude threshold mask", ("dymerska2021",), recommended=False),
    Method("mask", "net", "qsmprep.masking.net", "net", "NetOptions", "a U-net (in the manner of SynthStrip)", ("hoopes2022",), recommended=True),
    Method("background", "v-sharp", "qsmprep.background.vsharp", "vsharp", "VsharpOptions", "V-SHARP", ("li2011", "wu2012"), recommended=True),
    Method("background", "pdf", "qsmprep.background.pdf", "pdf", "PdfOptions", "projection onto dipole fields (PDF)", ("liu2011",), recommended=True),
    Method("background", "sharp", "qsmprep.background.sharp", "sharp", "SharpOptions", "SHARP", ("schweser2011",), recommended=True),
    Method("background", "resharp", "qsmprep.background.resharp", "resharp", "ResharpOptions", "RESHARP", ("sun2014",), recommended=True),
    Method("background", "lbv", "qsmprep.background.lbv", "lbv", "LbvOptions", "Laplacian boundary value method (LBV)", ("zhou2014",), recommended=False),
    Method("background", "ismv", "qsmprep.background.ismv", "ismv", "IsmvOptions", "the iterative spherical mean value method (iSMV)", ("wen2014",), recommended=True),
    Method("background", "smv", "qsmprep.background.smv", "smv", "SmvOptions", "spherical mean value (SMV) filtering", ("schweser2011",), recommended=False),
    Method("background", "harperella", "qsmprep.background.harperella", "harperella", "HarperellaOptions", "HARPERELLA", ("li2014",), recommended=False),
    Method("background", "iharperella", "qsmprep.background.iharperella", "iharperella", "IharperellaOptions", "iHARPERELLA", ("li2014",), recommended=False),
    Method("background", "sharqnet", "qsmprep.background.sharqnet", "sharqnet", "SharqnetOptions", "a U-net (SHARQnet)", ("bollmann2019sharqnet",), recommended=False),
    Method("inversion", "tkd", "qsmprep.inversion.tkd", "tkd", "TkdOptions", "thresholded k-space division (TKD)", ("shmueli2009", "schweser2013"), tuning=Tuning("threshold", norm="image")),
    Method("inversion", "tsvd", "qsmprep.inversion.tsvd", "tsvd", "TsvdOptions", "truncated singular value decomposition (TSVD)", ("wharton2010", "schweser2013"), tuning=Tuning("threshold", norm="image")),
    Method("inversion", "tikhonov", "qsmprep.inversion.tikhonov", "tikhonov", "TikhonovOptions", "Tikhonov-regularised inversion", ("kressler2010", "schweser2013"), tuning=Tuning("regularisation", norm="image")),
    Method("inversion", "l2", "qsmprep.inversion.l2", "l2", "L2Options", "closed-form inversion with an L2 gradient penalty", ("bilgic2014",), tuning=Tuning("regularisation", norm="l2")),
    Method("inversion", "ilsqr", "qsmprep.inversion.ilsqr", "ilsqr", "IlsqrOptions", "iLSQR", ("li2015",)),
    Method("inversion", "rts", "qsmprep.inversion.rts", "rts", "RtsOptions", "rapid two-step inversion (RTS)", ("kames2018",), sparse=True, tuning=Tuning("mu", range=(10.0, 1e5))),
    Method("inversion", "tv", "qsmprep.inversion.tv", "tv", "TvOptions", "total variation (TV)", ("bilgic2014fast",), sparse=True, tuning=Tuning("regularisation")),
    Method("inversion", "fansi", "qsmprep.inversion.fansi", "fansi", "FansiOptions", "FANSI", ("milovic2018", "milovic2019"), recommended=True, sparse=True, tuning=Tuning("alpha1", followers=("mu1",))),
    Method("inversion", "fansi-tgv", "qsmprep.inversion.fansi_tgv", "fansi_tgv", "FansiTgvOptions", "FANSI with total generalised variation", ("milovic2018", "bredies2010"), sparse=True, tuning=Tuning("alpha1", followers=("mu1", "alpha0", "mu0"))),
    Method("inversion", "l1-qsm", "qsmprep.inversion.l1qsm", "l1qsm", "L1QsmOptions", "L1-QSM", ("milovic2022",), sparse=True, tuning=Tuning("alpha1")),
    Method("inversion", "hd-qsm", "qsmprep.inversion.hdqsm", "hdqsm", "HdQsmOptions", "HD-QSM", ("lambert2022",), sparse=True, tuning=Tuning("alpha")),
    Method("inversion", "ndi", "qsmprep.inversion.ndi", "ndi", "NdiOptions", "non-linear dipole inversion (NDI)", ("polak2020",), tuning=Tuning("max_iterations", norm="image")),
    Method("inversion", "medi", "qsmprep.inversion.medi", "medi", "MediOptions", "MEDI", ("liu2012", "liu2013"), recommended=True, sparse=True, tuning=Tuning("data_weight")),
    Method("inversion", "medi0", "qsmprep.inversion.medi0", "medi0", "Medi0Options", "MEDI+0", ("liu2018", "liu2012", "liu2013"), sparse=True, tuning=Tuning("data_weight")),
    Method("inversion", "tgv", "qsmprep.inversion.tgv", "tgv", "TgvOptions", "single-step total generalised variation (TGV-QSM)", ("langkammer2015", "bredies2010", "chambolle2011"), sparse=True, tuning=Tuning("alpha1", followers=("alpha0",))),
    Method("inversion", "tfi", "qsmprep.inversion.tfi", "tfi", "TfiOptions", "preconditioned total field inversion (TFI)", ("liu2017", "liu2013"), sparse=True, tuning=Tuning("data_weight")),
    Method("inversion", "star", "qsmprep.inversion.star", "star", "StarOptions", "STAR-like two-level total variation", ("wei2015",), sparse=True, tuning=Tuning("regularisation")),
    Method("inversion", "qsmnet", "qsmprep.inversion.qsmnet", "qsmnet", "QsmnetOptions", "a U-net (QSMnet)", ("yoon2018", "jung2020", "bollmann2019deepqsm")),
    Method("inversion", "modl", "qsmprep.inversion.modl", "modl", "ModlOptions", "an unrolled network (MoDL-QSM)", ("feng2021",)),
    Method("inversion", "lpcnn", "qsmprep.inversion.lpcnn", "lpcnn", "LpcnnOptions", "a learned proximal network (LPCNN)", ("lai2020",)),
    Method("inversion", "autoqsm", "qsmprep.inversion.autoqsm", "autoqsm", "AutoqsmOptions", "a single-step U-net (AutoQSM)", ("wei2019",)),
    Method("relaxometry", "arlo", "qsmprep.relaxometry.arlo", "arlo", "ArloOptions", "ARLO", ("pei2015",)),
    Method("relaxometry", "numart", "qsmprep.relaxometry.numart", "numart", "NumartOptions", "NumART2*", ("hagberg2002",)),
    Method("relaxometry", "nlls", "qsmprep.relaxometry.nlls", "nlls", "NllsOptions", "non-linear least squares", ("gudbjartsson1995",)),
    Method("relaxometry", "log-linear", "qsmprep.relaxometry.loglinear", "loglinear", "LoglinearOptions", "weighted log-linear fit", ("pei2015",)),
    Method("r2", "epg", "qsmprep.relaxometry.dictionary", "dictionary_match", "DictionaryOptions", "a dictionary of extended phase graphs", ("mcphee2015", "lebel2010", "weigel2015")),
    Method("r2", "mono-exponential", "qsmprep.relaxometry.monoexponential", "monoexponential", "MonoexponentialOptions", "a mono-exponential fit without the first echo", ()),
    Method("separation", "closed-form", "qsmprep.separation.closed_form", "closed_form", "ClosedFormOptions", "voxel-wise source separation", ("shin2021",)),
    Method("separation", "r2star-qsm", "qsmprep.separation.r2star_qsm", "r2star_qsm", "R2starQsmOptions", "R2*-QSM", ("dimov2022",)),
    Method("separation", "chisep-medi", "qsmprep.separation.chisep_medi", "chisep_medi", "ChisepMediOptions", "chi-separation with MEDI's regularisation", ("shin2021", "liu2012")),
    Method("separation", "chisep-ilsqr", "qsmprep.separation.chisep_ilsqr", "chisep_ilsqr", "ChisepIlsqrOptions", "chi-separation with iLSQR", ("shin2021", "li2015")),
    Method("separation", "decompose", "qsmprep.separation.decompose", "decompose", "DecomposeOptions", "DECOMPOSE-QSM", ("chen2021",)),
    Method("separation", "chi-sepnet-r2p", "qsmprep.separation.chisepnet", "chisepnet_r2p", "ChisepnetR2pOptions", "a U-net with R2' (chi-sepnet)", ("kim2025",)),
    Method("separation", "chi-sepnet-r2s", "qsmprep.separation.chisepnet", "chisepnet_r2s", "ChisepnetR2sOptions", "a U-net with R2* (chi-sepnet)", ("kim2025",)),
    Method("swi", "clear-swi", "qsmprep.weighting.clear_swi", "clear_swi", "ClearSwiOptions", "the method of CLEAR-SWI", ("eckstein2021",)),
    Method("swi", "haacke-swi", "qsmprep.weighting.haacke_swi", "haacke_swi", "HaackeSwiOptions", "the classical phase mask (SWI)", ("haacke2004", "reichenbach1997")),
)
# fmt: on

# A word that stands for a method: it is judged, cited and given options as that.
STANDS_FOR: Mapping[tuple[str, str], str] = MappingProxyType({("mask", "auto"): "bet", ("mask", "fsl-bet"): "bet"})


def stages() -> tuple[str, ...]:
    """Names of the stages that have methods, in the order of the table of stages."""
    with_methods = {method.stage for method in METHODS}
    return tuple(stage.name for stage in STAGES if stage.name in with_methods)


def judged(stage: str, name: str) -> Method | None:
    """The method of that name, or that which the name stands for; None where the table does not know it."""
    name = STANDS_FOR.get((stage, name), name)
    return next((method for method in METHODS if (method.stage, method.name) == (stage, name)), None)


def names(stage: str) -> tuple[str, ...]:
    """Names of the methods of a stage, in the table's order."""
    return tuple(method.name for method in METHODS if method.stage == stage)


def find(stage: str, name: str) -> Method:
    """The method of that stage and name; ValueError listing the known ones."""
    for method in METHODS:
        if (method.stage, method.name) == (stage, name):
            return method
    raise ValueError(f"Unknown {stage} method {name!r}; known are {', '.join(names(stage))}.")
