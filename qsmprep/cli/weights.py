"""`qsmprep-tools weights`: list, check and import the weights of networks."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qsmprep.cli.paths import file_path, folder_path
from qsmprep.cli.program import Parser, add_command
from qsmprep.nets.spec import quantities
from qsmprep.weights.card import SUFFIXES, card_path, check_name, read_card, read_spec, renamed
from qsmprep.weights.search import FOREIGN, VARIABLE, known_weights, read_content

if TYPE_CHECKING:
    from qsmprep.nets.network import Network
    from qsmprep.weights.store import Checked

PUBLISHED = ("modl-qsm", "chi-sepnet", "qsmnet", "qsmnet+", "xqsm", "lpcnn")  # networks that are known
FILE_FORMATS = (*PUBLISHED, "safetensors", "onnx")
FACTORS_NEEDED = ("qsmnet", "qsmnet+", "lpcnn")  # whose normalisation is in a file of its own
NETWORKS = ("chi-sepnet", "chi-sepnet-r2star", "qsmnet-me", "r2primenet")  # what --kind chi-sepnet can hold
IMPORTED = {
    "licence": "not known to qsmprep: that of whoever published the weights",
    "domain": "not known to qsmprep",
    "statement": "imported by the user; trained by others; qsmprep knows nothing of its training",
}


def add_weights(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add the subcommand and its own subcommands."""
    text = "list, check and import the weights of networks"
    parser = add_command(commands, "weights", text)
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION", title="Actions")
    add_command(actions, "list", "list the weights that can be asked for by name").set_defaults(run=run_list)
    text = "verify weights by hash, card, names and shapes of the tensors, finite numbers"
    check = add_command(actions, "check", text)
    check.add_argument("files", metavar="FILE", nargs="+", help="file of weights, its card, or a known name")
    check.set_defaults(run=run_check)
    text = "import weights that others published, as NAME.safetensors (or NAME.onnx) and NAME.json"
    bring = add_command(actions, "import", text)
    bring.add_argument("file", metavar="FILE", type=file_path, help="file of weights as published")
    bring.add_argument(
        "--kind", required=True, choices=FILE_FORMATS, metavar="KIND", help=f"format of FILE: {', '.join(FILE_FORMATS)}"
    )
    bring.add_argument("--network", choices=NETWORKS, default=NETWORKS[0],
                       help="network of the chi-sepnet family that FILE holds (default: chi-sepnet)")  # fmt: skip
    bring.add_argument("--factors", type=file_path, metavar="FILE",
                       help="normalisation factors, .mat or JSON: needed for qsmnet, qsmnet+ and lpcnn (for the last "
                       "also a folder of .npy files); modl-qsm and chi-sepnet have published ones")  # fmt: skip
    bring.add_argument(
        "--spec", type=file_path, metavar="JSON", help="description of the network, for safetensors and onnx"
    )
    bring.add_argument("--name", metavar="NAME", help="name of the weights (default: the name of FILE)")
    bring.add_argument(
        "--out", type=folder_path, metavar="FOLDER", help="folder for the weights (default: QSMPREP_WEIGHTS)"
    )
    bring.set_defaults(run=run_import)


def run_list(arguments: argparse.Namespace) -> int:
    """Print a table of the weights that have a name."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table()
    for heading in ("name", "task", "from where", "size", "trained on"):
        table.add_column(heading, justify="right" if heading == "size" else "left")
    rows = [(name, *_facts(path), origin, _size(path.stat().st_size)) for name, path, origin in known_weights()]
    for name, task, domain, origin, size in rows:
        table.add_row(*map(escape, (name, task, origin, size, domain)))
    console = Console(soft_wrap=True)
    console.print(table if rows else "No weights: set QSMPREP_WEIGHTS to a folder of weights, or import some.")
    return 0


def run_check(arguments: argparse.Namespace) -> int:
    """Verify each, and tell: status 1 where one is bad."""
    from qsmprep.weights.store import check_file

    bad = 0
    for file in arguments.files:
        try:
            show(check_file(file))
        except ValueError as error:
            bad += 1
            print(f"bad: {error}", file=sys.stderr)
    return 1 if bad else 0


def run_import(arguments: argparse.Namespace) -> int:
    """Convert, write, verify what was written, and tell."""
    from qsmprep.weights.store import check_file

    _check_options(arguments)
    folder = _folder(arguments.out)
    name = check_name(arguments.name or _stem(arguments.file))
    if (folder / f"{name}.json").exists():
        raise ValueError(f"{folder} already holds {name}: remove it, or give another --name.")
    path = _convert(arguments, folder / name)
    show(check_file(path))
    print(f"Written: {path} and {name}.json")
    return 0


def show(checked: Checked) -> None:
    """Print what is known of verified weights."""

    spec, document = checked.card.spec, checked.card.document
    numbers = f", {checked.numbers:,} numbers" if checked.numbers else ""
    print(f"good: {checked.path} ({_size(checked.size)}{numbers})")
    print(f"  {spec.name}: {spec.task}, {', '.join(quantities(spec.inputs))} to {', '.join(quantities(spec.outputs))}")
    for key in ("domain", "licence", "commit", "statement"):
        if document.get(key):
            print(f"  {key}: {document[key]}")


def _check_options(arguments: argparse.Namespace) -> None:
    described = arguments.kind in ("safetensors", "onnx")
    if described and arguments.spec is None:
        raise ValueError(f"--kind {arguments.kind} needs --spec: a JSON file that describes the network.")
    if not described and arguments.spec is not None:
        raise ValueError(f"--kind {arguments.kind} takes no --spec: the network is known.")
    if described and arguments.factors is not None:
        raise ValueError(f"--kind {arguments.kind} takes no --factors: they are in --spec.")
    if arguments.kind == "xqsm" and arguments.factors is not None:
        raise ValueError("--kind xqsm takes no --factors: that network works in ppm.")
    if arguments.kind in FACTORS_NEEDED and arguments.factors is None:
        raise ValueError(f"--kind {arguments.kind} needs --factors: the file that its authors published beside the "
                         "weights.")  # fmt: skip
    if arguments.kind != "chi-sepnet" and arguments.network != NETWORKS[0]:
        raise ValueError("--network goes with --kind chi-sepnet only.")
    if not arguments.file.is_file():
        raise ValueError(f"{arguments.file} is not a file: give the file of weights.")


def _folder(out: Path | None) -> Path:

    text = os.environ.get(VARIABLE, "")
    if out is None and not text:
        raise ValueError(f"Where to? Give --out FOLDER, or set {VARIABLE} to the folder of your weights.")
    return Path(text) if out is None else out


def _stem(file: Path) -> str:
    """The name of a file without its suffixes, of which checkpoints may have two."""

    while file.suffix in (*FOREIGN, *SUFFIXES):
        file = file.with_suffix("")
    return file.name


def _convert(arguments: argparse.Namespace, stem: Path) -> Path:
    from qsmprep.nets.network import Network, build_module
    from qsmprep.weights.store import check_tensors, save_network, tensors_of, write_weights

    file = arguments.file
    facts: dict[str, Any] = {**IMPORTED, "training": {"imported_from": file.name, "kind": arguments.kind}}
    if arguments.kind in PUBLISHED:
        return save_network(_published(arguments, stem.name), stem, facts=facts)
    spec, content = renamed(read_spec(arguments.spec), stem.name), read_content(file)
    if arguments.kind == "onnx":
        from qsmprep.weights.onnx import OnnxModule

        OnnxModule(content, spec, str(file))
        return write_weights(stem, ".onnx", content, spec, facts)
    tensors = tensors_of(content, file)
    check_tensors(spec, tensors, str(file))
    module = build_module(spec)
    module.load_state_dict({name: tensor.float() for name, tensor in tensors.items()}, strict=False)
    return save_network(Network(spec, module), stem, facts=facts)


def _published(arguments: argparse.Namespace, name: str) -> Network:
    """A network from the file of its authors."""
    from qsmprep.weights.chisepnet import read_chisepnet
    from qsmprep.weights.keras import read_modl
    from qsmprep.weights.lpcnn import read_lpcnn
    from qsmprep.weights.qsmnet import read_qsmnet
    from qsmprep.weights.xqsm import read_xqsm

    file, factors = arguments.file, arguments.factors
    if arguments.kind == "modl-qsm":
        return read_modl(file, factors, name=name)
    if arguments.kind == "chi-sepnet":
        return read_chisepnet(file, factors, network=arguments.network, name=name)
    if arguments.kind == "xqsm":
        return read_xqsm(file, name=name)
    if arguments.kind == "lpcnn":
        return read_lpcnn(file, factors, name=name)
    return read_qsmnet(file, factors, network=arguments.kind, name=name)


def _facts(path: Path) -> tuple[str, str]:
    """Task and training domain by the card, or what is wrong with it."""

    try:
        card = read_card(card_path(path))
    except ValueError as error:
        return "bad card", str(error)
    return card.spec.task, str(card.document.get("domain", "not told"))


def _size(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
