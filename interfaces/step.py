"""What every node of qsmprep shares: threads, a cache key that follows the code, and a record of what was done."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    SimpleInterface,
    TraitedSpec,
    Undefined,
    isdefined,
    traits,
)

from qsmprep import registry
from qsmprep.engine import iterations
from qsmprep.engine.staleness import algo_version
from qsmprep.findings import Fact, Note, Warning, fact_values, key_of
from qsmprep.nets.domain import outside_snr
from qsmprep.numerics.convergence import Convergence
from qsmprep.numerics.threads import use_threads
from qsmprep.options import acts, check_options, unit_of
from qsmprep.report.bibliography import references

RECORD_FILE = "step.json"
PEAK_SNR = "peak_snr"  # key of a fact of the echo combination
NETWORK_ROUNDING = 1e-5  # of the largest value of a map: tests/reproduce holds it
LONGEST_CURVE = 200  # points that a plot of the report needs
logger = logging.getLogger("qsmprep")
# What a node names but does not reach unless it is given the weights of a network.
FOR_NETWORKS = ("qsmprep.weights", "qsmprep.nets.domain")


class StepInputSpec(BaseInterfaceInputSpec):
    """Inputs of every step."""

    algo_version = traits.Str(desc="hash of the code that the step can reach: an upgraded step is computed anew")
    step = traits.Any(nohash=True, desc="class of the node, whose code `algo_version` follows")
    num_threads = traits.Int(1, usedefault=True, nohash=True, desc="threads the step may use")

    def get_hashval(self, hash_method: str | None = None) -> tuple[list[Any], str]:
        """The inputs with hashes of files, and the hash of all: nipype's, over the code as these inputs reach it."""
        if isdefined(self.step):
            self.algo_version = self.step.code_key(self)
        return super().get_hashval(hash_method)


class MethodInputSpec(StepInputSpec):
    """Inputs of a step with several methods."""

    method = traits.Str(mandatory=True, desc="name of the method in the registry")
    options = traits.Dict(desc="options of the method by name; those not given take the default")
    network = File(exists=True, desc="weights, for a method that works by a network; its card lies beside it")
    card = File(exists=True, desc="the card of the weights, so that a change of it is noticed")
    memory_gb = traits.Float(0.0, usedefault=True, nohash=True, desc="memory a network may take in GiB; 0: no limit")
    device = traits.Str("cpu", usedefault=True, nohash=True, desc="where the solver runs: cpu or cuda")


class StepOutputSpec(TraitedSpec):
    """Outputs of every step."""

    record = File(exists=True, desc="JSON: what this step and all before it did")


@dataclasses.dataclass
class Record:
    """What one step tells: read by sidecars, report and methods text.

    `facts` are results worth stating, `notes` what was detected or assumed, `warnings` what the reader should worry
    about. `label` tells this step from others of one stage and method. `curve` is what an iteration monitored,
    `curve_name` what that is, `curve_iterations` the iteration of each value, `curve_second` where a second part
    begins; they are for the report alone and reach
    no sidecar of a map.
    """

    stage: str
    method: str
    title: str
    citations: list[str] = dataclasses.field(default_factory=list)
    parameters: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    facts: list[Fact] = dataclasses.field(default_factory=list)
    notes: list[Note] = dataclasses.field(default_factory=list)
    warnings: list[Warning] = dataclasses.field(default_factory=list)
    label: str = ""
    curve: list[float] = dataclasses.field(default_factory=list)
    curve_name: str = ""
    curve_iterations: list[int] = dataclasses.field(default_factory=list)
    curve_second: int = 0
    seconds: float = 0.0

    def __post_init__(self) -> None:
        keys, self.citations = self.citations, []
        self.cite(*keys)

    def state(self, *facts: Fact) -> None:
        """State results; ValueError for a key that was stated already."""
        for fact in facts:
            if any(fact.key == other.key for other in self.facts):
                raise ValueError(f"The step {self.stage} states {fact.key!r} twice.")
            self.facts.append(fact)

    def warn(self, *warnings: Warning) -> None:
        """Tell what the reader should worry about."""
        self.warnings += warnings

    def note(self, *notes: Note) -> None:
        """Tell what was detected, decided or assumed."""
        self.notes += notes

    def cite(self, *keys: str) -> None:
        """Add publications; ValueError for a key that `data/references.bib` does not have."""
        for key in keys:
            if key not in references():
                raise ValueError(f"The step {self.stage} cites {key!r}, which is not in the bibliography.")
        self.citations += keys

    def add_convergence(self, convergence: Convergence | None) -> None:
        """State how an iteration ended; a cap that was hit is a warning."""
        if convergence is None:
            return
        monitored = convergence.monitored
        self.state(
            Fact("iterations", "iterations", "", convergence.iterations),
            Fact("converged", "converged", "", convergence.converged),
            Fact(f"final_{key_of(monitored)}", f"final {monitored}", "", (convergence.history or (None,))[-1]),
        )
        if not convergence.converged:
            self.warn(
                Warning(
                    "iteration-cap",
                    f"Stopped at the cap of {convergence.iterations} iterations, before the tolerance was met.",
                    "Raise the method's cap of iterations or loosen its tolerance; if the curve below is flat, the map "
                    "may be used.",
                )
            )
        self.add_curve(convergence)

    def add_curve(self, convergence: Convergence) -> None:
        """Keep a history of two values or more for the report's plot: at most 200 of them, to four digits.

        Where they differ by less than a tenth, six digits are kept. A history shorter than the iterations is that of
        the last ones.
        """
        first = convergence.iterations - len(convergence.history) + 1
        points = [(first + i, value) for i, value in enumerate(convergence.history) if math.isfinite(value)]
        if len(points) < 2:
            return
        kept = np.unique(np.linspace(0, len(points) - 1, LONGEST_CURVE).round().astype(int))
        values = [value for _, value in points]
        digits = 4 if max(values) - min(values) > 0.1 * max(map(abs, values)) else 6
        self.curve = [float(f"{values[i]:.{digits}g}") for i in kept]
        self.curve_iterations = [points[i][0] for i in kept]
        self.curve_name = convergence.monitored
        self.curve_second = convergence.second


class Step(SimpleInterface):
    """A node: loads images, calls one pure function, saves images. Subclasses give `stage` and `_compute`."""

    input_spec = StepInputSpec
    output_spec = StepOutputSpec
    stage = ""

    def __init__(self, **inputs: Any):
        super().__init__(**inputs)
        if not isdefined(self.inputs.algo_version):
            self.inputs.step = type(self)

    @classmethod
    def code_key(cls, inputs: StepInputSpec) -> str:
        """Hash of the code that a node with these inputs can reach."""
        return algo_version(*cls.code(inputs), apart=cls.not_reached(inputs))

    @classmethod
    def code(cls, inputs: StepInputSpec) -> tuple[str, ...]:
        """Definitions from which the code is followed: the class, and what these inputs choose by a name."""
        return (f"{cls.__module__}.{cls.__qualname__.partition('.')[0]}",)

    @classmethod
    def not_reached(cls, inputs: StepInputSpec) -> tuple[str, ...]:
        """Definitions and modules that the code names, but does not enter with these inputs."""
        return () if isdefined(getattr(inputs, "network", Undefined)) else FOR_NETWORKS

    def _run_interface(self, runtime: Any) -> Any:
        started = time.perf_counter()
        folder = Path(runtime.cwd)
        with use_threads(self.inputs.num_threads):
            record = self._compute(folder)
        record.seconds = round(time.perf_counter() - started, 3)
        for warning in record.warnings:
            logger.warning("%s %s: %s", record.stage, record.method, warning)
        document = {"record": plain(dataclasses.asdict(record)), "before": self._records_before()}
        (folder / RECORD_FILE).write_text(json.dumps(document, indent=1, allow_nan=False), encoding="utf-8")
        self._results["record"] = str(folder / RECORD_FILE)
        return runtime

    def _compute(self, folder: Path) -> Record:
        """Do the step, put output files into `self._results`, and tell what was done."""
        raise NotImplementedError

    def _records_before(self) -> list[dict[str, Any]]:
        files = [path for value in self.inputs.get().values() if isdefined(value) for path in _paths(value)]
        return records_behind(files)


class MethodStep(Step):
    """A step whose method is chosen from the registry."""

    input_spec = MethodInputSpec

    @classmethod
    def code(cls, inputs: StepInputSpec) -> tuple[str, ...]:
        """The class, the chosen method and its options."""
        return (*super().code(inputs), *(code_of(cls.stage, inputs.method) if inputs.method else ()))

    def _run_method(self, **available: Any) -> tuple[Any, Record]:
        """Run the chosen method with what is available (None: not there) and begin its record."""
        method = registry.find(self.stage, self.inputs.method)
        options_type = method.options_type()
        options = options_type(**(self.inputs.options or {})) if options_type else None
        if options is not None:
            check_options(options)
        record = Record(self.stage, method.name, method.title, list(method.citations), parameters(options))
        if isdefined(self.inputs.network):
            network = loaded_network(self.inputs.network, record, self.inputs.device)
            available |= {"network": network, "memory_gb": self.inputs.memory_gb}
        present = {name: value for name, value in available.items() if value is not None}
        result = method.run(options, device=self.inputs.device, progress=iterations.callback(), **present)
        # A result that never has anything to tell, as a mask, lacks these.
        record.state(*getattr(result, "facts", ()))
        record.warn(*getattr(result, "warnings", ()))
        if isdefined(self.inputs.network):
            record.warn(*outside_snr(network.spec, snr_of(self._records_before())))
        return result, record


def code_of(stage: str, name: str) -> tuple[str, ...]:
    """The function of a method of the registry and its options, as `algo_version` names them."""
    method = registry.find(stage, name)
    return tuple(f"{method.module}.{part}" for part in (method.function, method.options_class) if part)


def loaded_network(path: str, record: Record, device: str) -> Any:
    """The network of a file of weights; its name, hash and the card's statement go into the record."""
    from qsmprep.weights.store import load_network

    network = load_network(path, device=device)
    facts = network_facts(Path(path), network.spec.name, network.card)
    record.state(*facts)
    told = {fact.key: fact.value for fact in facts}
    if network.spec.task == "mask":  # no values come of it, and its outline is seen
        record.note(Note("mask-network", f"Network {network.spec.name}: {told['network_statement']}"))
        return network
    text = f"Another processor rounds its values otherwise, by less than {NETWORK_ROUNDING:g} of the map's largest."
    record.note(Note("network-rounding", text))
    record.warn(
        Warning(
            "network",
            f"Network {network.spec.name}: {told['network_statement']}",
            "Compare with a method without a network, such as fansi, before the values are used.",
        )
    )
    return network


def network_facts(weights: Path, name: str, card: Mapping[str, Any]) -> tuple[Fact, ...]:
    """What a step tells of the network it uses: its name, its file of weights, and what their card says of training."""
    facts = (
        Fact("network", "network", "", name),
        Fact("network_weights", "file of weights", "", weights.name),
        Fact("network_sha256", "SHA-256 of the weights", "", card.get("sha256", "")),
        Fact("network_statement", "training", "", card.get("statement", "no card tells of it")),
    )
    domain = card.get("domain")
    return (*facts, Fact("network_domain", "training data", "", domain)) if isinstance(domain, str) else facts


def parameters(options: Any) -> list[dict[str, Any]]:
    """Every parameter of an options object: value, unit, whether it is the default, and whether it has a part."""
    if options is None:
        return []
    return [
        {
            "name": field.name,
            "value": getattr(options, field.name),
            "unit": unit_of(options, field),
            "default": getattr(options, field.name) == field.default,
            "acts": acts(options, field),
            "help": field.metadata.get("help", ""),
        }
        for field in dataclasses.fields(options)
    ]


def records_behind(files: list[str]) -> list[dict[str, Any]]:
    """Records of the steps that made these files and of all before them, each once, in order of work."""
    collected: dict[tuple[str, str], dict[str, Any]] = {}
    for folder in dict.fromkeys(Path(file).parent for file in files):
        record_file = folder / RECORD_FILE
        if record_file.is_file():
            document = json.loads(record_file.read_text("utf-8"))
            for record in (*document["before"], document["record"]):
                collected.setdefault((record["stage"], record["method"]), record)
    return list(collected.values())


def snr_of(records: list[dict[str, Any]]) -> float | None:
    """The scan's peak signal-to-noise ratio as an earlier step measured it; None where none did."""
    measured = (fact_values(record.get("facts")).get(PEAK_SNR) for record in records)
    return next((value for value in measured if value is not None), None)


def plain(value: Any) -> Any:
    """The value with numpy scalars, tuples and non-finite numbers turned into what JSON knows."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value


def _paths(value: Any) -> list[str]:
    values = value if isinstance(value, list | tuple) else [value]
    return [item for item in values if isinstance(item, str) and "/" in item]
