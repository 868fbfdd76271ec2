"""Graph that draws the pictures of the report, and the table that says which."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from nipype.interfaces.utility import Merge
from nipype.pipeline.engine import Workflow

from qsmprep.bids.outputs import figures_folder
from qsmprep.engine.node import Node
from qsmprep.engine.resources import DRAWING_GB, FILES_GB
from qsmprep.interfaces.report import ChooseWindow, DrawFigure
from qsmprep.interfaces.template import OUTLINES
from qsmprep.report.crash import FIGURES_GRAPH
from qsmprep.report.pictures import PICTURES, SOURCES, SUSCEPTIBILITY, PictureKind, further_inversion, in_space
from qsmprep.report.window import with_window
from qsmprep.workflows.inversion import chi_name, maps_beside
from qsmprep.workflows.plan import RunPlan
from qsmprep.workflows.separation import separates
from qsmprep.workflows.spaces import outline_names, shown_name
from qsmprep.workflows.weighting import weights_images

BRAIN = ("brain", "mask")
QSM = ("inversion", "mask")
ALL_ECHOES = (("phase", "phase"), ("field", "unwrapped"))  # images of four dimensions
# Of each window: its node, the style of its pictures, and (stage graph, output) of what it is chosen by.
WINDOWS: Mapping[str, tuple[str, str, Mapping[str, tuple[str, str]]]] = {
    SUSCEPTIBILITY: ("chi_window", "chi", {"in_file": ("inversion", "chi"), "mask": QSM}),
    SOURCES: ("source_window", "source", {"in_file": ("separation", "para"), "other_file": ("separation", "dia"),
                                          "mask": ("separation", "mask")}),
}  # fmt: skip


@dataclass(frozen=True)
class Figure:
    """One picture of a run.

    Attributes
    ----------
    kind : its name, place in the report, caption and display.
    source : (stage graph, output) of the image.
    mask : (stage graph, output) of the mask to which it is cut, or None.
    frame : the same of the mask whose box is shown, or None; pictures of one frame register pixel for pixel.
    echo : which echo of a four-dimensional image.
    outlines : name -> (stage graph, output) of masks drawn as outlines.
    """

    kind: PictureKind
    source: tuple[str, str]
    mask: tuple[str, str] | None = None
    frame: tuple[str, str] | None = BRAIN
    echo: int = 0
    outlines: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Of its node, and the `desc` of its file."""
        return self.kind.name

    @property
    def stages(self) -> tuple[str, ...]:
        """Steps of the report it stands in."""
        return self.kind.stages

    def caption(self, windows: Mapping[str, str]) -> str:
        """Below the picture, with its window out of those that the steps told."""
        return with_window(self.kind.caption, windows.get(self.kind.window))


# fmt: off
FIGURES = (
    Figure(PICTURES["coherence"], ("phase", "coherence"), frame=None),
    Figure(PICTURES["firstecho"], ("phase", "phase"), frame=None),
    Figure(PICTURES["magnitude"], ("phase", "magnitude_rss")),
    Figure(PICTURES["masks"], ("phase", "magnitude_rss"),
           outlines={"mask 1: brain": BRAIN, "mask 3: background removal": ("masks", "background_mask"), "mask 4: QSM": QSM}),
    Figure(PICTURES["lastecho"], ("phase", "phase"), echo=-1),
    Figure(PICTURES["unwrapped"], ("field", "unwrapped"), mask=BRAIN, echo=-1),
    Figure(PICTURES["quality"], ("field", "quality"), mask=BRAIN),
    Figure(PICTURES["total"], ("field", "total_field"), mask=BRAIN),
    Figure(PICTURES["local"], ("background", "local_field"), mask=("background", "mask")),
    Figure(PICTURES["weights"], ("inversion", "weights"), mask=QSM),
    Figure(PICTURES["chi"], ("inversion", "chi"), mask=QSM),
    Figure(PICTURES["expectederror"], ("inversion", "expected_error"), mask=QSM),
    Figure(PICTURES["regions"], ("inversion", "chi"), mask=QSM, frame=("regions", "frame"),
           outlines={name.replace("_", " "): ("regions", name) for name in OUTLINES}),
    Figure(PICTURES["spinecho"], ("r2prime", "spin_echo"), outlines={"brain of the gradient echoes": BRAIN}),
    Figure(PICTURES["r2"], ("r2prime", "r2"), mask=BRAIN),
    Figure(PICTURES["r2prime"], ("r2prime", "r2prime"), mask=BRAIN),
    Figure(PICTURES["paramagnetic"], ("separation", "para"), mask=("separation", "mask")),
    Figure(PICTURES["diamagnetic"], ("separation", "dia"), mask=("separation", "mask")),
    Figure(PICTURES["swi"], ("weighting", "swi")),
    Figure(PICTURES["minip"], ("weighting", "minip")),
    Figure(PICTURES["smwi"], ("weighting", "smwi")),
    Figure(PICTURES["r2star"], ("relaxometry", "r2star"), mask=BRAIN),
)
# fmt: on


def figures_of(plan: RunPlan) -> tuple[Figure, ...]:
    """The pictures of a run."""
    there = {
        "coil-combination": plan.run.coils is not None,
        "relaxometry": plan.settings.method("relaxometry") != "none",
        "r2": plan.spin_echo is not None,
        "r2-registration": plan.spin_echo is not None,
        "r2prime": plan.spin_echo is not None or separates(plan),
        "separation": separates(plan),
        "swi": weights_images(plan),
        "smwi": weights_images(plan),
        "atlas": plan.anatomy.template is not None,
    }
    figures = [figure for figure in FIGURES if all(there.get(stage, True) for stage in figure.stages)]
    if "expected_error" not in maps_beside(plan):
        figures = [figure for figure in figures if figure.name != "expectederror"]
    further = enumerate(plan.settings.methods["inversion"][1:], start=1)
    figures += [Figure(further_inversion(method), ("inversion", chi_name(i)), mask=QSM) for i, method in further]
    for planned in plan.spaces:
        space = planned.space.name
        outlines = {name: ("spaces", output) for name, output in outline_names(space).items()}
        figures.append(Figure(in_space(space), ("spaces", shown_name(space)), frame=None, outlines=outlines))
    return tuple(figures)


def figure_file(figure: Figure, prefix: str) -> str:
    """File name of a picture."""
    return f"{prefix}_desc-{figure.name}_{figure.kind.suffix}.png"


def init_figures_wf(*, plan: RunPlan, name: str = FIGURES_GRAPH) -> Workflow:
    """One drawing node a picture, named as the picture, and the nodes of shared windows; see `connect_figures`."""
    workflow = Workflow(name=name)
    folder = plan.output_dir / figures_folder(plan.prefix)
    windows = {}
    for label in _windows(plan):
        name, style, _ = WINDOWS[label]
        windows[label] = window_node(plan, name, style=style, label=label)
        workflow.add_nodes([windows[label]])
    for figure in figures_of(plan):
        draw = DrawFigure(
            out_file=str(folder / figure_file(figure, plan.prefix)),
            display=dict(figure.kind.display),
            echo=figure.echo,
            histogram=figure.kind.histogram,
        )
        volumes = plan.n_echoes + 1 if figure.source in ALL_ECHOES else 2
        node = plan.node(draw, figure.name, volumes=volumes, loaded_gb=DRAWING_GB)
        if figure.outlines:
            draw.inputs.outline_names = list(figure.outlines)
            merge = Node(Merge(len(figure.outlines)), name=f"{figure.name}_outlines", mem_gb=FILES_GB)
            workflow.connect([(merge, node, [("out", "outlines")])])
        else:
            workflow.add_nodes([node])
        if figure.kind.window:
            workflow.connect([(windows[figure.kind.window], node, [("window", "window")])])
    return workflow


def window_node(plan: RunPlan, name: str, *, style: str, label: str) -> Node:
    """The node that chooses the window of susceptibility or of sources."""
    choose = ChooseWindow(style=style, label=label, options=plan.step_options("display"))
    return plan.node(choose, name, volumes=0.5, loaded_gb=FILES_GB)


def _windows(plan: RunPlan) -> tuple[str, ...]:
    """The windows that pictures of a run share."""
    used = {figure.kind.window for figure in figures_of(plan)}
    return tuple(label for label in WINDOWS if label in used)


def connect_figures(workflow: Workflow, figures_wf: Workflow, stages: Mapping[str, Workflow], plan: RunPlan) -> None:
    """Connect each picture to the stages it shows."""

    def connect(source: tuple[str, str], target: str) -> None:
        stage, output = source
        workflow.connect(stages[stage], f"outputnode.{output}", figures_wf, target)

    for label in _windows(plan):
        name, _, sources = WINDOWS[label]
        for target, source in sources.items():
            connect(source, f"{name}.{target}")
    for figure in figures_of(plan):
        connect(figure.source, f"{figure.name}.in_file")
        if figure.mask:
            connect(figure.mask, f"{figure.name}.mask")
        if figure.frame:
            connect(figure.frame, f"{figure.name}.frame")
        for number, source in enumerate(figure.outlines.values(), start=1):
            connect(source, f"{figure.name}_outlines.in{number}")
