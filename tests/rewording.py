"""Every text of a record or sidecar in other words, and what of a page must not depend on words."""

from html.parser import HTMLParser

# Keys of what people read. What programs read (keys, codes, stages, methods, file names, values) stays.
TEXTS = ("label", "text", "remedy", "title", "caption", "message", "description", "artefact", "help", "curve_name",
         "source", "Description", "step")  # fmt: skip
_FOR_READERS = ("alt", "title", "aria-label")  # attributes


def foreign(text):
    """A text of the same length without any word, number or mark of the old one; different texts stay different."""
    return "".join(chr(0x4E00 + ord(letter)) for letter in text)


def reworded(document, name=""):
    """A document of JSON with every text in other words."""
    if isinstance(document, dict):
        return {key: reworded(value, key) for key, value in document.items()}
    if isinstance(document, list):
        return [reworded(value, name) for value in document]
    return foreign(document) if isinstance(document, str) and name in TEXTS else document


class _Skeleton(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        kept = [(name, value) for name, value in attrs if name not in _FOR_READERS]
        self.found.append(
            (tag, [(n, v) for n, v in kept if not str(v).startswith(("data:text", "data:application/zip"))])
        )

    def handle_endtag(self, tag):
        self.found.append((tag,))


def skeleton(page):
    """The tags of a page with their attributes: everything but the words."""
    parser = _Skeleton()
    parser.feed(page)
    return parser.found
