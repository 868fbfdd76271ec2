"""PyTorch checkpoints, read without running anything they contain."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from qsmprep.nets.spec import NetworkSpec
from qsmprep.weights.store import COUNTER, expected_shapes

NESTED = ("state_dict", "model_state_dict", "model_state")  # where a checkpoint keeps its tensors
PARALLEL = "module."  # what training on several GPUs puts before each name


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a PyTorch checkpoint in its order, without counters.

    Parameters
    ----------
    path : .pth or .pth.tar file: a state dict, or a checkpoint that has one.

    Raises
    ------
    ValueError : the file cannot be read, or holds anything that would have to be run to be read.
    """
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}). Give a file that exists.") from None
    except Exception as error:  # torch raises many kinds for damaged files, pickle's own among them
        raise ValueError(
            f"{path} is damaged or holds more than tensors; such a file could run code when opened, so it was refused "
            f"and nothing of it was run ({type(error).__name__}). Ask its authors for a plain state dict."
        ) from None
    for key in NESTED:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    if not isinstance(found, Mapping):
        raise ValueError(f"{path} holds {type(found).__name__} instead of a state dict.")
    wrong = [name for name, tensor in found.items() if not isinstance(tensor, torch.Tensor)]
    if wrong:
        raise ValueError(f"{path}: {wrong[0]!r} is not a tensor, so this is not a state dict.")
    return {str(name): tensor for name, tensor in found.items() if not str(name).endswith(COUNTER)}


def named_state(
    tensors: Mapping[str, torch.Tensor], names: Mapping[str, str], spec: NetworkSpec, path: Path
) -> dict[str, torch.Tensor]:
    """Tensors under our names, each used exactly once; tensors of ours that `names` leaves out are left out.

    Parameters
    ----------
    tensors : by their names, a "module." of several GPUs before each or not.
    names : ours -> theirs.
    spec : the network that they are to fill.
    path : of the file, for messages.

    Raises
    ------
    ValueError : one is missing, left over, of another shape, or holds numbers that are not finite.
    """
    shapes = expected_shapes(spec)
    left = {name.removeprefix(PARALLEL): tensor for name, tensor in tensors.items()}
    state = {}
    for ours, theirs in names.items():
        tensor = left.pop(theirs, None)
        if tensor is None:
            raise ValueError(f"{path}: {theirs} is missing, so this is not such a network.")
        if tuple(tensor.shape) != shapes[ours]:
            raise ValueError(f"{path}: {theirs} has the shape {tuple(tensor.shape)}, but the network needs "
                             f"{shapes[ours]} for its {ours}.")  # fmt: skip
        if not (tensor.is_floating_point() and torch.isfinite(tensor).all()):
            raise ValueError(f"{path}: {theirs} does not hold finite floating-point numbers.")
        state[ours] = tensor.float()
    if left:
        raise ValueError(f"{path}: {len(left)} tensors are left over, the first is {next(iter(left))}, so this is not "
                         "such a network.")  # fmt: skip
    return state
