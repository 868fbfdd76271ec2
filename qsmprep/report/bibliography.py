"""The bibliography: references for people out of a BibTeX file, which pybtex reads."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from typing import Any

from pybtex.database import parse_string
from pybtex.database.input.bibtex import LowLevelParser
from pybtex.exceptions import PybtexError
from pybtex.richtext import Text
from pybtex.textutils import abbreviate

CONSENSUS = "qsmconsensus2024"

# What to cite for software named in a run record.
SOFTWARE_CITATIONS = {
    "nipype": "nipype2011",
    "pybids": "pybids2019",
    "nibabel": "nibabel",
    "numpy": "numpy2020",
    "scipy": "scipy2020",
    "numba": "numba2015",
    "torch": "pytorch2019",
    "simpleitk": "lowekamp2013",
    "matplotlib": "matplotlib2007",
    "fsl": "jenkinson2012",
}


SHOWN_AUTHORS = 6  # in a reference list, before "et al."
_AS_THEY_ARE = ("doi", "url")  # fields that are no LaTeX


@dataclass(frozen=True)
class Author:
    """A person, or a committee, which has no given name.

    Attributes
    ----------
    family : with its particle: "de Rochefort".
    initials : of the given names: "S.D.".
    """

    family: str
    initials: str = ""


@dataclass(frozen=True)
class Reference:
    """One entry of the bibliography.

    Attributes
    ----------
    key : as written in citations.
    entry : of pybtex, in LaTeX; a step asks for keys alone, and decoding all entries takes longer than reading them.
    bibtex : the entry as it stands in the file: pybtex's own writer would escape once more what is escaped.
    """

    key: str
    entry: Any
    bibtex: str

    @cached_property
    def fields(self) -> dict[str, str]:
        """BibTeX fields but for the people as plain text: no braces, accents as letters; names in lower case."""
        fields = ((name.lower(), value) for name, value in self.entry.fields.items())
        return {name: value if name in _AS_THEY_ARE else _plain(value) for name, value in fields}

    @cached_property
    def authors(self) -> tuple[Author, ...]:
        """Those that the entry names, in their order."""
        return tuple(author for author in map(_author, self.entry.persons.get("author", ())) if author != _OTHERS)

    @property
    def more_authors(self) -> bool:
        """Whether there are others, whom the entry does not name."""
        return len(self.authors) < len(self.entry.persons.get("author", ()))

    @property
    def year(self) -> str:
        """Year, or "n.d."."""
        return self.fields.get("year", "n.d.")

    @property
    def url(self) -> str:
        """Address of the publication; empty when unknown."""
        return f"https://doi.org/{self.fields['doi']}" if "doi" in self.fields else ""

    def short(self) -> str:
        """As cited in a sentence: "Liu et al., 2012"."""
        names = [author.family for author in self.authors] or [self.key]
        if self.more_authors or len(names) > 2:
            return f"{names[0]} et al., {self.year}"
        return f"{' and '.join(names)}, {self.year}"

    def long(self) -> str:
        """One line of a reference list, without the address."""
        where = self.fields.get("journal") or self.fields.get("booktitle") or self.fields.get("howpublished", "")
        volume = self.fields.get("volume", "") + (f"({self.fields['number']})" if "number" in self.fields else "")
        pages = self.fields.get("pages", "")
        place = " ".join(part for part in (where, volume) if part) + (f":{pages}" if volume and pages else "")
        if pages and not volume:
            place += f", pages {pages}"
        return f"{self._people()} ({self.year}). {self.fields.get('title', self.key)}. {place}."

    def _people(self) -> str:
        shown = [f"{author.family} {author.initials}".strip() for author in self.authors[:SHOWN_AUTHORS]]
        if self.more_authors or len(self.authors) > SHOWN_AUTHORS:
            return ", ".join([*shown, "et al."])
        return " and ".join(filter(None, (", ".join(shown[:-1]), *shown[-1:])))


@cache
def references() -> dict[str, Reference]:
    """Every entry of the package's bibliography by its key."""
    text = resources.files("qsmprep.data").joinpath("references.bib").read_text(encoding="utf-8")
    return {entry.key: entry for entry in parse_bibtex(text)}


def cited(keys: Iterable[str]) -> list[Reference]:
    """The entries of these keys, each once, sorted as a reference list; keys without an entry are left out."""
    known = references()
    entries = [known[key] for key in dict.fromkeys(keys) if key in known]
    return sorted(entries, key=lambda entry: (entry.short().lower(), entry.key))


def parse_bibtex(text: str) -> list[Reference]:
    r"""Entries of a BibTeX file.

    Raises
    ------
    ValueError : the text is no BibTeX, or two entries have one key.

    >>> text = r"@article{a1, author = {Mil{\'e}, Jean-Luc and {de} Wit, T.}, title = {{MR} \& us}, year = 2013}"
    >>> parse_bibtex(text)[0].long()
    'Milé J.-L. and de Wit T. (2013). MR & us. .'
    """
    try:
        entries = parse_string(text, "bibtex").entries
        parser = LowLevelParser(text)
        written = {body[0]: text[parser.command_start : parser.pos] for _, body in parser}
    except PybtexError as error:
        raise ValueError(f"The bibliography is no BibTeX: {error}") from error
    return [Reference(key, entry, written[key]) for key, entry in entries.items()]


def _author(person: Any) -> Author:
    family = (*person.prelast_names, *person.last_names, *person.lineage_names)
    given = (_plain(name) for name in (*person.first_names, *person.middle_names))
    return Author(" ".join(map(_plain, family)), "".join(map(abbreviate, given)))


def _plain(latex: str) -> str:
    return " ".join(str(Text.from_latex(latex)).split())


_OTHERS = Author("others")
