"""A text that cites: paragraphs of plain words, emphasis and citations, written as Markdown, HTML or plain text."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from qsmprep.report.bibliography import references

_MARKUP = str.maketrans({mark: f"\\{mark}" for mark in "\\`*[]<>"})


@dataclass(frozen=True)
class Citation:
    """Publications cited at one place, by their keys in the bibliography."""

    keys: tuple[str, ...]


@dataclass(frozen=True)
class Emphasis:
    """Words that stand out."""

    text: str


Piece = str | Citation | Emphasis
Pieces = tuple[Piece, ...]


@dataclass(frozen=True)
class Block:
    """A paragraph, or a heading."""

    pieces: Pieces
    heading: bool = False


@dataclass(frozen=True)
class Prose:
    """Blocks of a text. What comes out of data stands in its pieces as it is; each form escapes what it must.

    >>> text = Prose((Block(("By ", Emphasis("a*b"), " ", Citation(("shmueli2009",)), ".")),))
    >>> print(text.markdown(), end="")
    By *a\\*b* [@shmueli2009].
    >>> print(text.plain(), end="")
    By a*b (Shmueli et al., 2009).
    """

    blocks: tuple[Block, ...]

    def citation_keys(self) -> list[str]:
        """Keys that are cited, each once, in order of appearance."""
        pieces = (piece for block in self.blocks for piece in block.pieces)
        return list(dict.fromkeys(key for piece in pieces if isinstance(piece, Citation) for key in piece.keys))

    def markdown(self) -> str:
        """As Markdown, citations written [@key; @key]."""
        texts = (("## " if block.heading else "") + "".join(map(_markdown, block.pieces)) for block in self.blocks)
        return "\n\n".join(texts) + "\n"

    def plain(self) -> str:
        """As plain text, to be pasted: citations in words, no markup."""
        return "\n\n".join("".join(map(_plain, block.pieces)) for block in self.blocks) + "\n"

    def html(self) -> Markup:
        """As HTML: headings of the third order, citations linked to a list of references on the same page."""
        tags = (("h3" if block.heading else "p", "".join(map(_html, block.pieces))) for block in self.blocks)
        return Markup("\n".join(f"<{tag}>{text}</{tag}>" for tag, text in tags))


def joined(parts: Sequence[Sequence[Piece]], separator: str = " ") -> Pieces:
    """Pieces in a row, a separator between each two parts."""
    found: list[Piece] = []
    for number, part in enumerate(parts):
        found += [separator] if number else []
        found += part
    return tuple(found)


def citing(keys: Iterable[str]) -> Pieces:
    """A blank and a citation; nothing without a key that the bibliography has."""
    known = tuple(key for key in keys if key in references())
    return (" ", Citation(known)) if known else ()


def _markdown(piece: Piece) -> str:
    if isinstance(piece, Citation):
        return f"[{'; '.join('@' + key for key in piece.keys)}]"
    if isinstance(piece, Emphasis):
        return f"*{piece.text.translate(_MARKUP)}*"
    return piece.translate(_MARKUP)


def _plain(piece: Piece) -> str:
    if isinstance(piece, Citation):
        return f"({'; '.join(references()[key].short() for key in piece.keys)})"
    return piece.text if isinstance(piece, Emphasis) else piece


def _html(piece: Piece) -> str:
    if isinstance(piece, Citation):
        known = references()
        links = (f'<a href="#ref-{key}">{html.escape(known[key].short())}</a>' for key in piece.keys)
        return f"({'; '.join(links)})"
    if isinstance(piece, Emphasis):
        return f"<em>{html.escape(piece.text)}</em>"
    return html.escape(piece)
