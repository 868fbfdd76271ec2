"""Where files of weights are, and whether they are those that their cards describe, without the library that runs them.

A name is looked for in the user's folder and among the shipped ones; the bytes of a file are held against its card.
Nothing here opens a file of a format that can run code.
"""

from __future__ import annotations

import os
from pathlib import Path

import qsmprep.data
from qsmprep.weights.card import ADVICE, NAME, SUFFIXES, Card, card_path, digest, read_card

VARIABLE = "QSMPREP_WEIGHTS"  # names the user's folder of weights
SHIPPED = "shipped with qsmprep"
# First bytes -> what the file is. Compared, never opened.
MAGIC = (
    (b"PK\x03\x04", "a zip archive, as torch.save writes"),
    (b"\x80", "a pickle, as torch.save writes"),
    (b"\x89HDF", "an HDF5 file, as Keras writes"),
)
FOREIGN = (".pth", ".pt", ".pkl", ".tar", ".ckpt", ".index", ".bin", ".h5", ".hdf5")
REMEDY = ("qsmprep reads weights as safetensors only, since other formats can run code when opened. Convert it: "
          "`qsmprep-tools weights import --kind KIND FILE`.")  # fmt: skip


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


def read_content(path: Path) -> bytes:
    """The bytes of a file; ValueError where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}). Give a file that exists.") from None


def refuse_other_formats(content: bytes, path: Path) -> None:
    """Raise ValueError where the first bytes are those of a pickle, an archive or HDF5, or of no format at all."""
    if content[8:9] == b"{":  # eight bytes of length, then JSON: the start of a safetensors file
        return
    kind = next((kind for start, kind in MAGIC if content.startswith(start)), "something else")
    raise ValueError(f"{path} is {kind}, not a safetensors file; it was not opened. {REMEDY}")
