"""Networks in ONNX files, run by onnxruntime on the processor. An optional extra: pip install "qsmprep[onnx]"."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from qsmprep.nets.spec import NetworkSpec

DOMAINS = ("", "ai.onnx")  # of the standard operators; others could read files or need libraries
EXTRA = 'Reading ONNX files needs an optional extra: pip install "qsmprep[onnx]".'


class OnnxModule(nn.Module):
    """A network in ONNX as a torch module without parameters: (n, in, n0, n1, n2) to (n, out, n0, n1, n2), float32.

    It computes what the file says, on the processor; it cannot be trained, and gives no gradients.

    Raises
    ------
    ValueError : the extra is missing, or the file is damaged, refers to other files, uses operators that are not
        standard, or has other inputs or outputs than the description says.
    """

    def __init__(self, content: bytes, spec: NetworkSpec, file: str = "the ONNX file"):
        super().__init__()
        self.spec = spec
        self.file = file
        if spec.knows_kernel:
            raise ValueError(f"{file}: an ONNX network has one input, so it cannot be an unrolled one or one that "
                             "returns to the data, which need the dipole kernel.")  # fmt: skip
        check_self_contained(content, file)
        self.session = _session(content, file)
        _check_ends(self.session, spec, file)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The network's output, on the device of the input."""
        given = np.ascontiguousarray(x.detach().float().cpu().numpy())
        shape = (x.shape[0], len(self.spec.outputs), *x.shape[2:])
        try:
            (found,) = self.session.run(None, {self.session.get_inputs()[0].name: given})
        except Exception as error:  # onnxruntime has no common base of its errors
            raise ValueError(f"{self.file} does not run on an image of {tuple(x.shape)}: {error}") from None
        if found.shape != shape:
            raise ValueError(f"{self.file} made {found.shape} of {tuple(x.shape)}; it should make {shape}.")
        return torch.from_numpy(np.array(found, np.float32)).to(x.device)


def check_self_contained(content: bytes, file: str) -> None:
    """Raise ValueError where an ONNX file keeps tensors in other files or uses operators that are not standard."""
    onnx = _library("onnx")
    try:
        model = onnx.load_model_from_string(content)
        messages = list(_messages(model))
    except Exception as error:  # protobuf's own kinds
        raise ValueError(f"{file} is not an ONNX file ({error}).") from None
    if not model.graph.node:
        raise ValueError(f"{file} is not an ONNX file: it has no operators.")
    own = {(function.domain, function.name) for function in model.functions}
    for message in messages:
        if isinstance(message, onnx.TensorProto) and (message.external_data or message.data_location):
            raise ValueError(f"{file} keeps {message.name or 'a tensor'} in another file; such files are refused. "
                             "Export it again with all tensors inside.")  # fmt: skip
        if not isinstance(message, onnx.NodeProto) or message.domain in DOMAINS:
            continue
        if (message.domain, message.op_type) not in own:
            raise ValueError(f"{file} uses the operator {message.op_type} of {message.domain!r}; only standard ONNX "
                             "operators are run.")  # fmt: skip


def _messages(message: Any) -> Iterator[Any]:
    """Every message inside a message, itself included."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in value if not hasattr(value, "ListFields") else (value,):
                yield from _messages(part)


def _session(content: bytes, file: str) -> Any:
    runtime = _library("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 3  # errors only; they are raised as well
    options.use_deterministic_compute = True
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        return runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has no common base of its errors
        raise ValueError(f"{file} cannot be run by onnxruntime: {error}") from None


def _check_ends(session: Any, spec: NetworkSpec, file: str) -> None:
    for what, ends, channels in (
        ("input", session.get_inputs(), len(spec.inputs)),
        ("output", session.get_outputs(), len(spec.outputs)),
    ):
        told = ", ".join(f"{end.name} {end.type} {end.shape}" for end in ends)
        need = (f"{spec.name} needs one {what}, tensor(float) (n, {channels}, n0, n1, n2), whose image axes are not "
                f"fixed; the file has {told}.")  # fmt: skip
        if len(ends) != 1 or ends[0].type != "tensor(float)" or len(ends[0].shape) != 5:
            raise ValueError(f"{file}: {need}")
        count, found, *sizes = ends[0].shape
        fixed = isinstance(found, int) and found != channels
        if fixed or any(isinstance(size, int) for size in sizes) or (isinstance(count, int) and count != 1):
            raise ValueError(f"{file}: {need}")


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ValueError(f"{EXTRA} ({name} is not installed.)") from None
