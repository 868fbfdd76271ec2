"""Nodes that draw one picture of the report, and choose the window of susceptibility."""

from __future__ import annotations

from pathlib import Path

from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    InputMultiPath,
    SimpleInterface,
    TraitedSpec,
    isdefined,
    traits,
)

from qsmprep.bids.outputs import write_json
from qsmprep.engine.staleness import algo_version
from qsmprep.findings import Fact
from qsmprep.interfaces.images import read_grid, read_mask, read_volume
from qsmprep.interfaces.step import Record, Step, StepInputSpec, StepOutputSpec
from qsmprep.report.figures import STYLES, save_mosaic
from qsmprep.report.histogram import SUFFIX as HISTOGRAM
from qsmprep.report.histogram import histogram
from qsmprep.report.window import STAGE, widened, window_words
from qsmprep.settings import DisplayOptions


class ChooseWindowInputSpec(StepInputSpec):
    """Inputs of `ChooseWindow`."""

    in_file = File(exists=True, mandatory=True, desc="susceptibility in ppm")
    other_file = File(exists=True, desc="a second map that is shown in the same window")
    mask = File(exists=True, mandatory=True, desc="where they are shown")
    style = traits.Enum("chi", "source", usedefault=True, desc="susceptibility of both signs, or the size of one")
    label = traits.Str(mandatory=True, desc="what the window is for")
    options = traits.Dict()


class ChooseWindowOutputSpec(StepOutputSpec):
    """Outputs of `ChooseWindow`."""

    window = traits.List(traits.Float, desc="darkest and brightest value in ppm")


class ChooseWindow(Step):
    """Choose in which window susceptibility is shown, and tell it."""

    input_spec = ChooseWindowInputSpec
    output_spec = ChooseWindowOutputSpec
    stage = STAGE

    def _compute(self, folder: Path) -> Record:
        options, inputs = DisplayOptions(**(self.inputs.options or {})), self.inputs
        given = options.limits()
        window = STYLES[inputs.style]["window"]
        if given is None:
            files = [path for path in (inputs.in_file, inputs.other_file) if isdefined(path)]
            window = widened(window, [read_volume(path) for path in files], read_mask(inputs.mask))
        elif inputs.style == "chi":
            window = given
        method, how = ("auto", ", so wide that no area saturates") if given is None else ("fixed", "")
        title = f"a window of {window_words(window)} ({inputs.label}{how})"
        record = Record(self.stage, method, title, label=inputs.label)
        record.state(
            Fact("window", "darkest and brightest value", "ppm", list(window)),
            Fact("window_of", "maps shown in it", "", inputs.label),
        )
        self._results["window"] = [float(limit) for limit in window]
        return record


class DrawFigureInputSpec(BaseInterfaceInputSpec):
    """Inputs of `DrawFigure`."""

    in_file = File(exists=True, desc="without, as where a step had nothing to give, no picture is drawn")
    echo = traits.Int(0, usedefault=True, desc="which echo of a four-dimensional image; -1 is the last")
    mask = File(exists=True, desc="only voxels inside are drawn")
    frame = File(exists=True, desc="mask whose box is shown, that of several pictures which are to register")
    outlines = InputMultiPath(File(exists=True), desc="masks whose outlines are drawn")
    outline_names = traits.List(traits.Str)
    display = traits.Dict(desc="window, cmap, label, title of the mosaic")
    window = traits.List(traits.Float, desc="in place of that of `display`: darkest and brightest value")
    histogram = traits.Bool(False, usedefault=True, desc="count the values inside the mask, for a plot")
    out_file = traits.Str(mandatory=True, desc="absolute path of the PNG")
    algo_version = traits.Str()


class DrawFigureOutputSpec(TraitedSpec):
    """Outputs of `DrawFigure`."""

    out_file = File(exists=True)


class DrawFigure(SimpleInterface):
    """A mosaic of slices in three planes."""

    input_spec = DrawFigureInputSpec
    output_spec = DrawFigureOutputSpec
    _always_run = True  # a figure that somebody deleted is drawn again

    def __init__(self, **inputs):
        super().__init__(**inputs)
        self.inputs.algo_version = algo_version(f"{__name__}.DrawFigure")

    def _run_interface(self, runtime):
        inputs = self.inputs
        if not isdefined(inputs.in_file):
            return runtime
        volume = read_volume(inputs.in_file)
        if volume.ndim == 4:
            volume = volume[inputs.echo]
        outlines = [read_mask(path) for path in (inputs.outlines or [])]
        mask = read_mask(inputs.mask) if isdefined(inputs.mask) else None
        picture = Path(inputs.out_file)
        display = inputs.display | ({"window": tuple(inputs.window)} if isdefined(inputs.window) else {})
        save_mosaic(
            picture,
            volume,
            read_grid(inputs.in_file).affine,
            mask=mask,
            frame=read_mask(inputs.frame) if isdefined(inputs.frame) else None,
            contours=list(zip(inputs.outline_names or [], outlines, strict=True)),
            **display,
        )
        if inputs.histogram:
            counted = histogram(volume, mask, label=inputs.display.get("label", ""))
            write_json(picture.with_name(picture.stem + HISTOGRAM), counted.document() if counted else {})
        self._results["out_file"] = inputs.out_file
        return runtime
