"""Bytes of photographs, drawings, handwritten digits and sounds, from pinned packages, as domains beside text."""

import gzip
import io
import wave
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from bimixjax.corpus import TokenStore, writing
from experiments.corpus.packages import Package, wheel

ARCADE = Package(
    "arcade", "3.3.3", "CC0-1.0 (kenney.nl)", "25f4e0e5b8bcbe7a7d087c0a23b19e9f423b0c70ec00945c8712c9a3e541ebd2"
)
SKIMAGE = Package(
    "scikit-image", "0.24.0", "as skimage.data says", "8579bda9c3f78cb3b3ed8b9425213c53a25fa7e994b7ac01f2440b395babf660"
)
SKLEARN = Package(
    "scikit-learn",
    "1.6.1",
    "CC-BY-4.0 (UCI digits)",
    "2e69fab4ebfc9c9b580a7a80111b43d214ab06250f8a7ef590a4edf72464dd86",
)
TEXT = ("bible", "python")
# Photographs only; of the two halves of the stereo picture one. PNG: decoders agree to the last bit.
_PHOTOGRAPHS = (
    *("astronaut", "brick", "camera", "cell", "chelsea", "clock_motion", "coffee"),
    *("coins", "grass", "gravel", "ihc", "moon", "motorcycle_left", "page"),
)
# Ends a document; media are clipped below it.
_SEPARATOR = 255
_SIDE = 32
# Every fourth source is validation.
_HELD_OUT = 4

Bytes = UInt8[np.ndarray, " n"]
# The source that a document is from, by which validation is told from training, and the document.
Media = tuple[str, Bytes]


def build(corpus: Path) -> TokenStore:
    """Return the store `media` in the folder of the corpus, written unless it is there."""
    path = corpus / "media"
    if path.exists():
        return TokenStore.open(path)
    text = TokenStore.open(corpus / "store8")
    makers = {"photographs": photographs, "drawings": drawings, "digits": digits, "sounds": sounds}
    with writing(path, vocab_size=256, tokenizer="bytes of media", separator=_SEPARATOR) as writer:
        for name in TEXT:
            for split, tokens in (("train", text.train(name)), ("validation", text.validation(name))):
                writer.append(name, split, np.asarray(tokens), documents=text.shards[name][split].documents)
        for name, make in makers.items():
            documents = [*make(corpus / "downloads")]
            sources = [*dict.fromkeys(source for source, _ in documents)]
            kept = set(sources[::_HELD_OUT])
            for source, document in documents:
                split = "validation" if source in kept else "train"
                writer.append(name, split, np.append(np.minimum(document, _SEPARATOR - 1), np.uint8(_SEPARATOR)))
    return TokenStore.open(path)


def photographs(downloads: Path) -> Iterator[Media]:
    """Yield tiles of photographs in grey, at half their size, each row of pixels from left to right."""
    with ZipFile(wheel(SKIMAGE, downloads)) as archive:
        for name in _PHOTOGRAPHS:
            grey = _grey(archive.read(f"skimage/data/{name}.png"), 2)
            for tile in _tiles(grey):
                yield name, tile


def drawings(downloads: Path) -> Iterator[Media]:
    """Yield drawings for games in grey, on white; those of one kind are one source."""
    with ZipFile(wheel(ARCADE, downloads)) as archive:
        for path in sorted(archive.namelist()):
            if not (path.startswith("arcade/resources/assets/images/") and path.endswith(".png")):
                continue
            raw = archive.read(path)
            width, height = Image.open(io.BytesIO(raw)).size
            if width == height and width in (64, 128):
                kind = Path(path).stem.rstrip("0123456789")[:6]
                yield kind, _grey(raw, width // _SIDE).ravel()


def digits(downloads: Path) -> Iterator[Media]:
    """Yield handwritten digits of 8 x 8 pixels in 17 shades; a hundred that follow each other are one source."""
    with ZipFile(wheel(SKLEARN, downloads)) as archive:
        rows = gzip.decompress(archive.read("sklearn/datasets/data/digits.csv.gz")).decode().split()
    for number, row in enumerate(rows):
        shades = np.array(row.split(",")[:-1], np.float64)
        yield str(number // 100), (15 * shades).astype(np.uint8)


def sounds(downloads: Path) -> Iterator[Media]:
    """Yield sounds of games at 11,025 samples a second, a byte each by the mu law (ITU-T G.711, continuous form)."""
    with ZipFile(wheel(ARCADE, downloads)) as archive:
        for path in sorted(archive.namelist()):
            if not path.endswith(".wav"):
                continue
            with wave.open(io.BytesIO(archive.read(path))) as file:
                if (file.getframerate(), file.getnchannels(), file.getsampwidth()) != (44_100, 1, 2):
                    continue
                samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
            mean = samples[: len(samples) // 4 * 4].reshape(-1, 4).mean(1) / 2**15
            compressed = np.sign(mean) * np.log1p(255 * np.abs(mean)) / np.log1p(255)
            yield path, np.round(127 + 127 * compressed).astype(np.uint8)


def _grey(png: bytes, block: int) -> UInt8[np.ndarray, "h w"]:
    """Decode a picture, put it on white, weigh its colours (ITU-R BT.601) and take means of blocks of pixels."""
    colours = np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"), np.int64)
    opaque = colours[..., 3:]
    flat = (colours[..., :3] * opaque + 255 * (255 - opaque)) // 255
    grey = flat @ np.array([299, 587, 114]) // 1000
    height, width = (side // block for side in grey.shape)
    blocks = grey[: height * block, : width * block].reshape(height, block, width, block)
    return (blocks.sum((1, 3)) // block**2).astype(np.uint8)


def _tiles(grey: UInt8[np.ndarray, "h w"]) -> Iterator[Bytes]:
    for top in range(0, grey.shape[0] - _SIDE + 1, _SIDE):
        for left in range(0, grey.shape[1] - _SIDE + 1, _SIDE):
            yield grey[top : top + _SIDE, left : left + _SIDE].ravel()
