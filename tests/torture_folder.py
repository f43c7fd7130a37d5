"""A folder of photos as bad as they come: every kind of file that should be indexed, and every kind that cannot be.

`write_torture_folder` says which is which, with words of the reason that must be given for the bad ones.
"""

import io
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

GROUP = 100  # files of one subfolder


@dataclass
class Torture:
    """What was written, by path below the folder."""

    good: list[str] = field(default_factory=list)
    bad: dict[str, str] = field(default_factory=dict)


def write_torture_folder(
    root: Path, files: int, *, bad_share: float = 0.1, size: tuple[int, int] = (60, 45)
) -> Torture:
    """Fill `root` with about so many files, no two with the same content; the kinds take turns."""
    torture = Torture()
    bad = max(len(BAD), round(files * bad_share))
    for i in range(files - bad):
        kind = list(GOOD)[i % len(GOOD)]
        path = _place(root, i, f"{kind}-{i}")
        path = path.with_name(path.name + GOOD[kind][0])
        path.write_bytes(_encoded(i, size, *GOOD[kind][1:]))
        torture.good.append(path.relative_to(root).as_posix())
    for i in range(bad):
        kind = list(BAD)[i % len(BAD)]
        make, words = BAD[kind]
        for path in make(_place(root, i, f"{kind}-{i}"), files + i, size):
            torture.bad[os.fsencode(path.relative_to(root)).decode("utf-8", "backslashreplace")] = words
    _harmless(root)
    return torture


def _place(root: Path, i: int, name: str) -> Path:
    folder = root / f"{i // GROUP:03}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / name


def _photo(seed: int, size: tuple[int, int]) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


def _encoded(
    seed: int, size: tuple[int, int], format: str, mode: str = "RGB", options: dict[str, object] | None = None
) -> bytes:
    file = io.BytesIO()
    image = _photo(seed, size)
    image = image.convert("L").convert(mode) if mode == "I;16" else image.convert(mode)
    image.save(file, format, **(options or {}))
    return file.getvalue()


_TURNED = Image.Exif()
_TURNED[0x0112] = 6
# orientation 6, and a tag of a type that its count does not fit
_DAMAGED_EXIF = (
    b"Exif\0\0II*\0\x08\0\0\0\x02\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\x1a\x01\x05\0\x01\0\0\0\xff\xff\xff\x7f"
)
# suffix, format, mode, options of Pillow's encoder
GOOD: dict[str, tuple[str, str, str, dict[str, object]]] = {
    "jpeg": (".jpg", "JPEG", "RGB", {}),
    "upper": (".JPG", "JPEG", "RGB", {}),
    "grey": (".jpeg", "JPEG", "L", {}),
    "cmyk": (".jpg", "JPEG", "CMYK", {}),
    "turned": (".jpg", "JPEG", "RGB", {"exif": _TURNED}),
    "damaged exif": (".jpg", "JPEG", "RGB", {"exif": _DAMAGED_EXIF}),
    "progressive": (".jpg", "JPEG", "RGB", {"progressive": True}),
    "profile": (".jpg", "JPEG", "RGB", {"icc_profile": b"not a profile at all"}),
    "png": (".png", "PNG", "RGB", {}),
    "alpha": (".png", "PNG", "RGBA", {}),
    "palette": (".png", "PNG", "P", {"transparency": 0}),
    "deep": (".png", "PNG", "I;16", {}),
    "webp": (".webp", "WEBP", "RGB", {}),
    "gif": (".gif", "GIF", "P", {}),
    "tiff": (".tif", "TIFF", "RGB", {}),
    "bmp": (".bmp", "BMP", "RGB", {}),
    "avif": (".avif", "AVIF", "RGB", {}),
    "wrong suffix": (".jpg", "PNG", "RGB", {}),
    "ad'ı “qəribə” — 写真\n": (".jpg", "JPEG", "RGB", {}),
    "x" * 200: (".jpg", "JPEG", "RGB", {}),
}

Bad = Callable[[Path, int, tuple[int, int]], Iterator[Path]]


def _file(suffix: str, content: Callable[[bytes], bytes], format: str = "JPEG") -> Bad:
    def write(path: Path, seed: int, size: tuple[int, int]) -> Iterator[Path]:
        path = path.with_name(path.name + suffix)
        path.write_bytes(content(_encoded(seed, size, format)))
        yield path

    return write


def _bomb(data: bytes) -> bytes:
    """A bitmap whose header promises 3.6 gigapixels."""
    return data[:18] + (60_000).to_bytes(4, "little") * 2 + data[26:]


def _loop(path: Path, seed: int, size: tuple[int, int]) -> Iterator[Path]:
    path = path.with_name(path.name + ".jpg")
    path.symlink_to(path.name)
    yield path


def _dangling(path: Path, seed: int, size: tuple[int, int]) -> Iterator[Path]:
    path = path.with_name(path.name + ".jpg")
    path.symlink_to("nowhere.jpg")
    yield path


def _fifo(path: Path, seed: int, size: tuple[int, int]) -> Iterator[Path]:
    path = path.with_name(path.name + ".jpg")
    os.mkfifo(path)
    yield path


def _not_utf8(path: Path, seed: int, size: tuple[int, int]) -> Iterator[Path]:
    path = Path(os.fsdecode(os.fsencode(path) + b"-\xff\xfe.jpg"))
    path.write_bytes(_encoded(seed, size, "JPEG"))
    yield path


def _no_permission(path: Path, seed: int, size: tuple[int, int]) -> Iterator[Path]:
    if os.geteuid() == 0:  # may read everything
        return
    path = path.with_name(path.name + ".jpg")
    path.write_bytes(_encoded(seed, size, "JPEG"))
    path.chmod(0)
    yield path


BAD: dict[str, tuple[Bad, str]] = {
    "truncated jpeg": (_file(".jpg", lambda data: data[: len(data) * 2 // 3]), "truncated"),
    "truncated png": (_file(".png", lambda data: data[: len(data) // 2], "PNG"), "truncated"),
    "truncated webp": (_file(".webp", lambda data: data[: len(data) // 2], "WEBP"), ""),
    "truncated gif": (_file(".gif", lambda data: data[: len(data) // 2], "GIF"), ""),
    "damaged avif": (_file(".avif", lambda data: data[:81] + b"\0" + data[82:], "AVIF"), ""),
    "bad checksum": (_file(".png", lambda data: data[:30] + b"\0\0\0\0" + data[34:], "PNG"), ""),
    "header only": (_file(".jpg", lambda data: data[:20]), ""),
    "empty": (_file(".jpg", lambda data: b""), "not an image"),
    "text": (_file(".jpg", lambda data: b"<html>404 not found</html>"), "not an image"),
    "zeros": (_file(".jpg", lambda data: bytes(len(data))), "not an image"),
    "heic": (_file(".heic", lambda data: b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + data), "not an image"),
    "bomb": (_file(".bmp", _bomb, "BMP"), "pixels"),
    "loop": (_loop, "leads back to itself"),
    "dangling": (_dangling, "no such file"),
    "fifo": (_fifo, "neither a file nor a folder"),
    "not utf-8": (_not_utf8, "not UTF-8"),
    "no permission": (_no_permission, "no permission"),
}


def _harmless(root: Path) -> None:
    """What is no photo and no problem."""
    (root / "a folder.jpg").mkdir()
    (root / "empty folder").mkdir()
    (root / "000" / "up").symlink_to("..")
    (root / "notes.txt").write_text("no photo")
    (root / ".hidden.jpg").write_text("not looked at")
    deep = root.joinpath(*["a folder whose name is rather long" * 3] * 4)
    deep.mkdir(parents=True)
