"""The simulated heads on which methods are compared: they differ in everything that decides how hard the problem is."""

from __future__ import annotations

from dataclasses import replace

from qsmprep.phantom.options import SimulationOptions

SEVEN_TESLA = {"field_strength": 7.0, "echo_times": "0.004,0.008,0.012,0.016,0.02"}
VARIED = {"variation": 0.05}
LESIONS = {"calcification": True, "bleed": True}
TEXTURED = {**VARIED, "texture": 0.01}

HEADS = {
    "standard": SimulationOptions(),
    "tilted": SimulationOptions(seed=1, tilt_x=20.0, **VARIED),
    "noisy, thick, lesions": SimulationOptions(seed=2, voxel_size="1,1,2", peak_snr=50.0, **LESIONS, **VARIED),
    "tilted, thick, calcified": SimulationOptions(
        seed=3, voxel_size="1,1,2", tilt_x=20.0, peak_snr=300.0, calcification=True, **VARIED
    ),
    "7 T, bleed": SimulationOptions(seed=4, bleed=True, **SEVEN_TESLA, **VARIED),
    "7 T, tilted, lesions": SimulationOptions(
        seed=5, tilt_x=20.0, peak_snr=300.0, **LESIONS, **SEVEN_TESLA, **VARIED
    ),
    "textured": SimulationOptions(seed=6, voxel_size="1,1,2", tilt_x=20.0, texture=0.01, **VARIED),
    "finer grid, calcified": SimulationOptions(
        seed=7, voxel_size="1,1,2", tilt_x=20.0, calcification=True, oversampling=2, **VARIED
    ),
}  # fmt: skip

# Two heads of each generator, none of which chose a default. The voxels of `qsm-forward` are as small as its double
# grid of double precision leaves room for on a machine with 16 GB.
GENERATORS = ("ellipsoids", "icbm152", "qsm-forward")
OF_GENERATOR = {
    "ellipsoids": {
        "ellipsoids, tilted": SimulationOptions(
            seed=21, voxel_size="1.5", tilt_x=20.0, oversampling=2, peak_snr=200.0, **TEXTURED
        ),
        "ellipsoids, noisy, thick, lesions": SimulationOptions(
            seed=22, voxel_size="1.2,1.2,1.8", oversampling=2, peak_snr=50.0, **LESIONS, **TEXTURED
        ),
    },
    "icbm152": {
        "icbm152, tilted": SimulationOptions(
            anatomy="icbm152", seed=31, voxel_size="1.5", tilt_x=25.0, oversampling=3, peak_snr=200.0, **TEXTURED
        ),
        "icbm152, 7 T, lesions": SimulationOptions(
            anatomy="icbm152", seed=32, voxel_size="1.2", oversampling=2, **LESIONS, **SEVEN_TESLA, **TEXTURED
        ),
    },
    "qsm-forward": {
        "qsm-forward, tilted": SimulationOptions(
            anatomy="icbm152", seed=41, voxel_size="1.5", tilt_x=20.0, tilt_y=-5.0, oversampling=2, peak_snr=200.0,
            **TEXTURED,
        ),
        "qsm-forward, noisy, thick, lesions": SimulationOptions(
            anatomy="icbm152", seed=42, voxel_size="1.5,1.5,2.25", oversampling=2, peak_snr=50.0, **LESIONS, **TEXTURED
        ),
    },
}  # fmt: skip
GENERATOR = dict.fromkeys(HEADS, "ellipsoids") | {
    name: generator for generator, heads in OF_GENERATOR.items() for name in heads
}
EVERY_HEAD = HEADS | {name: options for heads in OF_GENERATOR.values() for name, options in heads.items()}


def with_voxels_of(options: SimulationOptions, edge_mm: float | None) -> SimulationOptions:
    """The head with voxels whose shortest edge is `edge_mm` and whose proportions stay; None: as it is."""
    if edge_mm is None:
        return options
    sizes = options.voxel_size_mm()
    return replace(options, voxel_size=",".join(f"{edge_mm * h / min(sizes):g}" for h in sizes))


def facts(name: str, edge_mm: float | None = None) -> str:
    """A head in one line."""
    options, generator = with_voxels_of(EVERY_HEAD[name], edge_mm), GENERATOR[name]
    made = generator if generator == options.anatomy else f"{generator} with the anatomy {options.anatomy}"
    lesions = [lesion for lesion in LESIONS if getattr(options, lesion)]
    grid = "the same grid" if options.oversampling == 1 else f"a grid finer by {options.oversampling}"
    tilt = f"tilt {options.tilt_x:g} degrees" + (f" and {options.tilt_y:g} about y" if options.tilt_y else "")
    return (
        f"made by {made}, {options.field_strength:g} T, {'x'.join(f'{h:g}' for h in options.voxel_size_mm())} mm, "
        f"{tilt}, peak SNR {options.peak_snr:g}, seed {options.seed}, variation {options.variation:g}, texture "
        f"{options.texture:g} ppm, simulated on {grid}, {' and '.join(lesions) or 'no lesion'}"
    )
