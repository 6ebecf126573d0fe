"""Links: of the pages as they are in the repository, and of the book that is made of them."""

import posixpath
import re
from html.parser import HTMLParser
from urllib.parse import unquote

import pages


def problems_of_pages(all_pages):
    by_path = {page.path.resolve(): page for page in all_pages}
    for page in all_pages:
        for line, target in page.links:
            if re.match(r"[a-z]+:", target):
                continue
            name, _, anchor = target.partition("#")
            path = (page.path.parent / name).resolve() if name else page.path.resolve()
            if not path.exists():
                yield f"{page.name}:{line}: there is no {target}"
            elif anchor and path.suffix == ".md":
                known = by_path[path] if path in by_path else pages.read(path)
                if anchor not in known.anchors:
                    yield f"{page.name}:{line}: {target} has no such heading"


def problems_of_summary(all_pages):
    """Each page is in the book once."""
    summary = next(page for page in all_pages if page.name == "docs/SUMMARY.md")
    listed = [(pages.DOCS / target).resolve() for _, target in summary.links]
    for page in all_pages:
        if page is not summary and page.path.is_relative_to(pages.DOCS) and listed.count(page.path.resolve()) != 1:
            yield f"{page.name} is {listed.count(page.path.resolve())} times in docs/SUMMARY.md"


class Html(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.loaded = set(), [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.ids |= {given[key] for key in ("id", "name") if given.get(key)}
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        elif tag in ("script", "img", "link", "iframe"):
            self.loaded += [given[key] for key in ("src", "href") if given.get(key)]


def problems_of_book(book):
    """Every link leads somewhere, and nothing is loaded from elsewhere."""
    parsed = {path: Html(path.read_text()) for path in book.rglob("*.html")}
    for path, page in parsed.items():
        name = path.relative_to(book).as_posix()
        if name == "404.html":
            # Served for any address, so it has a base of its own.
            continue
        for target in page.links + page.loaded:
            if re.match(r"[a-z]+:|//", target):
                if target in page.loaded:
                    yield f"{name} of the book loads {target}"
                continue
            there, _, anchor = unquote(target).partition("#")
            file = book / posixpath.normpath(posixpath.join(posixpath.dirname(name), there)) if there else path
            if not file.is_file():
                yield f"{name} of the book links to {target}, which is not there"
            elif anchor and file in parsed and anchor not in parsed[file].ids:
                yield f"{name} of the book links to {target}, which has no such place"
