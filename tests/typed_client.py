"""A program that uses the package as its documentation says; `test_typed_client.py` has mypy look at it."""

import asyncio
import json
import tempfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lowclip_runtime import Hit, ImageError, Index, LowClip
from lowclip_runtime.index import IndexReport


def embedded(clip: LowClip, photos: list[Path]) -> NDArray[np.float32]:
    for one in clip.embed_each(photos):
        if isinstance(one, ImageError):
            print(str(one))
    pixels = clip.read_pixels(b"")
    if not isinstance(pixels, ImageError):
        clip.embed_pixels([pixels])
    clip.embed_images(np.zeros((2, 9, 9, 3), np.uint8))
    with tempfile.TemporaryFile() as file, tempfile.SpooledTemporaryFile() as upload:
        return clip.embed_images(["a.jpg", Path("b.jpg"), b"", file, upload])


def added(index: Index, photos: list[Path]) -> IndexReport:
    facts: dict[Path, dict[str, str]] = {photo: {"who": "Leyla"} for photo in photos}
    index.set_facts(facts)
    index.set_facts({"a.jpg": {"who": ["Leyla"], "stars": 3}})
    index.set_facts({})
    index.remove(photos)
    return index.add_folder(Path("photos"), progress=lambda done, total: print(done, total))


def found(index: Index, people: set[str], albums: list[str]) -> list[Hit]:
    by_one: dict[str, str | int] = {"album": "2024", "stars": 3}
    print(index.search("it", where=by_one), index.search("it", where={"who": people, "album": albums}))
    return index.search_like(b"", "gecə", k=3, text_share=0.4, where={"who": people})


async def main() -> str:
    clip = LowClip.open(Path("bundle"), provider_options={"device_id": "1"}, towers=("text",))
    with Index.open("photos.index", clip, vectors="int8", dims=128) as index:
        hits = await asyncio.to_thread(index.search, "it", 3)
        return json.dumps([asdict(hit) for hit in hits] + [added(index, []).as_json()])
