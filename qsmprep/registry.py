"""The table of methods. A method is one file and one line here; everything else is generated from it.

Command line, TOML schema, documentation table, methods text and provenance read this table, so nothing can drift.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any


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
    """

    stage: str
    name: str
    module: str
    function: str
    options_class: str
    title: str
    citations: tuple[str, ...] = ()

    def load(self) -> Callable[..., Any]:
        """The function itself."""
        return getattr(import_module(self.module), self.function)

    def options_type(self) -> type | None:
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
    Method("phase-offset", "mcpc-3d-s", "qsmprep.phase.mcpc3ds", "mcpc3ds", "Mcpc3dsOptions", "MCPC-3D-S", ("eckstein2018",)),
    Method("unwrapping", "romeo", "qsmprep.unwrap.romeo", "romeo", "RomeoOptions", "ROMEO", ("dymerska2021",)),
    Method("unwrapping", "laplacian", "qsmprep.unwrap.laplacian", "laplacian", "LaplacianOptions", "Laplacian unwrapping", ("schofield2003",)),
    Method("echo-combination", "weighted", "qsmprep.field.weighted", "weighted_field", "WeightedFieldOptions", "weighted averaging of the unwrapped echoes", ("dymerska2021",)),
    Method("echo-combination", "linear-fit", "qsmprep.field.linear", "linear_field", "", "weighted linear fit with offset", ("liu2013",)),
    Method("echo-combination", "nonlinear-fit", "qsmprep.field.nonlinear", "nonlinear_field", "NonlinearFieldOptions", "non-linear complex fit", ("liu2013",)),
    Method("mask", "bet", "qsmprep.masking.bet", "bet", "BetOptions", "BET", ("smith2002",)),
    Method("mask", "robust", "qsmprep.masking.robust", "robust_mask", "RobustMaskOptions", "magnitude threshold mask", ("dymerska2021",)),
    Method("background", "v-sharp", "qsmprep.background.vsharp", "vsharp", "VsharpOptions", "V-SHARP", ("li2011", "wu2012")),
    Method("background", "pdf", "qsmprep.background.pdf", "pdf", "PdfOptions", "projection onto dipole fields (PDF)", ("liu2011",)),
    Method("background", "sharp", "qsmprep.background.sharp", "sharp", "SharpOptions", "SHARP", ("schweser2011",)),
    Method("background", "resharp", "qsmprep.background.resharp", "resharp", "ResharpOptions", "RESHARP", ("sun2014",)),
    Method("background", "lbv", "qsmprep.background.lbv", "lbv", "LbvOptions", "Laplacian boundary value method (LBV)", ("zhou2014",)),
    Method("background", "ismv", "qsmprep.background.ismv", "ismv", "IsmvOptions", "the iterative spherical mean value method (iSMV)", ("wen2014",)),
    Method("background", "smv", "qsmprep.background.smv", "smv", "SmvOptions", "spherical mean value (SMV) filtering", ("schweser2011",)),
    Method("background", "harperella", "qsmprep.background.harperella", "harperella", "HarperellaOptions", "HARPERELLA", ("li2014",)),
    Method("background", "iharperella", "qsmprep.background.iharperella", "iharperella", "IharperellaOptions", "iHARPERELLA", ("li2014",)),
    Method("background", "sharqnet", "qsmprep.background.sharqnet", "sharqnet", "SharqnetOptions", "a U-net (SHARQnet)", ("bollmann2019sharqnet",)),
    Method("inversion", "tkd", "qsmprep.inversion.tkd", "tkd", "TkdOptions", "thresholded k-space division (TKD)", ("shmueli2009", "schweser2013")),
    Method("inversion", "tsvd", "qsmprep.inversion.tsvd", "tsvd", "TsvdOptions", "truncated singular value decomposition (TSVD)", ("wharton2010", "schweser2013")),
    Method("inversion", "tikhonov", "qsmprep.inversion.tikhonov", "tikhonov", "TikhonovOptions", "Tikhonov-regularised inversion", ("kressler2010", "schweser2013")),
    Method("inversion", "l2", "qsmprep.inversion.l2", "l2", "L2Options", "closed-form inversion with an L2 gradient penalty", ("bilgic2014",)),
    Method("inversion", "ilsqr", "qsmprep.inversion.ilsqr", "ilsqr", "IlsqrOptions", "iLSQR", ("li2015",)),
    Method("inversion", "rts", "qsmprep.inversion.rts", "rts", "RtsOptions", "rapid two-step inversion (RTS)", ("kames2018",)),
    Method("inversion", "tv", "qsmprep.inversion.tv", "tv", "TvOptions", "total variation (TV)", ("bilgic2014fast",)),
    Method("inversion", "fansi", "qsmprep.inversion.fansi", "fansi", "FansiOptions", "FANSI", ("milovic2018", "milovic2019")),
    Method("inversion", "fansi-tgv", "qsmprep.inversion.fansi_tgv", "fansi_tgv", "FansiTgvOptions", "FANSI with total generalised variation", ("milovic2018", "bredies2010")),
    Method("inversion", "l1-qsm", "qsmprep.inversion.l1qsm", "l1qsm", "L1QsmOptions", "L1-QSM", ("milovic2022",)),
    Method("inversion", "hd-qsm", "qsmprep.inversion.hdqsm", "hdqsm", "HdQsmOptions", "HD-QSM", ("lambert2022",)),
    Method("inversion", "ndi", "qsmprep.inversion.ndi", "ndi", "NdiOptions", "non-linear dipole inversion (NDI)", ("polak2020",)),
    Method("inversion", "medi", "qsmprep.inversion.medi", "medi", "MediOptions", "MEDI", ("liu2012", "liu2013")),
    Method("inversion", "medi0", "qsmprep.inversion.medi0", "medi0", "Medi0Options", "MEDI+0", ("liu2018", "liu2012", "liu2013")),
    Method("inversion", "tgv", "qsmprep.inversion.tgv", "tgv", "TgvOptions", "single-step total generalised variation (TGV-QSM)", ("langkammer2015", "bredies2010", "chambolle2011")),
    Method("inversion", "tfi", "qsmprep.inversion.tfi", "tfi", "TfiOptions", "preconditioned total field inversion (TFI)", ("liu2017", "liu2013")),
    Method("inversion", "star", "qsmprep.inversion.star", "star", "StarOptions", "STAR-like two-level total variation", ("wei2015",)),
    Method("inversion", "qsmnet", "qsmprep.inversion.qsmnet", "qsmnet", "QsmnetOptions", "a U-net (QSMnet)", ("yoon2018", "jung2020", "bollmann2019deepqsm")),
    Method("inversion", "modl", "qsmprep.inversion.modl", "modl", "ModlOptions", "an unrolled network (MoDL-QSM)", ("feng2021",)),
    Method("inversion", "lpcnn", "qsmprep.inversion.lpcnn", "lpcnn", "LpcnnOptions", "a learned proximal network (LPCNN)", ("lai2020",)),
    Method("inversion", "vandi", "qsmprep.inversion.vandi", "vandi", "VandiOptions", "an unrolled network with a non-linear data term (VaNDI)", ("polak2020",)),
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
)
# fmt: on

STAGES = tuple(dict.fromkeys(method.stage for method in METHODS))


def names(stage: str) -> tuple[str, ...]:
    """Names of the methods of a stage, in the table's order."""
    return tuple(method.name for method in METHODS if method.stage == stage)


def find(stage: str, name: str) -> Method:
    """The method of that stage and name; ValueError listing the known ones."""
    for method in METHODS:
        if (method.stage, method.name) == (stage, name):
            return method
    raise ValueError(f"Unknown {stage} method {name!r}; known are {', '.join(names(stage))}.")
