"""How the demo speaks: chapters, sentences, commands, tables; on the terminal, and a part of it for a picture."""

import io
import re
import sys
import textwrap
from pathlib import Path

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.text import Text

WIDTH = 116
"""Columns where no terminal says how many there are, and of the picture."""
_INDENT = (0, 0, 0, 3)
_FONT_FACE = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)


class Narrator:
    """Prints as things happen. What is said while ``pictured`` is true is in the picture too."""

    def __init__(self) -> None:
        width = None if sys.stdout.isatty() else WIDTH
        self._out = Console(width=width, highlight=False, markup=False, emoji=False)
        self._picture = Console(
            width=WIDTH,
            highlight=False,
            markup=False,
            emoji=False,
            record=True,
            file=io.StringIO(),
            force_terminal=True,
        )
        self.pictured = False
        self._chapter = 0

    def chapter(self, title: str) -> None:
        """Begin a chapter."""
        self._chapter += 1
        self.show(Text(f"\n{self._chapter}. {title}", style="bold cyan"))

    def text(self, words: str) -> None:
        """A paragraph for the newcomer."""
        for line in textwrap.wrap(" ".join(words.split()), min(self._out.width, WIDTH) - 3):
            self.show(Text(f"   {line}"))

    def command(self, line: str) -> None:
        """What one would type for what comes next."""
        self.show(Text(f"   $ headrace {line}", style="bold"))

    def line(self, words: str, style: str = "") -> None:
        """A line of output."""
        self.show(Padding(Text(words, style=style, overflow="fold"), _INDENT, expand=False))

    def good(self, words: str) -> None:
        """Something that was looked at and is as it should be."""
        self.show(Padding(Text.assemble(("✓ ", "green"), words), _INDENT, expand=False))

    def table(self, made: RenderableType) -> None:
        """A table."""
        self.show(Padding(made, _INDENT, expand=False))

    def show(self, made: RenderableType) -> None:
        """Print anything."""
        self._out.print(made)
        sys.stdout.flush()
        if self.pictured:
            self._picture.print(made)

    def save(self, file: Path) -> None:
        """Write the picture as an SVG that asks no other host for anything."""
        drawn = self._picture.export_svg(title="./headrace demo", unique_id="headrace-demo")
        file.write_text(_FONT_FACE.sub("", drawn))
