"""One method on the true input of its stage, measured in a process of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from qsmprep import registry
from qsmprep.field.weighted import weighted_field
from qsmprep.field.weights import data_weights
from qsmprep.numerics.units import hz_to_ppm
from qsmprep.phantom.head import SimulatedHead
from qsmprep.scan import Scan
from qsmprep.settings import build

WARM_UP_EDGE = 48


def background_inputs(head: SimulatedHead) -> dict[str, np.ndarray]:
    """The true total field, and the noise that a field map of this scan would have."""
    return {"total_field": head.total_field_hz, "mask": head.brain_mask, "noise": noise_hz(head), **geometry(head)}


def inversion_inputs(head: SimulatedHead) -> dict[str, np.ndarray]:
    """The true fields, with the data weights of a user's chain; for single-step methods the scan without its offset."""
    mask, noise = head.brain_mask, noise_hz(head)
    weights = data_weights(
        noise_hz=noise, magnitude=head.magnitude, mask=mask, options=build({}).steps["weights"]
    )  # fmt: skip
    frequency = head.centre_frequency_mhz
    turned = np.exp(1j * (head.phase - head.phase_offset))
    return {
        "field_ppm": hz_to_ppm(head.local_field_hz, frequency), "mask": mask,
        "total_field_ppm": hz_to_ppm(head.total_field_hz, frequency), "total_mask": mask,
        "phase": np.angle(turned).astype(np.float32), "magnitude": head.magnitude,
        "weights": weights, "noise_hz": noise, "r2star": head.r2star * mask,
        "magnitude_rss": np.sqrt(np.einsum("exyz,exyz->xyz", head.magnitude, head.magnitude)), **geometry(head),
    }  # fmt: skip


def noise_hz(head: SimulatedHead) -> np.ndarray:
    """The noise that the field map of a scan has for unit complex noise in each echo."""
    times = head.echo_times_s
    phase = (2 * np.pi * times[:, None, None, None] * head.total_field_hz).astype(np.float32)
    scan = Scan(head.voxel_size_mm, echo_times_s=times)
    return weighted_field(phase, scan=scan, magnitude=head.magnitude, mask=head.brain_mask).noise_hz


def geometry(head: SimulatedHead) -> dict[str, np.ndarray]:
    return {
        "voxel_size_mm": np.array(head.voxel_size_mm),
        "b0_direction": np.array(head.b0_direction),
        "echo_times_s": head.echo_times_s,
        "centre_frequency_mhz": np.array(head.centre_frequency_mhz),
        "echo_spacing_s": np.array(head.echo_times_s[1] - head.echo_times_s[0]),
    }


def stored_scan(stored: Mapping[str, np.ndarray]) -> Scan:
    """The scan of what `geometry` says and a file holds."""
    return Scan(
        voxel_size_mm=tuple(stored["voxel_size_mm"]),
        b0_direction=tuple(stored["b0_direction"]),
        echo_times_s=tuple(stored["echo_times_s"]),
        centre_frequency_mhz=float(stored["centre_frequency_mhz"]),
    )


def measure(stage: str, name: str, file: str, settings: Mapping[str, Any] | None = None) -> dict:
    """Run a method once on a small cube, so that its loops are compiled, then on the head.

    `settings` is a document as of a settings file; none: the defaults.

    Returns its map (field in Hz, or susceptibility in ppm), mask, seconds, iterations, whether it converged, and the
    memory in MB that it added at its peak to what its inputs take.
    """
    method = registry.find(stage, name)
    options = build(settings or {}).options_of(stage, name)
    with np.load(file) as stored:
        images = {key: stored[key] for key in stored.files if key in method.inputs()}
        images |= {"scan": stored_scan(stored)} if "scan" in method.inputs() else {}
    images = {key: value if np.ndim(value) or key == "scan" else float(value) for key, value in images.items()}
    images |= network_inputs(method, options)
    method.run(options, **cubes(images))
    started = time.perf_counter()
    result, peak_mb = peak_memory_mb(lambda: method.run(options, **images))
    seconds = time.perf_counter() - started
    end = result.convergence
    return {
        "map": result.chi_ppm if stage == "inversion" else result.tissue_field,
        "mask": result.mask,
        "seconds": seconds,
        "iterations": end.iterations if end else 1,
        "converged": end.converged if end else True,
        "peak_mb": peak_mb,
    }


def network_inputs(method: registry.Method, options: Any) -> dict[str, Any]:
    """The network of a method that works by one, read from its weights."""
    if not method.needs_network():
        return {}
    from qsmprep.app.networks import find_network
    from qsmprep.weights.store import load_network

    return {"network": load_network(find_network(options, method.name).path)}


def cubes(inputs: dict[str, Any]) -> dict[str, Any]:
    """The inputs with each image cut to a small cube, for a run that compiles and leaves no memory behind."""
    return {key: _cube(value) if np.ndim(value) > 2 else value for key, value in inputs.items()}


def _cube(image: np.ndarray) -> np.ndarray:
    start = [(n - WARM_UP_EDGE) // 2 for n in image.shape[-3:]]
    cube = image[(..., *(slice(s, s + WARM_UP_EDGE) for s in start))].copy()
    if cube.dtype == bool:  # a ball, since a mask that fills its box has no outside
        axes = np.ogrid[tuple(slice(n) for n in cube.shape)]
        cube &= sum((x - n / 2 + 0.5) ** 2 for x, n in zip(axes, cube.shape, strict=True)) < (WARM_UP_EDGE / 2 - 3) ** 2
    return cube


def peak_memory_mb(work: Callable[[], Any]) -> tuple[Any, float]:
    """Result of `work`, and how much the resident memory of this process grows at its peak while it runs."""
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = _status_mb("VmRSS")
    result = work()
    return result, _status_mb("VmHWM") - before


def _status_mb(key: str) -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{key}:"))
    return int(line.split()[1]) / 1024
