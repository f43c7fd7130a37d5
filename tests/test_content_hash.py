"""What an index knows contents by, in new indexes and in those of before, which go on as they were."""

import hashlib
import io
import json
from pathlib import Path
from unittest import mock

import pytest
from blake3 import blake3
from test_facts_kill import KilledError, killed_after
from test_facts_kill import one_by_one as one_by_one
from test_kept_facts import numbered as numbered
from test_kept_facts import said
from tiny_bundle import picture
from tiny_index import counts

from lowclip_runtime.clip import LowClip
from lowclip_runtime.content_hash import ContentHash, hash_of
from lowclip_runtime.errors import InputError
from lowclip_runtime.index import Index, describe_index, verify_index
from lowclip_runtime.index_manifest import MANIFEST_NAME
from lowclip_runtime.photo_record import record_id
from lowclip_runtime.shard import Shard


@pytest.mark.parametrize("size", [0, 1, 700_001])
def test_a_hash_is_that_of_the_content_in_memory_and_of_a_file(tmp_path: Path, size: int) -> None:
    content = bytes(i % 251 for i in range(size))
    (tmp_path / "a").write_bytes(content)
    expected: dict[ContentHash, str] = {
        "blake3": blake3(content).hexdigest(),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    for kind, digest in expected.items():
        assert hash_of(io.BytesIO(content), kind) == digest
        with (tmp_path / "a").open("rb") as file:
            assert hash_of(file, kind) == digest


def of_the_second_schema(path: Path) -> None:
    """Make of the index at `path` what lowclip wrote before indexes had a `content_hash`."""
    data = json.loads((path / MANIFEST_NAME).read_text("utf-8"))
    assert data.pop("content_hash") == "blake3"
    (path / MANIFEST_NAME).write_text(json.dumps({**data, "schema_version": 2}), "utf-8")
    shard = Shard.open(path / "shard")
    points = list(shard.scroll(with_embeddings=True))
    for point in points:
        file = Path(f"{point.payload['gallery']}/{point.payload['path']}")
        del point.payload["blake3"]
        point.payload["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
    shard.upsert(points)
    shard.flush()
    shard.close()


def stored_hashes(path: Path) -> dict[str, dict[str, str]]:
    """File name → the hashes that are stored of it, by name."""
    shard = Shard.open(path / "shard")
    try:
        return {
            Path(point.payload["path"]).name: {
                key: point.payload[key] for key in ("sha256", "blake3") if key in point.payload
            }
            for point in shard.scroll()
        }
    finally:
        shard.close()


def test_a_new_index_knows_contents_by_blake3(tmp_path: Path, tiny_clip: LowClip, numbered: Path) -> None:
    path = tmp_path / "i"
    with Index.open(path, tiny_clip) as index:
        index.add_folder(numbered)
    assert describe_index(path)["content_hash"] == "blake3"
    assert stored_hashes(path) == {
        photo.name: {"blake3": blake3(photo.read_bytes()).hexdigest()} for photo in numbered.glob("*.jpg")
    }


def test_an_index_of_before_goes_on_with_sha256(tmp_path: Path, tiny_clip: LowClip, numbered: Path) -> None:
    path = tmp_path / "i"
    with Index.open(path, tiny_clip) as index:
        index.add_folder(numbered)
        index.set_facts({str(numbered / "1.jpg"): {"who": "Leyla"}})
    of_the_second_schema(path)
    (numbered / "1.jpg").rename(numbered / "moved.jpg")
    (numbered / "copy.jpg").write_bytes((numbered / "2.jpg").read_bytes())
    picture((9, 9, 250)).save(numbered / "new.jpg")
    with Index.open(path, tiny_clip) as index:
        with mock.patch.object(tiny_clip, "embed_pixels", wraps=tiny_clip.embed_pixels) as embed:
            report = index.add_folder(numbered)
        assert sum(len(call.args[0]) for call in embed.call_args_list) == 1  # the new one alone
        assert said(index, "Leyla") == ["moved.jpg"]
        with pytest.raises(InputError, match="sha256"):
            index.set_facts({str(numbered / "new.jpg"): {"sha256": "x"}})
        assert index.compact() >= 0
    assert counts(report) == {"added": 3, "removed": 1, "unchanged": 3, "duplicates": 1}
    assert describe_index(path)["content_hash"] == "sha256"
    assert stored_hashes(path) == {
        photo.name: {"sha256": hashlib.sha256(photo.read_bytes()).hexdigest()}
        for photo in numbered.glob("*.jpg")
    }
    assert verify_index(path, tiny_clip)["photos"] == len(list(numbered.glob("*.jpg")))


def test_a_users_fact_named_blake3_in_an_index_of_before_stays_one(
    tmp_path: Path, tiny_clip: LowClip, numbered: Path
) -> None:
    """No such name was taken then."""
    path, photo = tmp_path / "i", str(numbered / "1.jpg")
    with Index.open(path, tiny_clip) as index:
        index.add_folder(numbered)
    of_the_second_schema(path)
    shard = Shard.open(path / "shard")
    shard.set_payload([record_id(photo)], {"blake3": 7})
    shard.flush()
    shard.close()
    (numbered / "1.jpg").rename(numbered / "moved.jpg")
    with Index.open(path, tiny_clip) as index:
        assert counts(index.add_folder(numbered)) == {"added": 1, "removed": 1, "unchanged": 3}
        (hit,) = index.search("göy", where={"blake3": 7})
    assert Path(hit.path).name == "moved.jpg"


@pytest.mark.usefixtures("one_by_one")
@pytest.mark.parametrize("named", ["sha256", "content_hash"])
def test_facts_that_a_killed_run_left_in_an_index_of_before_are_taken(
    tmp_path: Path, tiny_clip: LowClip, numbered: Path, named: str
) -> None:
    """They are written as the versions read them that made the index; one version wrote them by another name."""
    path = tmp_path / "i"
    with Index.open(path, tiny_clip) as index:
        index.add_folder(numbered)
        index.set_facts({str(photo): {"who": photo.name} for photo in numbered.glob("*.jpg")})
    of_the_second_schema(path)
    photos = sorted(numbered.glob("*.jpg"))
    for photo in reversed(photos):
        photo.rename(photo.with_name(f"{int(photo.stem) + 1}.jpg"))
    with Index.open(path, tiny_clip) as index, pytest.raises(KilledError):
        index.add_folder(numbered, progress=killed_after(2))
    journal = path / "facts-under-way.json"
    assert [set(one) for one in json.loads(journal.read_text("utf-8"))] == [{"path", "sha256", "said"}] * 4
    if named == "content_hash":
        journal.write_text(journal.read_text("utf-8").replace('"sha256"', '"content_hash"'), "utf-8")
    with Index.open(path, tiny_clip) as index:
        index.add_folder(numbered)
        for photo in photos:
            assert said(index, photo.name) == [f"{int(photo.stem) + 1}.jpg"]
