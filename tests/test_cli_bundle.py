"""`lowclip embed`, `eval`, `info` and `verify` as a user types them, and what an import loads."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from tiny_bundle import COLOURS

import lowclip_runtime
from lowclip_runtime.cli import main
from lowclip_runtime.describe import as_lines, describe_runtime
from lowclip_runtime.pairs import Pair, write_pairs

HEAVY = ("torch", "timm", "transformers", "onnx")


def lowclip(*arguments: object, stdin: str | bytes | None = None) -> Result:
    """Run the command; anything but a clean exit by click is a failure of the test."""
    result = CliRunner().invoke(main, [str(one) for one in arguments], input=stdin)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def refused(result: Result) -> str:
    """The one sentence of a refusal."""
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


@pytest.fixture
def pairs(tmp_path: Path, photos: dict[str, Path]) -> Path:
    rows = [Pair(f"{word}.png", f"{word} it", "az", "test") for word in COLOURS]
    write_pairs(tmp_path / "pairs.tsv", [*rows, Pair("ağ.png", "qara it", "tr", "test")])
    return tmp_path / "pairs.tsv"


def test_embed_images_of_a_folder(tiny_bundle: Path, photos: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "photos/broken.jpg").write_bytes(b"")
    result = lowclip(
        "embed", "images", tmp_path / "photos", "--bundle", tiny_bundle, "--out", tmp_path / "v.npy"
    )
    assert result.exit_code == 0
    assert "left out: broken.jpg: not an image" in result.stderr
    assert "6 photos embedded, 1 left out" in result.stderr
    assert result.stdout == ""
    assert np.load(tmp_path / "v.npy").shape == (6, 16)
    assert "qırmızı.png" in (tmp_path / "v.npy.ids.txt").read_text("utf-8").splitlines()


def test_embed_images_of_a_list(tiny_bundle: Path, photos: dict[str, Path], tmp_path: Path) -> None:
    listed = f"{photos['ağ']}\r\n\r\n{photos['göy']}\n"
    result = lowclip(
        "embed", "images", "-", "--bundle", tiny_bundle, "--out", tmp_path / "v.npy", stdin=listed
    )
    assert result.exit_code == 0 and "2 photos embedded, 0 left out" in result.stderr
    ids = (tmp_path / "v.npy.ids.txt").read_text("utf-8").splitlines()
    assert ids == [str(photos["ağ"]), str(photos["göy"])]


@pytest.mark.parametrize("source", ["-", "file"])
def test_embed_texts(tiny_bundle: Path, tmp_path: Path, source: str) -> None:
    content = "\ufeffqırmızı it\r\n\nağ qız".encode()
    (tmp_path / "file").write_bytes(content)
    given = "-" if source == "-" else tmp_path / "file"
    result = lowclip(
        "embed", "texts", given, "--bundle", tiny_bundle, "--out", tmp_path / "v.npy", stdin=content
    )
    assert result.exit_code == 0
    assert "left out: line 2: the text is empty" in result.stderr
    assert (tmp_path / "v.npy.ids.txt").read_text("utf-8") == "qırmızı it\nağ qız\n"


def test_text_in_another_encoding_is_left_out(tiny_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "v.npy"
    content = "it\nqırmızı it\n".encode("iso-8859-9")
    result = lowclip("embed", "texts", "-", "--bundle", tiny_bundle, "--out", out, stdin=content)
    assert result.exit_code == 0 and "1 texts embedded, 1 left out" in result.stderr
    assert "not valid UTF-8" in result.stderr
    assert (tmp_path / "v.npy.ids.txt").read_text("utf-8") == "it\n"


def test_embed_refuses_in_one_sentence(tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    target = ("--bundle", tiny_bundle, "--out", tmp_path / "v.npy")
    assert "nothing to embed" in refused(lowclip("embed", "images", tmp_path / "empty", *target))
    assert "no such folder" in refused(lowclip("embed", "images", tmp_path / "gone", *target))
    assert "nothing to embed" in refused(lowclip("embed", "texts", "-", *target, stdin=""))
    assert not (tmp_path / "v.npy").exists()


def test_an_unreadable_gallery_is_exit_one(tiny_bundle: Path, tmp_path: Path) -> None:
    result = lowclip(
        "embed", "images", "-", "--bundle", tiny_bundle, "--out", tmp_path / "v.npy", stdin="gone.jpg\n"
    )
    assert result.exit_code == 1
    assert "left out: gone.jpg: no such file" in result.stderr
    assert "none of the 1 items can be read" in result.stderr


def test_eval_as_json(tiny_bundle: Path, pairs: Path, tmp_path: Path) -> None:
    options = ("--bundle", tiny_bundle, "--pairs", pairs, "--images", tmp_path / "photos")
    result = lowclip("eval", *options, "--lang", "az", "--split", "test", "--json")
    assert result.exit_code == 0
    told = json.loads(result.stdout)
    assert set(told) == {"bundle", "gallery", "queries", "lang", "split", "text_to_image", "image_to_text"}
    assert (told["gallery"], told["queries"], told["lang"], told["split"]) == (6, 6, "az", "test")
    assert told["text_to_image"] == {"R@1": 1.0, "R@5": 1.0, "R@10": 1.0, "mAP": 1.0, "median_rank": 1.0}


def test_eval_for_people_tells_the_gallery_size(tiny_bundle: Path, pairs: Path, tmp_path: Path) -> None:
    result = lowclip("eval", "--bundle", tiny_bundle, "--pairs", pairs, "--images", tmp_path / "photos")
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("text to image")]
    assert line.split() == [
        "text",
        "to",
        "image",
        "6",
        "85.7%",
        "85.7%",
        "100.0%",
        "88.1%",
        "1",
    ]  # 6 firsts, and white is last for "black"


def test_eval_refuses_in_one_sentence(tiny_bundle: Path, pairs: Path, tmp_path: Path) -> None:
    options = ("--bundle", tiny_bundle, "--images", tmp_path)
    assert "qırmızı.png is missing" in refused(lowclip("eval", "--pairs", pairs, *options))
    assert "gone.tsv" in refused(lowclip("eval", "--pairs", tmp_path / "gone.tsv", *options))
    assert "has lang 'xx'" in refused(lowclip("eval", "--pairs", pairs, "--lang", "xx", *options))


def test_info_of_a_bundle(tiny_bundle: Path) -> None:
    told = json.loads(lowclip("info", tiny_bundle, "--json").stdout)
    assert (told["kind"], told["name"], told["dims"]) == ("bundle", "tiny", 16)
    assert told["parity"]["image"]["onnx"]["mean_cosine"] == 1.0
    assert (
        told["bytes"]
        == sum(p.stat().st_size for p in tiny_bundle.rglob("*") if p.is_file())
        - (tiny_bundle / "manifest.json").stat().st_size
    )
    assert "cpu" in told["runtime"]["providers"]
    lines = dict(line.split(maxsplit=1) for line in lowclip("info", tiny_bundle).stdout.splitlines())
    assert lines["name"] == "tiny"
    assert lines["runtime.onnxruntime.onnxruntime"] == told["runtime"]["onnxruntime"]["onnxruntime"]


def test_info_warns_of_wheels_that_overwrite_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "warning" not in describe_runtime()
    both = {"onnxruntime": "1.20", "onnxruntime-gpu": "1.20"}
    monkeypatch.setattr("lowclip_runtime.describe.installed_distributions", lambda: both)
    assert "onnxruntime and onnxruntime-gpu overwrite" in describe_runtime()["warning"]


def test_verify_a_bundle(tiny_bundle: Path, tmp_path: Path) -> None:
    told = json.loads(lowclip("verify", tiny_bundle, "--json").stdout)
    assert told["image_cosine"] > 0.999
    broken = Path(shutil.copytree(tiny_bundle, tmp_path / "broken"))
    with (broken / "README.md").open("r+b") as file:
        file.write(b"!")
    assert "README.md is damaged" in refused(lowclip("verify", broken))


@pytest.mark.parametrize("command", ["info", "verify"])
def test_what_is_neither_bundle_nor_index_is_refused(tmp_path: Path, command: str) -> None:
    assert "neither a bundle nor an index" in refused(lowclip(command, tmp_path))
    assert "neither a bundle nor an index" in refused(lowclip(command, tmp_path / "gone"))


@pytest.mark.parametrize("command", ["info", "verify"])
def test_an_empty_path_is_not_the_shipped_bundle(command: str) -> None:
    assert "the path is empty" in refused(lowclip(command, ""))


def test_info_and_verify_know_an_index(tiny_bundle: Path, photos: dict[str, Path], tmp_path: Path) -> None:
    index = tmp_path / "photos.index"
    with lowclip_runtime.Index.open(index, lowclip_runtime.LowClip.open(tiny_bundle)) as opened:
        opened.add_folder(tmp_path / "photos")
    told = json.loads(lowclip("info", index, "--json").stdout)
    assert (told["kind"], told["photos"], told["bundle_name"]) == ("index", 6, "tiny")
    assert json.loads(lowclip("verify", index, "--json").stdout)["photos"] == 6
    again = json.loads(lowclip("verify", index, "--bundle", tiny_bundle, "--json").stdout)
    assert again["embedded_again"] > 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("eval", "--images", "."),
        ("embed", "images", "."),
        ("embed", "videos"),
        ("embed", "images", ".", "--out", "a.npy", "--batch-size", "0"),
        ("embed", "images", ".", "--out", "a.npy", "--batch-size", "9" * 23),
        ("embed", "texts", "no such file", "--out", "a.npy"),
        ("info", "--no-such-option"),
    ],
)
def test_wrong_usage_is_exit_two(arguments: tuple[str, ...]) -> None:
    assert lowclip(*arguments).exit_code == 2


def test_bundle_goes_only_with_an_index(tiny_bundle: Path) -> None:
    assert lowclip("verify", tiny_bundle, "--bundle", tiny_bundle).exit_code == 2


def test_an_unknown_provider_is_refused(tiny_bundle: Path) -> None:
    assert "'gpu'" in refused(lowclip("verify", tiny_bundle, "--provider", "gpu"))


def test_an_index_is_not_verified_with_an_unknown_provider(
    tiny_bundle: Path, photos: dict[str, Path], tmp_path: Path
) -> None:
    lowclip("index", tmp_path / "photos", "--bundle", tiny_bundle, "--index", tmp_path / "i")
    assert "'gpu'" in refused(lowclip("verify", tmp_path / "i", "--provider", "gpu"))


def loaded_by(code: str) -> set[str]:
    """The top-level modules that a fresh interpreter has loaded after `code`."""
    root = str(Path(lowclip_runtime.__file__).parent.parent)
    shown = f"{code}\nimport sys\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", shown],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": root},
    )
    return set(done.stdout.split())


def test_importing_the_package_loads_nothing_heavy() -> None:
    modules = loaded_by("import lowclip_runtime")
    assert "lowclip_runtime" in modules
    assert not modules & {*HEAVY, "onnxruntime", "numpy", "PIL", "tokenizers"}


def test_using_the_package_loads_no_training_library(tiny_bundle: Path) -> None:
    modules = loaded_by(
        "from lowclip_runtime import Index, LowClip, LowClipError\n"
        f"LowClip.open({str(tiny_bundle)!r}).embed_texts(['it'])\n"
        "import lowclip_runtime.cli"
    )
    assert {"onnxruntime", "tokenizers"} <= modules
    assert not modules & set(HEAVY)


def test_searching_by_text_loads_no_pillow(tiny_bundle: Path, tmp_path: Path) -> None:
    index = str(tmp_path / "index")
    modules = loaded_by(
        "from lowclip_runtime import Index, LowClip\n"
        f"clip = LowClip.open({str(tiny_bundle)!r}, towers=('text',))\n"
        f"with Index.open({index!r}, clip) as index:\n"
        "    assert index.search('it') == []\n"
        "from lowclip_runtime.cli import main\n"
        f"main(['search', 'it', '--index', {index!r}, '--bundle', {str(tiny_bundle)!r}], standalone_mode=False)"
    )
    assert "qdrant_edge" in modules
    assert "PIL" not in modules


def test_help_needs_no_onnxruntime() -> None:
    modules = loaded_by("import lowclip_runtime.cli")
    assert not modules & {*HEAVY, "onnxruntime"}


def test_every_exported_name_is_there() -> None:
    for name in lowclip_runtime.__all__:
        assert getattr(lowclip_runtime, name).__name__ == name
    assert set(lowclip_runtime.__all__) <= set(dir(lowclip_runtime))
    with pytest.raises(AttributeError, match="LowClop"):
        _ = lowclip_runtime.LowClop


def test_the_end_of_a_command_does_not_wait_for_a_search_for_circles() -> None:
    told_last = "import atexit, gc; atexit.register(lambda: print('frozen:', gc.get_freeze_count() > 0))"
    command = "from lowclip_runtime.cli import main; main(['info'])"
    done = subprocess.run(
        [sys.executable, "-c", f"{told_last}; {command}"], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "frozen: True"


def test_lists_of_tables_are_told_line_by_line() -> None:
    told = dict(as_lines({"stages": [{"train": "heads"}, {"train": "all", "epochs": None}], "dims": [1, 2]}))
    stages = {"stages.0.train": "heads", "stages.1.train": "all", "stages.1.epochs": "-"}
    assert told == {**stages, "dims": "1, 2"}
