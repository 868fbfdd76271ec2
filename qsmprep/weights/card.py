"""The card beside a file of weights: what the network is, where it comes from, and the hash of the file."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qsmprep.nets.spec import NetworkSpec, from_document, quantities, to_document

FORMAT = 1
SUFFIXES = (".safetensors", ".onnx")  # what a card can describe
MANDATORY = ("licence", "statement")
RESERVED = ("format", "spec", "sha256", "file")  # written by `compose`, never a fact
LARGEST_CARD = 1 << 20  # bytes; a card is text of a few kilobytes
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")


@dataclass(frozen=True)
class Card:
    """A card that was read and is well formed.

    Attributes
    ----------
    spec : the network.
    file : name of the file of weights, in the folder of the card.
    sha256 : of that file, 64 hexadecimal digits.
    document : everything the card says, as JSON values.
    silent : outputs that training left at nought, of which no map is made.
    """

    spec: NetworkSpec
    file: str
    sha256: str
    document: Mapping[str, Any]
    silent: tuple[str, ...] = ()


def check_name(name: str) -> str:
    """The name of a set of weights if it can be one; ValueError otherwise, so that none leads out of its folder."""
    if not NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot name weights: use letters, digits, '.', '_', '+' and '-', nothing else.")
    return name


def compose(spec: NetworkSpec, file: str, content: bytes, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The card of a file of weights.

    Parameters
    ----------
    spec : the network.
    file : name of the file.
    content : of the file.
    facts : licence and statement (text, mandatory), commit, seeds, training, domain, scores, and what else is known.

    Raises
    ------
    ValueError : a mandatory fact is missing or empty, a fact has a reserved name, or JSON has no word for one.
    """
    for fact in MANDATORY:
        if not (isinstance(facts.get(fact), str) and facts[fact].strip()):
            raise ValueError(f"The card of {file} lacks the {fact}: give it as text among the facts.")
    reserved = sorted(set(facts) & set(RESERVED))
    if reserved:
        raise ValueError(f"The card of {file}: {', '.join(reserved)} cannot be given as a fact; it is worked out.")
    document = {"format": FORMAT, "spec": to_document(spec), "file": file, "sha256": digest(content), **facts}
    try:
        json.dumps(document, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"The card of {file} cannot be written as JSON: {error}") from None
    return document


def digest(content: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def card_path(weights: Path) -> Path:
    """Where the card of a file of weights is."""
    return weights.with_name(weights.name.removesuffix(weights.suffix) + ".json")


def read_card(path: Path) -> Card:
    """Read a card and check its form; the file of weights is not looked at.

    Raises
    ------
    ValueError : there is no such file, or it is not a card.
    """
    document = read_document(path, "card")
    if document.get("format") != FORMAT:
        raise ValueError(f"{path}: a card of format {document.get('format')!r}; this version of qsmprep reads format "
                         f"{FORMAT}. {ADVICE}")  # fmt: skip
    for key in ("sha256", *MANDATORY):
        if not (isinstance(document.get(key), str) and document[key].strip()):
            raise ValueError(f"{path}: the card lacks {key}. {ADVICE}")
    if not re.fullmatch(r"[0-9a-f]{64}", document["sha256"]):
        raise ValueError(f"{path}: sha256 is not 64 hexadecimal digits. {ADVICE}")
    file = document.get("file", path.name.removesuffix(".json") + ".safetensors")
    if not (isinstance(file, str) and NAME.fullmatch(file) and file.endswith(SUFFIXES)):
        raise ValueError(f"{path}: {file!r} cannot be a file of weights beside the card. {ADVICE}")
    spec = read_spec(path, document)
    return Card(spec, file, document["sha256"], document, _silent(path, spec, document))


def _silent(path: Path, spec: NetworkSpec, document: Mapping[str, Any]) -> tuple[str, ...]:
    """What `silent` names; none of it may be the network's first output."""
    named = document.get("silent", [])
    further = quantities(spec.outputs[1:])
    if not isinstance(named, list) or not all(quantity in further for quantity in named):
        raise ValueError(f"{path}: silent is {named!r}; it can name {', '.join(further) or 'nothing here'}. {ADVICE}")
    return tuple(named)


def read_spec(path: Path, document: Mapping[str, Any] | None = None) -> NetworkSpec:
    """The description of a network from a JSON file: a card, or the description alone.

    Raises
    ------
    ValueError : there is no such file, or it does not describe a network.
    """
    document = read_document(path, "description of a network") if document is None else document
    try:
        return from_document(document.get("spec", document))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def renamed(spec: NetworkSpec, name: str) -> NetworkSpec:
    """The same network under another name."""
    return dataclasses.replace(spec, name=name)


def read_document(path: Path, what: str) -> dict[str, Any]:
    """A JSON object from a file; ValueError where there is none."""
    try:
        if path.stat().st_size > LARGEST_CARD:
            raise ValueError(f"{path}: too large for a {what}.")
        document = json.loads(path.read_text("utf-8"), parse_constant=_refuse)
    except OSError as error:
        raise ValueError(f"{path}: the {what} cannot be read ({error.strerror}). {ADVICE}") from None
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path}: the {what} is not JSON ({error}). {ADVICE}") from None
    if not isinstance(document, dict):
        raise ValueError(f"{path}: the {what} is not a JSON object. {ADVICE}")
    return document


ADVICE = "Weights come as two files of one name, as `qsmprep-tools weights import` writes them; fetch both again."


def _refuse(constant: str) -> None:
    raise json.JSONDecodeError(f"{constant} is not JSON", constant, 0)
