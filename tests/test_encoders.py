"""Encoders by name and by file, cutting them in two, and importing timm beside a torchvision that does not fit."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors.torch import save_file
from tiny_training import write_text_encoder
from tokenizers import Tokenizer as HfTokenizer

from lowclip_runtime.errors import ConfigError
from lowclip_train.dual_teacher import open_teacher
from lowclip_train.encoders import (
    AutoTokenizer,
    build_image_encoder,
    build_text_encoder,
    pretrained_classifier,
    pretrained_image_encoder,
    pretrained_text_encoder,
    text_encoder_config,
    timm,
    tokenizer_file,
)
from lowclip_train.frozen_stages import frozen_features, split_encoder
from lowclip_train.translation.coded_tokenizer import CodedTokenizer
from lowclip_train.translation.engines import TransformersEngine


def test_an_unknown_image_encoder_names_close_ones() -> None:
    with pytest.raises(ConfigError, match="did you mean"):
        build_image_encoder("efficientnet_lite")
    with pytest.raises(ConfigError, match="timm has no image encoder"):
        build_image_encoder("no-such-net")


@pytest.mark.parametrize("name", ["test_efficientnet", "test_vit", "test_mambaout", "mobilenetv3_small_050"])
def test_the_length_of_pooled_features_is_that_of_what_comes_out(name: str) -> None:
    encoder, width = build_image_encoder(name)
    size_px = cast(Any, encoder).default_cfg["input_size"][-1]
    with torch.no_grad():
        assert encoder.eval()(torch.zeros(1, 3, size_px, size_px)).shape == (1, width)


def test_weights_of_another_port_load_in_order(tmp_path: Path) -> None:
    source, _ = build_image_encoder("test_efficientnet")
    foreign = {f"layer.{i:03}": t for i, t in enumerate(source.state_dict().values())}
    torch.save(foreign, tmp_path / "foreign.pth")
    save_file({n: t.contiguous() for n, t in source.state_dict().items()}, tmp_path / "own.safetensors")
    by_name = pretrained_image_encoder("test_efficientnet", str(tmp_path / "own.safetensors"))
    loaded = pretrained_image_encoder("test_efficientnet", str(tmp_path / "foreign.pth"))
    for encoder in (by_name, loaded):
        pairs = zip(source.state_dict().values(), encoder.state_dict().values(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
    with pytest.raises(ConfigError, match="shapes differ"):
        pretrained_image_encoder("test_resnet", str(tmp_path / "foreign.pth"))
    with pytest.raises(ConfigError, match="not a file"):
        pretrained_image_encoder("test_resnet", str(tmp_path / "none.pth"))


def test_a_classifier_comes_from_weights_of_its_own_encoder(tmp_path: Path) -> None:
    model = timm.create_model("test_resnet")
    weights = tmp_path / "resnet.safetensors"
    save_file({n: t.contiguous() for n, t in model.state_dict().items()}, weights)
    classifier = pretrained_classifier("test_resnet", str(weights))
    assert torch.equal(classifier.weight, model.get_classifier().weight)
    with pytest.raises(ConfigError, match=r"not hold the weights of timm's 'test_efficientnet'.*classifier"):
        pretrained_classifier("test_efficientnet", str(weights))
    encoder, _ = build_image_encoder("test_resnet")
    save_file({n: t.contiguous() for n, t in encoder.state_dict().items()}, weights)
    with pytest.raises(
        ConfigError,
        match=f"not hold .* timm's 'test_resnet' with its classifier: .* {len(encoder.state_dict())} tensors",
    ):
        pretrained_classifier("test_resnet", str(weights))
    with pytest.raises(ConfigError, match=r"'random' has no classifier"):
        pretrained_classifier("test_resnet", "random")


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
def test_a_file_that_is_no_state_dict_is_told_in_a_sentence(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"<html>not found</html>" * 100)
    with pytest.raises(ConfigError, match=f"{path} is no state dict"):
        pretrained_image_encoder("test_resnet", str(path))
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ConfigError, match=r"list\.pth is no state dict"):
        pretrained_classifier("test_resnet", str(tmp_path / "list.pth"))


def test_a_damaged_file_of_the_hub_is_told_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an interrupted download leaves it."""
    repository = str(timm.get_pretrained_cfg("test_resnet").hf_hub_id).replace("/", "--")
    folder = tmp_path / f"models--{repository}"
    (folder / "snapshots/1").mkdir(parents=True)
    (folder / "snapshots/1/model.safetensors").write_bytes(b"half")
    (folder / "refs").mkdir()
    (folder / "refs/main").write_text("1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        ConfigError, match=r"weights of 'test_resnet' .* from the hub \(.*header.*\); .* its cache"
    ):
        pretrained_image_encoder("test_resnet", "hub")


def test_a_text_encoder_is_rebuilt_from_its_config(tmp_path: Path) -> None:
    folder = write_text_encoder(tmp_path / "bert", layers=3)
    encoder = pretrained_text_encoder(str(folder), (0, 2))
    rebuilt, width = build_text_encoder(text_encoder_config(encoder))
    rebuilt.load_state_dict(encoder.state_dict())
    ids = torch.tensor([[2, 4, 5, 3]])
    outputs = [e.eval()(input_ids=ids).last_hidden_state for e in (encoder, rebuilt)]
    assert width == 32 and torch.equal(*outputs)
    assert tokenizer_file(str(folder), tmp_path) == folder / "tokenizer.json"


@pytest.mark.parametrize(
    "kind", ["bert", "roberta", "xlm-roberta", "camembert", "electra", "distilbert", "albert"]
)
def test_text_encoders_of_each_family_are_loaded_and_rebuilt(tmp_path: Path, kind: str) -> None:
    """Some take no word on whether to have a pooler."""
    sizes = {"vocab_size": 20, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    build_text_encoder({"model_type": kind, **sizes})[0].save_pretrained(tmp_path)  # type: ignore[operator]
    loaded = pretrained_text_encoder(str(tmp_path))
    rebuilt, width = build_text_encoder(text_encoder_config(loaded))
    rebuilt.load_state_dict(loaded.state_dict())
    assert width == 8


@pytest.mark.parametrize("kind", ["bert", "xlm-roberta", "camembert", "albert"])
def test_a_tokenizer_that_transformers_made_up_is_refused(tmp_path: Path, kind: str) -> None:
    """It is made for a folder without a tokenizer's files, and knows no word."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind, "vocab_size": 20}), "utf-8")
    with pytest.raises(ConfigError, match=r"must know words, but it knows only .*; put the model's own"):
        tokenizer_file(str(tmp_path), tmp_path)
    assert not list(tmp_path.glob("tokenizer*"))
    saved = cast(Any, AutoTokenizer).from_pretrained(str(tmp_path)).backend_tokenizer
    saved.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ConfigError, match="must know words"):
        tokenizer_file(str(tmp_path), tmp_path)


def test_a_vocabulary_of_another_layout_is_converted(tmp_path: Path) -> None:
    folder = write_text_encoder(tmp_path / "bert")
    words = HfTokenizer.from_file(str(folder / "tokenizer.json")).get_vocab()
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_text("\n".join(sorted(words, key=words.__getitem__)), "utf-8")
    converted = tokenizer_file(str(folder), tmp_path)
    assert HfTokenizer.from_file(str(converted)).encode("a red picture").tokens[1:-1] == [
        "a", "red", "picture",
    ]  # fmt: skip


@pytest.mark.parametrize("what", ["another vocabulary", "half a file"])
def test_a_vocabulary_is_converted_anew_where_another_was(tmp_path: Path, what: str) -> None:
    """Else a run whose tokenizer did not fit could not be begun again with the right one, nor after a kill."""
    folder = write_text_encoder(tmp_path / "bert")
    (folder / "tokenizer.json").unlink()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    (folder / "vocab.txt").write_text("\n".join([*special, "red", "picture"]), "utf-8")
    before = tokenizer_file(str(folder), tmp_path)
    if what == "half a file":
        before.write_bytes(before.read_bytes()[:100] + "ə".encode()[:1])
    (folder / "vocab.txt").write_text("\n".join([*special, "picture", "red"]), "utf-8")
    assert HfTokenizer.from_file(str(tokenizer_file(str(folder), tmp_path))).token_to_id("red") == 5


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_an_encoder_with_a_decoder_is_refused(tmp_path: Path, kind: str) -> None:
    sizes = {"vocab_size": 20, "d_model": 16, "num_layers": 1, "encoder_layers": 1, "decoder_layers": 1}
    build_text_encoder({"model_type": kind, **sizes})[0].save_pretrained(tmp_path)  # type: ignore[operator]
    with pytest.raises(ConfigError, match=r"Model, an encoder with a decoder, .* name an encoder"):
        pretrained_text_encoder(str(tmp_path))


@pytest.mark.parametrize(
    "load",
    [
        pretrained_text_encoder,
        lambda folder: tokenizer_file(folder, Path(folder)),
        lambda folder: open_teacher(folder, torch.device("cpu")),
        lambda folder: TransformersEngine(folder, cast(Any, None), "cpu"),
        lambda folder: CodedTokenizer(folder, ("en", "az"), (None, None), strict=True),
    ],
)
def test_code_that_comes_with_a_model_is_never_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, load: Callable[[str], object]
) -> None:
    """transformers asks on the terminal whether it shall be; a yes, as from `yes |`, is not ours to take."""
    monkeypatch.setattr("builtins.input", lambda _question: "y")
    (tmp_path / "mystery.py").write_text(f"open({str(tmp_path / 'was run')!r}, 'w').close()\n", "utf-8")
    classes = ("AutoConfig", "AutoModel", "AutoModelForSeq2SeqLM", "AutoTokenizer", "AutoProcessor")
    foreign = {"auto_map": {name: f"mystery.{name}" for name in classes}}
    foreign["auto_map"]["AutoTokenizer"] = ["mystery.Slow", "mystery.Fast"]  # type: ignore[assignment]
    for name, of in (("config.json", "model_type"), ("tokenizer_config.json", "tokenizer_class")):
        (tmp_path / name).write_text(json.dumps({of: "mystery", **foreign}), "utf-8")
    with pytest.raises(ConfigError, match="comes with Python code of its own, which is never run"):
        load(str(tmp_path))
    assert not (tmp_path / "was run").exists()


def test_layers_that_are_not_there(tmp_path: Path) -> None:
    folder = write_text_encoder(tmp_path / "bert")
    with pytest.raises(ConfigError, match="names layer 7, but the encoder has 2"):
        pretrained_text_encoder(str(folder), (0, 7))
    with pytest.raises(ConfigError, match="no text encoder could be loaded"):
        pretrained_text_encoder(str(tmp_path / "nothing"))


@pytest.mark.parametrize("name", ["test_efficientnet", "test_resnet"])
@pytest.mark.parametrize("frozen_stages", [0, 1, 2, -1])
def test_the_two_parts_are_the_whole(name: str, frozen_stages: int) -> None:
    encoder, _ = build_image_encoder(name)
    encoder.eval()
    pixel_values = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = encoder(pixel_values)
        split = split_encoder(encoder, frozen_stages)
        parts = split.tail(frozen_features(split.frozen, pixel_values))
    torch.testing.assert_close(
        parts, whole, atol=1e-5, rtol=1e-5
    )  # another memory format, another summation order
    frozen = {id(p) for p in split.frozen.parameters()}
    assert all(p.requires_grad == (id(p) not in frozen) for p in encoder.parameters())


def test_a_family_that_cannot_be_cut_says_so() -> None:
    encoder, _ = build_image_encoder("test_vit")
    with pytest.raises(ConfigError, match="cannot be frozen in part"):
        split_encoder(encoder, 1)


_FAKE_TORCHVISION = """
import torch
@torch.library.register_fake("torchvision::made_up")
def meta(x): return x
VALUE = 42
"""


def _import_beside(torchvision: Path, program: str) -> subprocess.CompletedProcess[str]:
    code = f"import sys; sys.path.insert(0, {str(torchvision)!r}); {program}"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_missing_operators_are_declared_only_where_the_import_fails(tmp_path: Path) -> None:
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text("from torchvision._meta_registrations import VALUE\n")
    (package / "_meta_registrations.py").write_text(_FAKE_TORCHVISION)
    program = (
        "from lowclip_train.torchvision_repair import import_torchvision, _declarations; "
        "import_torchvision(); import torchvision; print(torchvision.VALUE, len(_declarations))"
    )
    assert _import_beside(tmp_path, program).stdout.split() == ["42", "1"]
    (package / "_meta_registrations.py").write_text("VALUE = 7\n")  # one that fits: nothing is declared
    assert _import_beside(tmp_path, program).stdout.split() == ["7", "0"]


def test_another_failure_of_torchvision_is_not_hidden(tmp_path: Path) -> None:
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('something else')\n")
    program = "from lowclip_train.torchvision_repair import import_torchvision; import_torchvision()"
    assert "something else" in _import_beside(tmp_path, program).stderr
