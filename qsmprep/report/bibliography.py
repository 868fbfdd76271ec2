"""The bibliography: reading our own BibTeX file and writing references for people."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import resources

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


@dataclass(frozen=True)
class Reference:
    """One entry of the bibliography.

    Attributes
    ----------
    key : as written in citations.
    fields : BibTeX fields as plain text, braces removed.
    bibtex : the entry as it stands in the file.
    """

    key: str
    fields: dict[str, str]
    bibtex: str

    @property
    def authors(self) -> tuple[str, ...]:
        """Authors as "Family, Given" or the name of a committee; "others" stands for the rest."""
        return tuple(name.strip() for name in self.fields.get("author", "").split(" and ") if name.strip())

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
        names = [name.split(",")[0] for name in self.authors]
        if len(names) == 2 and names[1] != "others":
            who = f"{names[0]} and {names[1]}"
        else:
            who = f"{names[0]} et al." if len(names) > 1 else (names or [self.key])[0]
        return f"{who}, {self.year}"

    def long(self) -> str:
        """One line of a reference list, without the address."""
        where = self.fields.get("journal") or self.fields.get("booktitle") or self.fields.get("howpublished", "")
        volume = self.fields.get("volume", "") + (f"({self.fields['number']})" if "number" in self.fields else "")
        pages = self.fields.get("pages", "").replace("--", "–")
        place = " ".join(part for part in (where, volume) if part) + (f":{pages}" if volume and pages else "")
        if pages and not volume:
            place += f", pages {pages}"
        return f"{_people(self.authors)} ({self.year}). {self.fields.get('title', self.key)}. {place}."


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
    """Entries of a BibTeX file whose values stand in braces.

    >>> parse_bibtex("@article{a1, author = {Liu, T. and Wang, Y.}, year = {2013}}")[0].short()
    'Liu and Wang, 2013'
    """
    entries = []
    for match in re.finditer(r"@(\w+)\{\s*([^,\s]+)\s*,", text):
        end = _closing(text, match.end())
        body, fields = text[match.end() : end], {}
        position = 0
        while found := re.compile(r"\s*,?\s*(\w+)\s*=\s*\{").match(body, position):
            stop = _closing(body, found.end())
            fields[found[1].lower()] = _plain(body[found.end() : stop])
            position = stop + 1
        entries.append(Reference(match[2], fields, text[match.start() : end + 1]))
    return entries


def _closing(text: str, start: int) -> int:
    """Position of the brace that closes what was opened before `start`."""
    depth = 1
    for position in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[position], 0)
        if depth == 0:
            return position
    raise ValueError("A brace of the bibliography is never closed.")


def _plain(value: str) -> str:
    return " ".join(re.sub(r"[{}]|\\(?=&)", "", value).split())


def _people(authors: tuple[str, ...]) -> str:
    shown = [_initials(name) for name in authors[:6] if name != "others"]
    more = len(authors) > 6 or "others" in authors
    if more or len(shown) < 2:
        return ", ".join(shown) + (", et al." if more else "")
    return ", ".join(shown[:-1]) + " and " + shown[-1]


def _initials(name: str) -> str:
    family, _, given = name.partition(",")
    letters = "".join("-".join(part[0] + "." for part in word.split("-") if part) for word in given.split())
    return f"{family} {letters}".strip()
