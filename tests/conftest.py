"""Fixtures that several test files share."""

from pathlib import Path

import pytest

from lowclip_runtime.clip import LowClip
from lowclip_runtime.shard import VECTORS, Vectors


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small bundle with answers that can be computed, see `tiny_bundle.py`; copy it before breaking it."""
    from tiny_bundle import write_tiny_bundle

    return write_tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.fixture(scope="session")
def tiny_clip(tiny_bundle: Path) -> LowClip:
    """`tiny_bundle` opened with two threads."""
    return LowClip.open(tiny_bundle, threads=2)


@pytest.fixture
def photos(tmp_path: Path) -> dict[str, Path]:
    """A folder `photos` with one picture for each colour word, by word."""
    from tiny_bundle import write_photos

    return write_photos(tmp_path / "photos")


@pytest.fixture(scope="session")
def nllb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny NLLB that translates English word by word and back, see `tiny_translators.py`."""
    from tiny_translators import write_nllb

    return write_nllb(tmp_path_factory.mktemp("translators") / "nllb")


@pytest.fixture(scope="session")
def marian(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Marian whose target is multilingual, see `tiny_translators.py`; copy it before breaking it."""
    from tiny_translators import write_marian

    return write_marian(tmp_path_factory.mktemp("translators") / "marian", (">>aze_Latn<<", ">>tur<<"))


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny CLIPModel of transformers that reads English, see `tiny_teachers.py`; copy it before breaking it."""
    from tiny_teachers import write_clip

    return write_clip(tmp_path_factory.mktemp("teachers") / "clip")


@pytest.fixture(params=VECTORS)
def vectors(request: pytest.FixtureRequest) -> Vectors:
    """Each way to hold the vectors of an index."""
    kind: Vectors = request.param
    return kind


@pytest.fixture(scope="session")
def export_work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `checkpoint` and `photos/pairs.tsv`, to export into; see `tiny_checkpoint.py`."""
    from tiny_checkpoint import write_noise_pairs, write_tiny_checkpoint

    folder = tmp_path_factory.mktemp("export")
    write_tiny_checkpoint(folder / "checkpoint")
    write_noise_pairs(folder / "photos")
    return folder


@pytest.fixture(scope="session")
def int8_bundle(export_work: Path) -> Path:
    """The int8 bundle of `export_work`, calibrated and evaluated on its pairs; copy it before breaking it."""
    from lowclip_export.export import ExportOptions, export

    pairs = export_work / "photos/pairs.tsv"
    options = ExportOptions(quantize="int8", calibration=pairs, eval_pairs=pairs)
    export(export_work / "checkpoint", export_work / "int8", options)
    return export_work / "int8"
