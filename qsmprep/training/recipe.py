"""What to train, on what and how: a TOML file becomes a recipe, checked as a whole before work begins."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qsmprep.nets.spec import FAMILIES, TASKS, Channel, NetworkSpec
from qsmprep.options import check_options, option, option_type
from qsmprep.phantom.options import ANATOMIES
from qsmprep.training.adversary import SMALLEST_EDGE


@dataclass(frozen=True)
class DataOptions:
    """Where patches come from and how they vary."""

    heads: int = option(48, "simulated heads to train on; 0: shapes or labels alone", low=0, high=100_000)
    validation_heads: int = option(4, "further heads for validation", low=0, high=1000)
    seed: int = option(0, "seed of the heads", low=0)
    patch: int = option(64, "edge of a patch", unit="voxels", low=16, high=256)
    shapes: float = option(0.1, "share of patches with random cubes and ellipsoids instead of a head", low=0, high=1)
    tilted: bool = option(
        False, "also heads whose B0 runs off the third axis (networks that know the kernel, or remove the background)"
    )
    anatomy: str = option("all", "generator of the heads; all: half of each", choices=("all", *ANATOMIES))
    textured: bool = option(True, "let susceptibility vary within tissues, in six of ten heads")
    filtered: float = option(
        0.5, "share of patches whose tissue field went through background field removal", low=0, high=1
    )
    found: float = option(0.5, "share of patches whose input susceptibility was made by an inversion", low=0, high=1)
    smallest_snr: float = option(50.0, "lowest peak signal-to-noise ratio", low=1)
    largest_snr: float = option(400.0, "highest peak signal-to-noise ratio", low=1)
    smallest_scale: float = option(0.5, "lowest factor on susceptibility", low=0.01, high=1)
    largest_scale: float = option(2.0, "highest factor on susceptibility", low=1, high=10)
    coarsest: float = option(
        1.0, "largest factor by which half of the patches lose resolution, drawn for each axis", low=1, high=4
    )
    showings: int = option(
        1, "times that each patch is shown, turned anew; more where patches take longer to make than to learn", low=1
    )
    foreground: float = option(0.3, "least share of a patch inside the brain", low=0, high=1)

    def __post_init__(self) -> None:
        if self.smallest_snr > self.largest_snr:
            raise ValueError("smallest_snr exceeds largest_snr.")
        if self.heads and not self.validation_heads:
            raise ValueError("Heads to train on need heads to validate on.")


@dataclass(frozen=True)
class TrainingOptions:
    """The course of training."""

    steps: int = option(4000, "updates of the weights", low=1)
    batch: int = option(2, "patches of an update", low=1, high=1024)
    optimizer: str = option("adam", "rule of the updates", choices=("adam", "adamw", "rmsprop", "muon"))
    learning_rate: float = option(1e-3, "highest learning rate", low=1e-8, high=1)
    schedule: str = option(
        "cosine", "course of the learning rate; cosine: falling to 0; step: falling by 2 % every 1000 steps",
        choices=("constant", "cosine", "step"),
    )  # fmt: skip
    warm_up: int = option(100, "steps over which the learning rate rises", low=0)
    largest_gradient: float = option(1.0, "norm to which the gradient is cut; 0: never", low=0)
    average: float = option(
        0.99, "decay of the moving average of the weights that is kept; 0: no average", low=0, high=0.99999
    )
    precision: str = option("bfloat16", "number format of convolutions while training", choices=("bfloat16", "float32"))
    margin: int = option(0, "rim of a patch that the losses leave out", unit="voxels", low=0, high=64)
    l1: float = option(1.0, "weight of the mean absolute error", low=0)
    l2: float = option(0.0, "weight of the root of the mean squared error of a patch", low=0)
    relative: bool = option(False, "take each patch's error over the size of its label, so that all count alike")
    logarithmic: bool = option(False, "take the logarithm of each patch's error, so that easy ones count as hard ones")
    gradient: float = option(0.1, "weight of the gradient loss", low=0)
    model: float = option(0.5, "weight of the misfit to the physical model", low=0)
    error: float = option(0.0, "weight of the misjudgement of the error (output expected-error)", low=0)
    adversarial: float = option(
        0.0, "weight of the judgement of a critic that learns to tell the network's maps from true ones; 0: no critic",
        low=0,
    )  # fmt: skip
    critic_updates: int = option(1, "updates of the critic for each of the network", low=1, high=20)
    validate_every: int = option(250, "steps between validations", low=1)
    validation_patches: int = option(8, "patches of a validation", low=1, high=1000)
    checkpoint_every: int = option(250, "steps between checkpoints", low=1)
    seed: int = option(0, "seed of weights and patches", low=0)


@dataclass(frozen=True)
class Recipe:
    """One training.

    Attributes
    ----------
    network : description, its channels not yet normalised.
    data, training : options.
    text : the TOML file itself, for the card.
    labels : what tells the labels of one's own from all others; empty without.
    """

    network: NetworkSpec
    data: DataOptions
    training: TrainingOptions
    text: str = ""
    labels: str = ""


def read_recipe(path: Path, *, labelled: bool = False) -> Recipe:
    """The recipe of a TOML file; `labelled` where there are heads with labels of one's own.

    Raises
    ------
    ValueError : naming the file and what is wrong with it.
    """
    try:
        text = Path(path).read_text("utf-8")
        return parse_recipe(text, labelled=labelled)
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a valid TOML file ({error}).") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def parse_recipe(text: str, *, labelled: bool = False) -> Recipe:
    """The recipe of the text of a TOML file. Raises ValueError, or tomllib.TOMLDecodeError."""
    document = tomllib.loads(text)
    _known(document, ("network", "data", "training"), "the file")
    network = dict(_section(document, "network"))
    _known(network, ("name", "task", "inputs", "outputs", "architecture", "masked"), "[network]")
    if type(network.get("masked", True)) is not bool:
        raise ValueError("[network] masked must be true or false.")
    for key in ("name", "task", "inputs", "outputs", "architecture"):
        if key not in network:
            raise ValueError(f"[network] lacks {key}.")
    if network["task"] not in TASKS:
        raise ValueError(f"Unknown task {network['task']!r}; known are {', '.join(TASKS)}.")
    architecture = dict(network["architecture"])
    family = architecture.pop("family", None)
    if family not in FAMILIES:
        raise ValueError(f"[network.architecture] family is {family!r}; known are {', '.join(FAMILIES)}.")
    kind = FAMILIES[family]
    _known(architecture, [f.name for f in dataclasses.fields(kind)], "[network.architecture]")
    if family == "unet":
        architecture |= {"channels_in": len(network["inputs"]), "channels_out": len(network["outputs"])}
    try:
        built = kind(**architecture)
    except TypeError as error:
        raise ValueError(f"[network.architecture]: {error}") from None
    spec = NetworkSpec(
        name=network["name"],
        task=network["task"],
        architecture=built,
        inputs=tuple(Channel(quantity) for quantity in network["inputs"]),
        outputs=tuple(Channel(quantity) for quantity in network["outputs"]),
        masked=network.get("masked", True),
    )
    data, training = (_options(kind, document.get(name, {}), name)
                      for kind, name in ((DataOptions, "data"), (TrainingOptions, "training")))  # fmt: skip
    if not (data.heads or labelled) and data.shapes < 1:
        raise ValueError("Without heads the share of shapes must be 1.")
    if data.tilted and not spec.takes_any_direction:
        raise ValueError("[data] tilted: only a network that knows the kernel is told the direction of B0.")
    if spec.expects_error != bool(training.error):
        raise ValueError("[training] error: it goes with the output expected-error, and must then be above 0.")
    if data.patch % spec.multiple:
        raise ValueError(f"[data] patch is {data.patch}; this U-net needs multiples of {spec.multiple}.")
    if data.patch <= 2 * training.margin:
        raise ValueError("[training] margin leaves nothing of a patch.")
    if training.adversarial and data.patch - 2 * training.margin < SMALLEST_EDGE:
        raise ValueError(f"[training] adversarial: without its margin a patch needs {SMALLEST_EDGE} voxels or more.")
    if data.shapes and spec.task not in ("inversion",):
        raise ValueError(f"[data] shapes: there are none for {spec.task}; set shapes = 0.")
    return Recipe(spec, data, training, text)


def _section(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    if not isinstance(document.get(name), Mapping):
        raise ValueError(f"The section [{name}] is missing.")
    return document[name]


def _known(section: Mapping[str, Any], names, where: str) -> None:
    if unknown := sorted(set(section) - set(names)):
        raise ValueError(f"{where}: unknown key {unknown[0]!r}; known are {', '.join(names)}.")


def _options(kind: type, values: Mapping[str, Any], where: str) -> Any:
    _known(values, [f.name for f in dataclasses.fields(kind)], f"[{where}]")
    checked = {}
    for name, value in values.items():
        wanted = option_type(kind, name)
        value = float(value) if wanted is float and type(value) is int else value
        if type(value) is not wanted:
            raise ValueError(f"[{where}] {name} is {value!r}; it must be of type {wanted.__name__}.")
        checked[name] = value
    options = kind(**checked)
    check_options(options)
    return options
