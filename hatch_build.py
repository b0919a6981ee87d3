"""What a build does beside the usual: recipes go into the wheel, and README loses what a package index cannot show.

README's links are to files of the repository. No public address serves them yet, so the text for a package index keeps
the words of a link without the link, and leaves pictures and the comments for our tests out. Once there is an address,
`LINK` becomes a link to it.
"""

import re

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

PICTURE = re.compile(r"^<picture>.*?</picture>\n+|^<!--.*?-->\n", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[([^\]]*)\]\((?!https?:)[^)]*\)")
NOTE = "The pages named here (docs/…, recipes/…) are in the source distribution.\n\n"


class Readme(MetadataHookInterface):
    """README for a package index."""

    def update(self, metadata):
        """Add the readme to the project's metadata."""
        with open(f"{self.root}/README.md", encoding="utf-8") as file:
            title, rest = file.read().split("\n\n", 1)
        text = f"{title}\n\n{NOTE}" + LINK.sub(r"\1", PICTURE.sub("", rest))
        metadata["readme"] = {"content-type": "text/markdown", "text": text}


class Recipes(BuildHookInterface):
    """`recipes/` as `medrft/shipped_recipes` in a wheel; an editable install reads them where they are."""

    def initialize(self, version, build_data):
        """Name the files that a build adds."""
        if version == "standard":
            build_data["force_include"]["recipes"] = "medrft/shipped_recipes"
