"""Compile every loop once, so that no first run waits for it: used when a container is built.

numba compiles a loop for the types that it is called with, so each is called through the method that it belongs to, on
a small simulated head, in the types that the nodes of the pipeline hand on. Nothing is read or written but the caches
of numba and matplotlib.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache, partial
from multiprocessing import get_context
from types import MappingProxyType
from typing import Any

import numpy as np

from qsmprep import pipeline, registry, settings
from qsmprep.analysis.deformation import register_deformable
from qsmprep.coils.images import CoilArrays
from qsmprep.engine.resources import available_cores
from qsmprep.numerics import proximal
from qsmprep.orientation.chisep_cosmos import ChisepCosmosOptions, chisep_cosmos
from qsmprep.orientation.cosmos import CosmosOptions, cosmos
from qsmprep.orientation.inputs import Orientations
from qsmprep.orientation.sti import StiOptions, sti
from qsmprep.phantom.head import SimulatedHead, simulate_head
from qsmprep.phantom.options import SimulationOptions
from qsmprep.phase.scaling import real_imag_to_polar, to_radians
from qsmprep.presets import DEFAULT_PIPELINE, PRESETS
from qsmprep.separation.constants import RelaxometricOptions, constants_at

# Small, since what takes time is the compiler; the second echo twice as late as the first, as ASPIRE needs it.
HEAD = SimulationOptions(voxel_size="5", echo_times="0.005,0.010,0.015,0.020,0.025", mese=True)
FEW = 2  # iterations

# Options with loops of their own: what a method is called with besides its defaults.
VARIANTS: Mapping[tuple[str, str], tuple[dict[str, Any], ...]] = MappingProxyType(
    {
        ("unwrapping", "romeo"): (
            {"weights": "bestpath"},
            {"tree": "sorted"},
            {"individual": True, "max_seeds": 4, "merge_regions": True},
        ),
        ("inversion", "ndi"): ({"linear_iterations": 1, "max_iterations": FEW},),
    }
)


def warm_up() -> int:
    """Compile with as many processes as there are cores; the status is 0 where everything ran."""
    started, failed = time.monotonic(), 0
    with ProcessPoolExecutor(available_cores(), get_context("spawn")) as pool:
        tasks = {pool.submit(run_task, name): name for name in plan()}
        for number, task in enumerate(as_completed(tasks), start=1):
            error = task.exception()
            failed += error is not None
            words = "compiled" if error is None else f"failed: {type(error).__name__}: {error}"
            print(f"[{number}/{len(tasks)}] {tasks[task]}: {words}", flush=True)
    print(f"Compiled in {time.monotonic() - started:.0f} s" + (f"; {failed} failed." if failed else "."), flush=True)
    return int(failed > 0)


def plan() -> dict[str, Callable[[], object]]:
    """What is called, by a name of its own. Networks need nothing compiled.

    The default pipeline takes longest and comes first; the other pipelines come last, when what they share with it is
    compiled.
    """
    pipelines = {f"pipeline {preset}": partial(_preset, preset) for preset in PRESETS}
    default = f"pipeline {DEFAULT_PIPELINE}"
    methods = {f"{m.stage} {m.name}": partial(_method, m) for m in registry.METHODS if not m.needs_network()}
    rest = {
        "L1-QSM's complex data term": _robust_fit,
        "phase scaling": _scaling,
        "several orientations": _orientations,
        "registration of the template": _registration,
        "matplotlib's fonts": _fonts,
    }
    return {default: pipelines[default], **rest, **dict(reversed(methods.items())), **pipelines}


def run_task(name: str) -> None:
    """Call one of the plan, in whatever process this is."""
    plan()[name]()


@cache
def head() -> SimulatedHead:
    """The simulated head, made once in each process."""
    return simulate_head(HEAD)


def images() -> dict[str, Any]:
    """What any method takes, by name, in the types that the nodes hand on: float32 images, bool masks."""
    made, scan = head(), head().scan
    noise = np.full(made.brain_mask.shape, 0.1, np.float32)
    return {
        "scan": scan, "echo_times_s": scan.echo_times_s, "voxel_size_mm": scan.voxel_size_mm,
        "echo_spacing_s": scan.echo_spacing_s, "centre_frequency_mhz": scan.centre_frequency_mhz,
        "constants": constants_at(RelaxometricOptions(), made.field_strength_t), "device": "cpu",
        "phase": made.phase, "unwrapped_phase": made.phase, "magnitude": made.magnitude, "image": made.magnitude[0],
        "magnitude_rss": np.sqrt(np.square(made.magnitude).sum(axis=0)), "mask": made.brain_mask,
        "total_mask": made.brain_mask, "field_mask": made.brain_mask, "total_field": made.total_field_hz,
        "field_hz": made.total_field_hz, "noise": noise, "noise_hz": noise, "field_ppm": in_ppm(made.local_field_hz),
        "total_field_ppm": in_ppm(made.total_field_hz), "weights": np.where(made.brain_mask, noise + 0.9, 0),
        "relative_residual": noise, "r2star": made.r2star, "r2prime": made.r2prime, "chi_ppm": made.chi_ppm,
        "echo_chi_ppm": np.stack([made.chi_ppm] * len(scan.echo_times_s)), "coils": coil_images(),
    }  # fmt: skip


def in_ppm(field_hz: np.ndarray) -> np.ndarray:
    """A field in ppm of the head's main field."""
    return np.asarray(field_hz / head().centre_frequency_mhz, np.float32)


def coil_images() -> CoilArrays:
    """Two coils that see the same."""
    return CoilArrays(np.stack([head().magnitude] * 2), np.stack([head().phase] * 2))


def few_iterations(options: Any) -> Any:
    """The options with a low cap on iterations."""
    if not hasattr(options, "max_iterations"):
        return options
    return dataclasses.replace(options, max_iterations=min(FEW, options.max_iterations))


def _preset(name: str) -> None:
    """The whole pipeline of a preset, for what stands between its methods."""
    chosen = settings.build({"pipeline": name})
    few = {key: few_iterations(options) for key, options in chosen.options.items()}
    made = head()
    pipeline.reconstruct(made.magnitude, made.phase, made.scan, options=dataclasses.replace(chosen, options=few))


def _method(method: registry.Method) -> None:
    given = images()
    if method.stage == "r2":
        made = head()
        assert made.mese_echo_times_s is not None  # it is simulated with spin echoes
        given |= {"magnitude": made.mese_magnitude, "echo_times_s": tuple(made.mese_echo_times_s)}
    default = settings.build({}).options_of(method.stage, method.name)
    variants = [dataclasses.replace(default, **chosen) for chosen in VARIANTS.get((method.stage, method.name), ())]
    for options in (few_iterations(default), *variants):
        method.run(options, **given)


def _scaling() -> None:
    """Phase in radians, and as scanners store it."""
    to_radians(head().phase)
    stored = np.round((head().phase + np.pi) * 4095 / (2 * np.pi)).astype(np.int16)
    to_radians(stored, raw=stored, manufacturer="Siemens")
    real_imag_to_polar(head().magnitude * np.cos(head().phase), head().magnitude * np.sin(head().phase))


def _robust_fit() -> None:
    """L1-QSM begins with a linear data term, and takes long to leave it."""
    image = head().phase[0]
    proximal.fit_phase_l1(image.copy(), image.copy(), image.copy(), image, image, 1.0, nonlinear=True)


def _orientations() -> None:
    """Three heads for COSMOS and six for the tensor, all of one field: the maps are of no use."""
    angles = np.radians([0, 20, 40, 60, 80, 100])
    directions = np.stack([np.sin(angles) * np.cos(3 * angles), np.sin(angles) * np.sin(3 * angles), np.cos(angles)], 1)
    fields = np.stack([in_ppm(head().local_field_hz)] * len(angles))
    given = Orientations(
        fields, head().brain_mask, head().voxel_size_mm, directions, np.ones_like(fields) * head().brain_mask
    )
    cosmos(given, options=CosmosOptions(max_iterations=2))
    sti(given, options=StiOptions(max_iterations=2))
    chisep_cosmos(
        given, r2primes=np.stack([head().r2prime] * len(angles)), constants=images()["constants"],
        options=ChisepCosmosOptions(max_iterations=2),
    )  # fmt: skip


def _registration() -> None:
    """What registers the template of regions, which needs finer voxels than those of the head here."""
    image = head().magnitude[0]
    coordinates = np.stack(np.meshgrid(*map(np.arange, image.shape), indexing="ij")).astype(np.float64)
    register_deformable([image], [image], mask=head().brain_mask, moving_mask=head().brain_mask,
                        coordinates=coordinates, weights=[1.0], iterations=1)  # fmt: skip


def _fonts() -> None:
    """matplotlib lists the fonts of the machine when it is first asked for one."""
    from matplotlib import font_manager

    font_manager.findfont("DejaVu Sans")
