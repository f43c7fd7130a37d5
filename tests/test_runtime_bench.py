"""What the runtime's benchmarks are made of: photos that are large and different, vectors, tables and pictures."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_bundle import COLOURS, picture

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import large_photos
import quality_bench
import readme_tables
import search_bench
from runtime_plots import plot_rows
from runtime_table import runtime_table

from lowclip_runtime.clip import LowClip
from lowclip_runtime.pairs import Pair, write_pairs

ROWS = [
    {"case": "a", "metric": "speed", "unit": "photos/s", "higher_is_better": True, "ours": 28.41,
     "peers": {"one": 7.1, "other": 1234.5}, "rounds": 3},
    {"case": "b", "metric": "cosine", "unit": "", "higher_is_better": True, "ours": 0.99951, "peers": {}, "rounds": 1},
]  # fmt: skip


@pytest.fixture
def results(tmp_path: Path) -> Path:
    result = {"date": "2026-01-01", "machine": {"processor": "x", "cores": 2, "vnni": False}, "rows": ROWS}
    (tmp_path / "pipeline.json").write_text(json.dumps(result))
    return tmp_path


def test_the_table_has_a_line_for_each_row_of_the_results_that_are_there(results: Path) -> None:
    assert runtime_table(results).splitlines()[2:] == [
        "| a: speed | 28.4 photos/s | one 7.1, other 1,234 |",
        "| b: cosine | 0.9995 |  |",
    ]


def test_the_picture_shows_the_rows_with_peers(results: Path) -> None:
    pytest.importorskip("matplotlib")
    with Image.open(plot_rows(results / "pipeline.json")) as drawn:
        assert (
            drawn.size[0] == 990
            and len(np.unique(np.asarray(drawn.convert("RGB")).reshape(-1, 3), axis=0)) > 3
        )


def test_large_photos_are_large_different_and_some_are_turned(tmp_path: Path) -> None:
    picture((9, 99, 200)).save(tmp_path / "small.png")
    paths = large_photos.write_large_photos([tmp_path / "small.png"], tmp_path / "large", 5, (400, 300))
    assert len({path.read_bytes() for path in paths}) == 5
    with Image.open(paths[0]) as first, Image.open(paths[3]) as turned:
        assert first.size == (400, 300)
        assert (first.getexif().get(0x0112), turned.getexif().get(0x0112)) == (None, 6)
        assert (
            np.asarray(first).std(axis=(0, 1)).max() > 3
        )  # grain, which makes the file as large as a phone's


def test_queries_lie_near_the_vectors_they_are_drawn_from() -> None:
    gallery, queries = search_bench.drawn(5000)
    assert gallery.shape == (5000, 256) and gallery.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(gallery, axis=1), 1, atol=1e-5)
    best = np.sort(queries @ gallery.T, axis=1)[:, ::-1]
    assert (best[:, 9] > 0.3).all() and (best[:, 200] < 0.3).all()
    found = search_bench.numpy_search(gallery)(queries[0])
    assert found == list(np.argsort(-(gallery @ queries[0]))[: search_bench.K])


def test_typed_captions_have_the_cases_that_the_table_shows(
    tiny_clip: LowClip, photos: dict[str, Path], tmp_path: Path
) -> None:
    photos["göy"].parent.rename(tmp_path / "flickr8k")
    pairs = [Pair(f"{word}.png", f"{word} it", "az", "test") for word in COLOURS]
    write_pairs(tmp_path / "flickr8k/captions.tsv", [*pairs, Pair("göy.png", "blue", "en", "test")])
    figures = quality_bench.as_people_type(tiny_clip, tmp_path, tmp_path)
    cases = {case.removesuffix(", gallery 6") for case, _ in figures}
    assert cases == {case for case in readme_tables._CASES if case.startswith("flickr8k test, az ")}
    # the tiny bundle reads capitals, and of plain letters only "qara"
    assert figures["flickr8k test, az in capitals, gallery 6", "R@1"] == 1
    assert figures["flickr8k test, az without diacritics, gallery 6", "R@1"] <= 2 / 6
