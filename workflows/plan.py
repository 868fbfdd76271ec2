"""What is fixed before a run's graph is built: its input, settings, grid, and share of the machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nipype.interfaces.base import Undefined, isdefined

from qsmprep import registry
from qsmprep.bids.anatomy import Anatomy
from qsmprep.bids.reuse import Reused
from qsmprep.bids.scans import GreRun, SpinEchoScan
from qsmprep.bids.segmentation import Region
from qsmprep.bids.spaces import PlannedSpace
from qsmprep.engine.node import Node
from qsmprep.engine.resources import COMPILED_GB, estimate_mem_gb, total_memory_gb
from qsmprep.findings import Note, Warning
from qsmprep.nets.patches import TORCH_GB
from qsmprep.settings import Settings
from qsmprep.workflows.memory import loaded_by


@dataclass(frozen=True)
class BrainMaskSource:
    """A brain mask made elsewhere: the file and where it comes from, in words."""

    path: Path
    origin: str


@dataclass(frozen=True)
class NetworkFile:
    """Weights of a network: file, card, GiB that it and torch take for these images at once, and what it gives.

    `masked` tells whether it sees nothing beyond the mask.
    """

    path: Path
    card: Path
    needs_gb: float
    gives: tuple[str, ...] = ()
    masked: bool = True


@dataclass(frozen=True)
class RunPlan:
    """One run of the pipeline.

    Attributes
    ----------
    run : input files and metadata.
    prefix : stem of the output names.
    settings : with `auto` resolved to methods.
    output_dir, bids_dir : absolute folders.
    shape, n_echoes : of the images; memory is estimated from them.
    echo_times_s : of the echoes used after phase offset removal.
    centre_frequency_mhz, frequency_source : the scanner's, and how it is known.
    b0_direction : given by the user, or None to take the affine's.
    threads : that one step may use.
    device : "cpu" or "cuda".
    brain_mask : given from elsewhere, or None.
    reused : kind -> result of another program that stands for that of a step.
    reference_region : of a given segmentation, or None.
    anatomy : segmentations and atlases whose regions are measured.
    spaces : templates in which the maps are written too.
    networks : (stage, method) -> weights, for the methods that work by a network.
    second_mask : weights of the network that makes the brain mask where the chosen method's has not the shape of one.
    slice_axis, slice_axis_source : voxel axis across the slices, and how it is known.
    spin_echo, spin_echo_notes : the scan that tells R2, or None, and what was decided about it.
    coil_notes : what was decided about images of single coils.
    notes : what was decided or assumed before the graph was built.
    warnings : what the reader should worry about before it runs.
    software : name -> version, for the sidecars.
    acquisition : what the consensus asks to be told of the scan, for the record.
    """

    run: GreRun
    prefix: str
    settings: Settings
    output_dir: Path
    bids_dir: Path
    shape: tuple[int, int, int]
    n_echoes: int
    echo_times_s: tuple[float, ...]
    centre_frequency_mhz: float
    frequency_source: str
    threads: int
    device: str
    software: dict[str, str]
    acquisition: Mapping[str, Any] = field(default_factory=dict)
    b0_direction: tuple[float, float, float] | None = None
    brain_mask: BrainMaskSource | None = None
    reused: Mapping[str, Reused] = field(default_factory=dict)
    reference_region: Region | None = None
    anatomy: Anatomy = field(default_factory=Anatomy)
    spaces: tuple[PlannedSpace, ...] = ()
    networks: Mapping[tuple[str, str], NetworkFile] = field(default_factory=dict)
    second_mask: NetworkFile | None = None
    slice_axis: int = 2
    slice_axis_source: str = ""
    spin_echo: SpinEchoScan | None = None
    spin_echo_notes: tuple[Note, ...] = ()
    coil_notes: tuple[Note, ...] = ()
    notes: tuple[Note, ...] = ()
    warnings: tuple[Warning, ...] = ()

    @property
    def name(self) -> str:
        """A name that nipype accepts for the graph."""
        return self.prefix.replace("-", "_")

    @property
    def files(self) -> tuple[Path, ...]:
        """Every image the run is made from, those of the spin echo scan last."""
        return self.run.files + (self.spin_echo.files if self.spin_echo else ())

    @property
    def in_slices(self) -> bool:
        """Whether slices may have phase offsets of their own: a 2D scan by its sidecar, or as the user says."""
        is_2d = str(self.run.metadata.get("MRAcquisitionType", "")).upper() == "2D"
        return is_2d or self.settings.steps["input"].slice_phase == "align"

    @property
    def echo_spacing_s(self) -> float:
        """Time between the first two echoes used; the echo time of a single one."""
        times = self.echo_times_s
        return times[1] - times[0] if len(times) > 1 else times[0]

    @property
    def maps_head(self) -> bool:
        """Whether the field is wanted beyond the brain, for a network that is given no mask."""
        return any(not network.masked for network in self.networks.values())

    @property
    def b0(self) -> list[float]:
        """The given direction of B0 as a node's input; empty for the affine's."""
        return list(self.b0_direction or ())

    def options(self, stage: str, method: str) -> dict[str, Any]:
        """Options of a method as a node's input."""
        options = self.settings.options_of(stage, method)
        return {} if options is None else asdict(options)

    def step_options(self, step: str) -> dict[str, Any]:
        """Options of a step without alternatives as a node's input."""
        return asdict(self.settings.steps[step])

    def node(
        self,
        interface: Any,
        name: str,
        *,
        volumes: float,
        threads: int = 1,
        network: NetworkFile | None = None,
        loaded_gb: float = COMPILED_GB,
    ) -> Node:
        """A node that needs the memory of so many float32 volumes, and of a network if it has one, and threads."""
        memory = estimate_mem_gb(self.shape, copies=volumes, loaded_gb=loaded_gb)
        if network is not None:
            memory = round(memory + self._give_network(interface, network, memory), 3)
        node = Node(interface, name=name, mem_gb=memory, n_procs=threads)
        if hasattr(interface.inputs, "num_threads"):
            interface.inputs.num_threads = threads
        return node

    def method_node(
        self, interface: Any, name: str, *, stage: str, method: str, volumes: float, light: bool = False
    ) -> Node:
        """A node of a registry method with its options, weights, device and all the threads a step may use.

        A light one, which spends its time on reading and writing, gets one thread and runs beside others.
        """
        network = self.networks.get((stage, method))
        device = self.device if network or self._uses_device(interface, stage, method) else "cpu"
        interface.inputs.trait_set(method=method, options=self.options(stage, method), device=device)
        return self.node(
            interface,
            name,
            volumes=volumes,
            threads=1 if light else self.threads,
            network=network,
            loaded_gb=loaded_by(stage, method),
        )

    def _uses_device(self, interface: Any, stage: str, method: str) -> bool:
        """Whether a method could run on a GPU, so that it takes its turn there."""
        if self.device == "cpu":
            return False
        return isdefined(getattr(interface.inputs, "second_network", Undefined)) or (
            "device" in registry.find(stage, method).inputs()
        )

    def _give_network(self, interface: Any, network: NetworkFile, beside_gb: float) -> float:
        """Set weights and card; bound the network's memory where it would take too much, and return what it takes."""
        interface.inputs.trait_set(network=str(network.path), card=str(network.card))
        limit = self.settings.steps["execution"].mem_mb
        room = max((limit / 1024 if limit else 0.9 * total_memory_gb()) - beside_gb, 0.5)
        if network.needs_gb > room:
            interface.inputs.memory_gb = round(max(room - TORCH_GB, 0.2), 3)
        return min(network.needs_gb, room)
