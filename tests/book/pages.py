"""Pages of the book as the tests see them: blocks in their order, links, and places that links lead to."""

import re
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
DOCS = ROOT / "docs"

FENCE = re.compile(r"^(\s*)```(.*)$")
SAVE = re.compile(r"[Ss]ave this as\s+`([^`]+)`")
NOT_RUN = re.compile(r"<!-- not run: (.+?) -->", re.DOTALL)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^()\s]+)\)")


@dataclass
class Block:
    """A fenced block. `saved_as` is what the page tells its reader to call it, `answer` the `text` block right below."""

    page: str
    line: int
    language: str
    is_ignored: bool
    text: str
    saved_as: str | None = None
    answer: "Block | None" = None

    def __str__(self):
        return f"{self.page}:{self.line}"


@dataclass
class Page:
    path: Path
    blocks: list[Block] = field(default_factory=list)
    links: list[tuple[int, str]] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)
    not_run: str | None = None

    @property
    def name(self):
        return self.path.relative_to(ROOT).as_posix()


def all_pages():
    """Those of the book, and the README that leads there."""
    return [read(path) for path in [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]]


def read(path):
    page = Page(path)
    text = path.read_text()
    reason = NOT_RUN.search(text)
    page.not_run = reason and " ".join(reason[1].split())
    lines = text.splitlines()
    prose = []
    number = 0
    while number < len(lines):
        opened = FENCE.match(lines[number])
        if opened:
            end = next((at for at in range(number + 1, len(lines)) if lines[at].strip() == "```"), None)
            assert end is not None, f"{page.name}:{number + 1}: this block does not end"
            add_block(page, number + 1, opened, lines[number + 1:end], prose)
            prose = []
            number = end + 1
            continue
        add_prose(page, number + 1, lines[number])
        # What is said of a block stands in the paragraph above it.
        if lines[number].strip() or (prose and prose[-1].strip()):
            prose.append(lines[number])
        number += 1
    return page


def add_block(page, line, opened, body, prose):
    indent, information = opened.groups()
    words = [word.strip() for word in information.split(",")]
    block = Block(page.name, line, words[0], "ignore" in words[1:], "".join(text.removeprefix(indent) + "\n" for text in body))
    said = "\n".join(prose).strip()
    if said:
        named = SAVE.findall(said.split("\n\n")[-1])
        block.saved_as = named[-1] if named else None
    elif page.blocks and block.language == "text" and page.blocks[-1].language == "sh":
        page.blocks[-1].answer = block
    page.blocks.append(block)


def add_prose(page, line, text):
    heading = re.match(r"^#+ (.*?)\s*$", text)
    if heading:
        anchor = slug(heading[1])
        twice = sum(1 for known in page.anchors if known == anchor or re.fullmatch(re.escape(anchor) + r"-\d+", known))
        page.anchors.add(f"{anchor}-{twice}" if twice else anchor)
    outside_of_code = re.sub(r"``.*?``|`[^`]*`", lambda code: "" if "](" in code[0] else code[0], text)
    page.links += [(line, target) for target in LINK.findall(outside_of_code)]


def slug(heading):
    """As GitHub and mdBook make it."""
    shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    return re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
