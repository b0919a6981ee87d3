"""Checks a built site: every link in it leads to a page and a heading that are there, and nothing loads from outside.

python docs/check_site.py build/site
"""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADS = {"script": "src", "img": "src", "link": "href", "source": "srcset", "iframe": "src"}
"""Elements whose address is fetched when a page opens; a link in the text is only fetched when it is followed."""


class Page(HTMLParser):
    """The addresses, the anchors and the words of one page."""

    def __init__(self, text):
        super().__init__()
        self.links, self.loads, self.anchors = [], [], set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        """Keep what an element points to and how it is called."""
        given = dict(attrs)
        self.anchors.update(filter(None, (given.get("id"), given.get("name"))))
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        if tag in LOADS and given.get(LOADS[tag]):
            self.loads.append(given[LOADS[tag]])


def faults_of(folder: Path) -> list[str]:
    """One line for each broken link, and for each thing that a page or a style sheet would load from elsewhere."""
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in sorted(folder.rglob("*.html"))}
    found = []
    for path, page in pages.items():
        here = path.relative_to(folder)
        for address in page.loads:
            parts = urlsplit(address)
            if parts.netloc or parts.scheme not in ("", "data"):
                found.append(f"{here} loads {address}")
        for address in (*page.links, *page.loads):
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.is_file():
                found.append(f"{here} leads to {address}, which is not there")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
                found.append(f"{here} leads to {address}, which has no such heading")
    for style in sorted(folder.rglob("*.css")):
        if "url(http" in (text := style.read_text(encoding="utf-8")) or "@import" in text:
            found.append(f"{style.relative_to(folder)} loads from elsewhere")
    return found


if __name__ == "__main__":
    faults = faults_of(Path(sys.argv[1]).resolve())
    print("\n".join(faults) or f"{sys.argv[1]}: every link leads somewhere, and nothing loads from outside")
    sys.exit(bool(faults))
