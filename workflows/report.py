"""Graph that draws the pictures of the report, and the table that says which."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nipype.interfaces.utility import Merge
from nipype.pipeline.engine import Node, Workflow

from qsmprep.bids.outputs import figures_folder
from qsmprep.interfaces.report import DrawFigure
from qsmprep.report.figures import STYLES
from qsmprep.workflows.inversion import chi_name
from qsmprep.workflows.plan import RunPlan
from qsmprep.workflows.separation import separates


@dataclass(frozen=True)
class Figure:
    """One picture.

    Attributes
    ----------
    name : of its node, and the `desc` of its file.
    suffix : of its file.
    stages : steps of the report it stands in.
    source : (stage graph, output) of the image.
    caption : below the picture.
    display : options of the mosaic.
    mask : (stage graph, output) of the mask to which it is cut, or None.
    echo : which echo of a four-dimensional image.
    outlines : name -> (stage graph, output) of masks drawn as outlines.
    """

    name: str
    suffix: str
    stages: tuple[str, ...]
    source: tuple[str, str]
    caption: str
    display: dict[str, Any]
    mask: tuple[str, str] | None = None
    echo: int = 0
    outlines: Mapping[str, tuple[str, str]] = field(default_factory=dict)


BRAIN = ("brain", "mask")
QSM = ("inversion", "mask")

FIGURES = (
    Figure("firstecho", "phase", ("input",), ("phase", "phase"), "Wrapped phase of the first echo.", {**STYLES["phase"], "title": "Wrapped phase, first echo"}),
    Figure("lastecho", "phase", ("input",), ("phase", "phase"), "Wrapped phase of the last echo.", {**STYLES["phase"], "title": "Wrapped phase, last echo"}, echo=-1),
    Figure("masks", "magnitude", ("mask",), ("phase", "magnitude_rss"), "Outlines of the consensus masks on the magnitude (root sum of squares over echoes). Mask 1: brain; mask 3: brain with reliable phase, holes filled; mask 4: where susceptibility is valid.",
           {**STYLES["magnitude"], "title": "Masks"},
           outlines={"mask 1: brain": BRAIN, "mask 3: background removal": ("masks", "background_mask"), "mask 4: QSM": QSM}),
    Figure("unwrapped", "phase", ("unwrapping",), ("field", "unwrapped"), "Unwrapped phase of the last echo. Steps of 2 pi would show as sharp edges.", {**STYLES["unwrapped"], "title": "Unwrapped phase"}, mask=BRAIN, echo=-1),
    Figure("quality", "phase", ("unwrapping",), ("field", "quality"), "Quality map of the unwrapping: 1 is coherent in space, magnitude and echo time.", {**STYLES["quality"], "title": "Quality map"}, mask=BRAIN),
    Figure("total", "fieldmap", ("echo-combination",), ("field", "total_field"), "Total field.", {**STYLES["field"], "title": "Total field"}, mask=BRAIN),
    Figure("local", "fieldmap", ("background", "inversion"), ("background", "local_field"), "Tissue field, background removed.", {**STYLES["field"], "title": "Tissue field"}, mask=("background", "mask")),
    Figure("weights", "weights", ("weights",), ("inversion", "weights"), "Data weights of the inversion: dark voxels are trusted less.", {**STYLES["weights"], "title": "Data weights"}, mask=QSM),
    Figure("chi", "Chimap", ("inversion",), ("inversion", "chi"), "Susceptibility in linear grey from -0.2 to 0.2 ppm; bright is paramagnetic.", {**STYLES["chi"], "title": "Susceptibility"}, mask=QSM),
    Figure("spinecho", "MESE", ("r2-registration",), ("r2prime", "spin_echo"), "Spin echo magnitude laid over the gradient echoes, with the outline of their brain mask: both must fit.", {**STYLES["magnitude"], "title": "Spin echo magnitude, registered"}, outlines={"brain of the gradient echoes": BRAIN}),
    Figure("r2", "R2map", ("r2",), ("r2prime", "r2"), "Transverse relaxation rate of the spin echoes.", {**STYLES["rate"], "title": "R2"}, mask=BRAIN),
    Figure("r2prime", "R2map", ("r2prime",), ("r2prime", "r2prime"), "Reversible transverse relaxation rate, or what stands in for it.", {**STYLES["rate"], "window": (0.0, 25.0), "title": "R2'"}, mask=BRAIN),
    Figure("paramagnetic", "Chimap", ("separation",), ("separation", "para"), "Paramagnetic susceptibility (iron).", {**STYLES["source"], "title": "Paramagnetic susceptibility"}, mask=("separation", "mask")),
    Figure("diamagnetic", "Chimap", ("separation",), ("separation", "dia"), "Size of the diamagnetic susceptibility (myelin, calcium), same window.", {**STYLES["source"], "title": "Diamagnetic susceptibility"}, mask=("separation", "mask")),
    Figure("r2star", "R2starmap", ("relaxometry",), ("relaxometry", "r2star"), "Effective transverse relaxation rate.", {**STYLES["r2star"], "title": "R2*"}, mask=BRAIN),
)  # fmt: skip


def figures_of(plan: RunPlan) -> tuple[Figure, ...]:
    """The pictures of a run."""
    there = {
        "relaxometry": plan.settings.method("relaxometry") != "none",
        "r2": plan.spin_echo is not None,
        "r2-registration": plan.spin_echo is not None,
        "r2prime": plan.spin_echo is not None or separates(plan),
        "separation": separates(plan),
    }
    figures = [figure for figure in FIGURES if all(there.get(stage, True) for stage in figure.stages)]
    for i, method in enumerate(plan.settings.methods["inversion"][1:], start=1):
        title = f"Susceptibility, {method}"
        label = method.replace("-", "")
        caption = f"Susceptibility by {method}, same window."
        source = ("inversion", chi_name(i))
        figures.append(
            Figure(label, "Chimap", ("inversion",), source, caption, {**STYLES["chi"], "title": title}, mask=QSM)
        )
    return tuple(figures)


def figure_file(figure: Figure, prefix: str) -> str:
    """File name of a picture."""
    return f"{prefix}_desc-{figure.name}_{figure.suffix}.png"


def init_figures_wf(*, plan: RunPlan, name: str = "figures_wf") -> Workflow:
    """One drawing node a picture, named as the picture; `connect_figures` connects them."""
    workflow = Workflow(name=name)
    folder = plan.output_dir / figures_folder(plan.prefix)
    for figure in figures_of(plan):
        draw = DrawFigure(
            out_file=str(folder / figure_file(figure, plan.prefix)), display=dict(figure.display), echo=figure.echo
        )
        node = plan.node(draw, figure.name, volumes=plan.n_echoes + 4)
        if figure.outlines:
            draw.inputs.outline_names = list(figure.outlines)
            merge = Node(Merge(len(figure.outlines)), name=f"{figure.name}_outlines")
            workflow.connect([(merge, node, [("out", "outlines")])])
        else:
            workflow.add_nodes([node])
    return workflow


def connect_figures(workflow: Workflow, figures_wf: Workflow, stages: Mapping[str, Workflow], plan: RunPlan) -> None:
    """Connect each picture to the stages it shows."""

    def connect(source: tuple[str, str], target: str) -> None:
        stage, output = source
        workflow.connect(stages[stage], f"outputnode.{output}", figures_wf, target)

    for figure in figures_of(plan):
        connect(figure.source, f"{figure.name}.in_file")
        if figure.mask:
            connect(figure.mask, f"{figure.name}.mask")
        for number, source in enumerate(figure.outlines.values(), start=1):
            connect(source, f"{figure.name}_outlines.in{number}")
