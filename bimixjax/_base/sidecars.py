"""What made a file that cannot say it itself, such as a CSV table: in a file beside it, `runs.csv.provenance.json`."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bimixjax._base import provenance
from bimixjax._base.records import write_json

ENDING = ".provenance.json"


def sidecar(path: str | Path) -> Path:
    """Return where the origin of a file stands beside it."""
    return Path(f"{path}{ENDING}")


@contextmanager
def recording(command: str, inputs: Iterable[str | Path] = ()) -> Iterator[None]:
    r"""Let every file of ours that is written meanwhile say that `command` made it from `inputs`.

    A JSON file says so in its field `provenance`, a figure in its metadata; any other has a file
    `<name>.provenance.json` beside it when the work is done. `bimix` does this for each of its commands.

    Args:
        command: what made the files, in words that a reader can repeat.
        inputs: files, or folders, that it reads; their SHA-256 is taken now.

    Raises:
        OSError: where an input cannot be read.

    Example:
        >>> import bimixjax
        >>> from pathlib import Path
        >>> _ = Path("my.csv").write_text("run,mixture/web,loss/web\na,1,3.1\n")
        >>> with bimixjax.recording("python study.py", ["my.csv"]):
        ...     bimixjax.Observations.read("my.csv").write("checked.csv")
        >>> [(one.file, one.state) for one in bimixjax.verify(".")]
        [('checked.csv', 'verified')]
    """
    given = {Path(path): provenance.digest(path) for path in inputs}
    work = provenance.Recording(command=command, inputs=given)
    with provenance.let(work):
        yield
        for path in sorted(work.written - work.inside):
            # Work may remove what it has written.
            if path.exists():
                write_json(sidecar(path), {"file": path.name, "content": provenance.digest(path)}, hashed=True)
