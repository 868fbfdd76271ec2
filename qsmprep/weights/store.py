"""Files of weights: written whole, found by name, and read only when they are exactly what their card says.

A set of weights is two files of one name in one folder: NAME.safetensors (tensors, no code) and NAME.json (its card).
Nothing here unpickles.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse_tensors
from safetensors.torch import save as write_tensors
from torch import nn

import qsmprep.data
from qsmprep.bids.outputs import write_json
from qsmprep.files.whole_file import whole_file
from qsmprep.nets.network import Network, build_module
from qsmprep.nets.spec import NetworkSpec
from qsmprep.weights.card import ADVICE, NAME, SUFFIXES, Card, card_path, check_name, compose, digest, read_card
from qsmprep.weights.onnx import OnnxModule

VARIABLE = "QSMPREP_WEIGHTS"  # names the user's folder of weights
SHIPPED = "shipped with qsmprep"
FLOATING = (torch.float16, torch.bfloat16, torch.float32)
COUNTER = "num_batches_tracked"  # of the batch normalisation; means nothing once trained
# First bytes -> what the file is. Compared, never opened.
MAGIC = (
    (b"PK\x03\x04", "a zip archive, as torch.save writes"),
    (b"\x80", "a pickle, as torch.save writes"),
    (b"\x89HDF", "an HDF5 file, as Keras writes"),
)
FOREIGN = (".pth", ".pt", ".pkl", ".tar", ".ckpt", ".index", ".bin", ".h5", ".hdf5")
REMEDY = ("qsmprep reads weights as safetensors only, since other formats can run code when opened. Convert it: "
          "`qsmprep-tools weights import --kind KIND FILE`.")  # fmt: skip


@dataclass(frozen=True)
class Checked:
    """A set of weights that passed every check.

    Attributes
    ----------
    path : the file of weights.
    card : its card.
    size : of the file in bytes.
    numbers : stored in it; 0 for ONNX, whose numbers are not counted.
    """

    path: Path
    card: Card
    size: int
    numbers: int


def save_network(network: Network, stem: Path, *, facts: Mapping[str, Any], dtype: torch.dtype = torch.float32) -> Path:
    """Write a network as STEM.safetensors and STEM.json, each whole; an earlier pair is replaced.

    Parameters
    ----------
    network : with weights on any device.
    stem : path without suffix.
    facts : of the card: licence and statement (mandatory), commit, seeds, training, domain, scores.
    dtype : of the stored numbers; torch.float16 halves the file.

    Returns
    -------
    The path of the file of weights.

    Raises
    ------
    ValueError : a fact is missing, the module is not the one described, or a number is not finite in `dtype`.
    """
    if dtype not in FLOATING:
        raise ValueError(f"Weights are stored as {', '.join(map(str, FLOATING))}; got {dtype}.")
    tensors = {
        name: tensor.detach().to("cpu", dtype).contiguous()
        for name, tensor in network.module.state_dict().items()
        if not name.endswith(COUNTER)
    }
    what = f"The weights of {network.spec.name} as {dtype}"
    check_tensors(network.spec, tensors, what)
    return write_weights(Path(stem), ".safetensors", write_tensors(tensors), network.spec, facts)


def write_weights(stem: Path, suffix: str, content: bytes, spec: NetworkSpec, facts: Mapping[str, Any]) -> Path:
    """Write a file of weights and its card, each whole; the card last, so that it never describes what is not there."""
    stem = stem.with_name(check_name(stem.name.removesuffix(suffix)))
    path = stem.with_name(stem.name + suffix)
    document = compose(spec, path.name, content, facts)
    with whole_file(path) as stream:
        stream.write(content)
    write_json(card_path(path), document)
    return path


def load_network(path: Path | str, *, device: torch.device | str = "cpu") -> Network:
    """Read a network whose weights are exactly those that its card describes.

    Parameters
    ----------
    path : of the file of weights or its card, or a name that `find_weights` knows.
    device : where the module goes.

    Returns
    -------
    The network in float32, in evaluation mode; `card` is the document of the card.

    Raises
    ------
    ValueError : the file or its card is missing, damaged, of another format, or not of the described network.
    """
    return _load(find_weights(path), device)[0]


def check_file(path: Path | str) -> Checked:
    """Load a set of weights as `load_network` does, and tell what it is; ValueError for a bad one."""
    network, checked = _load(find_weights(path), "cpu")
    del network
    return checked


def find_weights(name: Path | str) -> Path:
    """The file of weights that a name or a path means.

    Parameters
    ----------
    name : a path to NAME.safetensors, NAME.onnx or the card NAME.json; or NAME, which is looked for in the folder that
        the environment variable QSMPREP_WEIGHTS names, and then among the weights that qsmprep ships.

    Raises
    ------
    ValueError : there is nothing of the kind.
    """
    path = Path(name).expanduser()
    if path.suffix in (*SUFFIXES, ".json") and path.is_file():
        return path.with_name(read_card(path).file) if path.suffix == ".json" else path
    if path.is_file() and (path.suffix in FOREIGN or path.name != str(name)):
        raise ValueError(f"{path} is not a file of weights that qsmprep reads: it must end in "
                         f"{' or '.join(SUFFIXES)}. {REMEDY}")  # fmt: skip
    known = known_weights()
    for title, file, _ in known:
        if title == str(name):
            return file
    names = ", ".join(title for title, _, _ in known) or "none yet"
    raise ValueError(f"There are no weights {str(name)!r}: neither a file nor a known name. Known are: {names}. "
                     "`qsmprep-tools weights list` shows them.")  # fmt: skip


def known_weights() -> list[tuple[str, Path, str]]:
    """Name, file and origin of the weights that can be asked for by name, in alphabetical order.

    Those of the user's folder hide shipped ones of the same name. Only the names are read.

    Raises
    ------
    ValueError : QSMPREP_WEIGHTS names something that is not a folder.
    """
    found: dict[str, tuple[str, Path, str]] = {}
    for folder, origin in ((user_folder(), VARIABLE), (shipped_folder(), SHIPPED)):
        for suffix in SUFFIXES:
            for file in sorted(folder.glob(f"*{suffix}")) if folder is not None else ():
                name = file.name.removesuffix(suffix)
                if NAME.fullmatch(name) and file.is_file():
                    found.setdefault(name, (name, file, origin))
    return [found[name] for name in sorted(found)]


def user_folder() -> Path | None:
    """The folder that QSMPREP_WEIGHTS names; None where it is not set; ValueError where it is no folder."""
    text = os.environ.get(VARIABLE, "")
    if not text:
        return None
    folder = Path(os.path.expanduser(text))
    if not folder.is_dir():
        raise ValueError(f"{VARIABLE} is {text!r}, which is not a folder: make it, or unset the variable.")
    return folder


def shipped_folder() -> Path:
    """The folder of the weights that qsmprep ships; it may be empty or missing."""
    return Path(qsmprep.data.__file__).parent / "weights"


def expected_shapes(spec: NetworkSpec) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor that a file of a network's weights holds; no memory is taken for them.

    Raises
    ------
    ValueError : no module can be built from the description.
    """
    try:
        with torch.device("meta"):
            state = build_module(spec).state_dict()
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise ValueError(f"No network can be built as {spec.name!r} is described: {error}") from None
    return {name: tuple(tensor.shape) for name, tensor in state.items() if not name.endswith(COUNTER)}


def check_tensors(spec: NetworkSpec, tensors: Mapping[str, torch.Tensor], what: str) -> None:
    """Raise ValueError unless the tensors are exactly those of a network, floating and finite.

    Parameters
    ----------
    spec : the network.
    tensors : name -> tensor.
    what : holds them, to begin the message with.
    """
    shapes = expected_shapes(spec)
    for name, shape in shapes.items():
        if name not in tensors:
            raise ValueError(f"{what}: {name} is missing, so this is not the network {spec.name!r}. {ADVICE}")
        if tuple(tensors[name].shape) != shape:
            raise ValueError(f"{what}: {name} has the shape {tuple(tensors[name].shape)}, but the network "
                             f"{spec.name!r} needs {shape}. {ADVICE}")  # fmt: skip
    for name, tensor in tensors.items():
        if name not in shapes:
            raise ValueError(f"{what}: {name} is not part of the network {spec.name!r}. {ADVICE}")
        if tensor.dtype not in FLOATING:
            raise ValueError(f"{what}: {name} holds {tensor.dtype}; weights are floating-point numbers. {ADVICE}")
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{what}: {name} holds numbers that are not finite.")


def module_with(spec: NetworkSpec, tensors: Mapping[str, torch.Tensor]) -> nn.Module:
    """The module of a description with the tensors of a file, by name; those that no file holds stay as built."""
    with torch.random.fork_rng(devices=[]):  # reading weights must not change what is drawn afterwards
        module = build_module(spec)
    module.load_state_dict(tensors, strict=False)
    return module


def tensors_of(content: bytes, path: Path) -> dict[str, torch.Tensor]:
    """The tensors of the content of a safetensors file; ValueError names the file and the remedy otherwise."""
    refuse_other_formats(content, path)
    try:
        return parse_tensors(content)
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise ValueError(f"{path} is not a safetensors file ({error}). {REMEDY}") from None


def refuse_other_formats(content: bytes, path: Path) -> None:
    """Raise ValueError where the first bytes are those of a pickle, an archive or HDF5, or of no format at all."""
    if content[8:9] == b"{":  # eight bytes of length, then JSON: the start of a safetensors file
        return
    kind = next((kind for start, kind in MAGIC if content.startswith(start)), "something else")
    raise ValueError(f"{path} is {kind}, not a safetensors file; it was not opened. {REMEDY}")


def read_content(path: Path) -> bytes:
    """The bytes of a file; ValueError where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}). Give a file that exists.") from None


def described(path: Path) -> tuple[bytes, Card]:
    """The bytes of a file of weights and its card; ValueError where they are not those that the card describes."""
    content = read_content(path)
    if path.suffix == ".safetensors":
        refuse_other_formats(content, path)
    card = read_card(card_path(path))
    if card.file != path.name:
        raise ValueError(f"{card_path(path)} is the card of {card.file}, not of {path.name}. {ADVICE}")
    if digest(content) != card.sha256:
        raise ValueError(f"{path} is not the file that its card describes (its sha256 is {digest(content)[:12]}..., "
                         f"not {card.sha256[:12]}...): it was changed or damaged. {ADVICE}")  # fmt: skip
    return content, card


def _load(path: Path, device: torch.device | str) -> tuple[Network, Checked]:
    content, card = described(path)
    if path.suffix == ".onnx":
        module: nn.Module = OnnxModule(content, card.spec, str(path))
        numbers = 0
    else:
        module, numbers = _filled(card.spec, tensors_of(content, path), path)
    network = Network(card.spec, module.to(device).eval(), card.document)
    return network, Checked(path, card, len(content), numbers)


def _filled(spec: NetworkSpec, tensors: dict[str, torch.Tensor], path: Path) -> tuple[nn.Module, int]:
    """The network's module with the weights of a file, and how many numbers these are."""
    check_tensors(spec, tensors, str(path))
    module = module_with(spec, {name: tensor.float() for name, tensor in tensors.items()})
    return module.float(), sum(tensor.numel() for tensor in tensors.values())
