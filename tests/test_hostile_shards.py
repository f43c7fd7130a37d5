"""Tar shards whose headers claim more than there is: refused before memory is taken for it."""

import gzip
import tarfile
from pathlib import Path

import pytest
from tiny_images import pairs_in, png, write_tar

from lowclip_runtime.errors import DatasetError
from lowclip_train import webdataset
from lowclip_train.make_dataset import Wanted, make_dataset


def with_checksum(header: bytearray) -> bytes:
    header[148:156] = b"%06o\0 " % tarfile.calc_chksums(bytes(header))[0]  # type: ignore[attr-defined]
    return bytes(header)


def header(name: str, kind: bytes, size: int = 0) -> bytearray:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return bytearray(info.tobuf(tarfile.GNU_FORMAT))


def sparse(name: str, claimed: int) -> bytes:
    """A member of that many zeros, none of which is in the shard."""
    made = header(name, tarfile.GNUTYPE_SPARSE)
    made[386:410] = (b"%011o\0" % 0) * 2
    made[482:495] = b"\0%011o\0" % claimed
    return with_checksum(made)


def good_shard(folder: Path) -> bytes:
    return write_tar(folder / "good.tar", {"good.png": png(1), "good.txt": "good"}).read_bytes()[:2048]


@pytest.mark.parametrize("size", [b"\x80" + b"\x7f" * 11, b"\x80\0\0\0\x7f" + b"\xff" * 7])
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_size_beyond_all_files_is_damage(tmp_path: Path, kind: bytes, size: bytes) -> None:
    made = header("a.other", kind)
    made[124:136] = size
    (tmp_path / "s.tar").write_bytes(good_shard(tmp_path) + with_checksum(made) + bytes(1024))
    with pytest.raises(DatasetError, match=r"s\.tar: the shard cannot be read \(.*\); get it anew"):
        make_dataset("webdataset", tmp_path / "s.tar", tmp_path / "out", wanted=Wanted(skip_bad=True))


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_no_header_takes_memory_out_of_proportion(tmp_path: Path, kind: bytes) -> None:
    """The module holds one whole: a compressed one of gigabytes is a few megabytes of a file."""
    bomb = good_shard(tmp_path) + bytes(header("a", kind, 2 << 20)) + bytes(2 << 20) + bytes(1024)
    (tmp_path / "s.tar.gz").write_bytes(gzip.compress(bomb))
    with pytest.raises(DatasetError, match="a header of 2,097,152 bytes"):
        make_dataset("webdataset", tmp_path / "s.tar.gz", tmp_path / "out")


def test_a_member_with_holes_is_left_out(tmp_path: Path) -> None:
    shard = tmp_path / "s.tar"
    shard.write_bytes(
        good_shard(tmp_path) + sparse("a.jpg", 1 << 32) + sparse("b.jpg", 1 << 20) + bytes(1024)
    )
    with pytest.raises(DatasetError, match=r"s\.tar, a\.jpg: it is stored with holes"):
        make_dataset("webdataset", shard, tmp_path / "out")
    made = make_dataset("webdataset", shard, tmp_path / "out", wanted=Wanted(skip_bad=True))
    assert [p.caption for p in pairs_in(tmp_path / "out")] == ["good"] and len(made.left_out) == 2


def test_the_members_of_a_sample_are_counted_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them are held at a time."""
    monkeypatch.setattr(webdataset, "_MAX_SAMPLE_BYTES", 3000)
    names = {f"{key}.{suffix}": "x" * 1400 for key in ("a", "b") for suffix in ("txt", "json", "png")}
    members: dict[str, bytes | str] = {"good.png": png(1), "good.txt": "good", **names}
    with pytest.raises(
        DatasetError, match=r"a\.png: 4,200 bytes are too many for an image with its captions"
    ):
        make_dataset("webdataset", write_tar(tmp_path / "s.tar", members), tmp_path / "out")
