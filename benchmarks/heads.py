"""The simulated heads on which methods are compared: they differ in everything that decides how hard the problem is."""

from __future__ import annotations

from qsmprep.phantom.options import SimulationOptions

SEVEN_TESLA = {"field_strength": 7.0, "echo_times": "0.004,0.008,0.012,0.016,0.02"}
VARIED = {"variation": 0.05}

HEADS = {
    "standard": SimulationOptions(),
    "tilted": SimulationOptions(seed=1, tilt_x=20.0, **VARIED),
    "noisy, thick, lesions": SimulationOptions(
        seed=2, voxel_size="1,1,2", peak_snr=50.0, calcification=True, bleed=True, **VARIED
    ),
    "tilted, thick, calcified": SimulationOptions(
        seed=3, voxel_size="1,1,2", tilt_x=20.0, peak_snr=300.0, calcification=True, **VARIED
    ),
    "7 T, bleed": SimulationOptions(seed=4, bleed=True, **SEVEN_TESLA, **VARIED),
    "7 T, tilted, lesions": SimulationOptions(
        seed=5, tilt_x=20.0, peak_snr=300.0, calcification=True, bleed=True, **SEVEN_TESLA, **VARIED
    ),
    "textured": SimulationOptions(seed=6, voxel_size="1,1,2", tilt_x=20.0, texture=0.01, **VARIED),
    "finer grid, calcified": SimulationOptions(
        seed=7, voxel_size="1,1,2", tilt_x=20.0, calcification=True, oversampling=2, **VARIED
    ),
}


def facts(options: SimulationOptions) -> str:
    """A head in one line."""
    lesions = [name for name in ("calcification", "bleed") if getattr(options, name)]
    grid = "the same" if options.oversampling == 1 else "a finer"
    return (
        f"{options.field_strength:g} T, {options.voxel_size.replace(',', 'x')} mm, tilt {options.tilt_x:g} degrees, "
        f"peak SNR {options.peak_snr:g}, seed {options.seed}, variation {options.variation:g}, texture "
        f"{options.texture:g} ppm, simulated on {grid} grid, {' and '.join(lesions) or 'no lesion'}"
    )
