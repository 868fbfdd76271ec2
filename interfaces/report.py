"""Node that draws one picture of the report."""

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
from qsmprep.interfaces.images import read_grid, read_mask, read_volume
from qsmprep.report.figures import save_mosaic
from qsmprep.report.histogram import SUFFIX as HISTOGRAM
from qsmprep.report.histogram import histogram


class DrawFigureInputSpec(BaseInterfaceInputSpec):
    """Inputs of `DrawFigure`."""

    in_file = File(exists=True, mandatory=True)
    echo = traits.Int(0, usedefault=True, desc="which echo of a four-dimensional image; -1 is the last")
    mask = File(exists=True, desc="only voxels inside are drawn")
    frame = File(exists=True, desc="mask whose box is shown, that of several pictures which are to register")
    outlines = InputMultiPath(File(exists=True), desc="masks whose outlines are drawn")
    outline_names = traits.List(traits.Str)
    display = traits.Dict(desc="window, cmap, label, title of the mosaic")
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
        volume = read_volume(inputs.in_file)
        if volume.ndim == 4:
            volume = volume[inputs.echo]
        outlines = [read_mask(path) for path in (inputs.outlines or [])]
        mask = read_mask(inputs.mask) if isdefined(inputs.mask) else None
        picture = Path(inputs.out_file)
        save_mosaic(
            picture,
            volume,
            read_grid(inputs.in_file).affine,
            mask=mask,
            frame=read_mask(inputs.frame) if isdefined(inputs.frame) else None,
            contours=list(zip(inputs.outline_names or [], outlines, strict=True)),
            **inputs.display,
        )
        if inputs.histogram:
            counted = histogram(volume, mask, label=inputs.display.get("label", ""))
            write_json(picture.with_name(picture.stem + HISTOGRAM), counted.document() if counted else {})
        self._results["out_file"] = inputs.out_file
        return runtime
