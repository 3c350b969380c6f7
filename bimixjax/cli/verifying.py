"""The `bimix verify` command: whether files are what they were, and so is what they were made from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from bimixjax.cli.console import Answer, Command


@dataclass(frozen=True, kw_only=True)
class Verify(Command):
    """Compute anew the hashes of the files in a folder and of their inputs, and say which still hold.

    Example: bimix verify .
    """

    at_work = "reading files"

    place: Annotated[Positional[Path], arg(metavar="FOLDER|FILE")]
    """A folder with files that bimix has written, or one of them."""

    @property
    def options_file(self) -> None:
        """Nothing is written."""
        return None

    def inputs(self) -> tuple[Path, ...]:
        """Nothing is made from what is verified."""
        return ()

    def work(self) -> Answer:
        """Verify; it fails where a file does not hold, or none says what made it."""
        import bimixjax
        from bimixjax.reports import origins

        found = bimixjax.verify(self.place)
        failed = not all(one.holds for one in found) or not any(one.state == "verified" for one in found)
        return Answer(document=origins.document(found), screen=origins.screen(found, self.place), failed=failed)
