"""Training configs: every problem at once, and paths beside the file."""

import shutil
from pathlib import Path

import pytest
from tiny_checkpoint import write_tiny_checkpoint

from lowclip_runtime.errors import ConfigError
from lowclip_train.config import load_config
from lowclip_train.shipped_recipe import CLASS_NAMES, CONFIGS, LOOKS, WORDS

_GOOD = """
name = "n"
licence = "l"
[towers]
image_encoder = "resnet50"
text_encoder = "bert-base-multilingual-cased"
[[sources]]
dataset = "data"
"""


def test_paths_beside_the_config_are_resolved_and_hub_names_are_not(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "c.toml").write_text(_GOOD, "utf-8")
    config = load_config(tmp_path / "c.toml")
    assert config.sources[0].dataset == str(tmp_path / "data")
    assert config.towers.text_encoder == "bert-base-multilingual-cased"
    assert config.towers.image_weights == "hub"


def test_folders_take_no_keyword_of_weights(tmp_path: Path) -> None:
    for name in ("hub", "random", "hub.pth"):
        (tmp_path / name).mkdir()
    for weights, found in (("hub", "hub"), ("random", "random"), ("hub.pth", str(tmp_path / "hub.pth"))):
        given = _GOOD.replace("[towers]\n", f"[towers]\nimage_weights = '{weights}'\n")
        (tmp_path / "c.toml").write_text(given, "utf-8")
        assert load_config(tmp_path / "c.toml").towers.image_weights == found


def test_a_config_is_the_same_by_whatever_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a run would not be resumed: its fingerprint holds the paths of what its config names."""
    (tmp_path / "data").mkdir()
    (tmp_path / "c.toml").write_text(_GOOD, "utf-8")
    monkeypatch.chdir(tmp_path)
    names = (tmp_path / "c.toml", "c.toml", "data/../c.toml", f"../{tmp_path.name}/c.toml")
    assert len({load_config(name) for name in names}) == 1


def test_a_dataset_is_named_once(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to("data")
    for name in ("data", "./data", "link"):
        (tmp_path / "c.toml").write_text(f"{_GOOD}[[sources]]\ndataset = '{name}'\n", "utf-8")
        with pytest.raises(ConfigError, match=r"sources\[0\] and sources\[1\] are the same dataset, .*share"):
            load_config(tmp_path / "c.toml")


def test_a_byte_order_mark_is_no_part_of_a_config(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(_GOOD, "utf-8-sig")
    assert load_config(tmp_path / "c.toml").name == "n"


def test_all_problems_are_reported_at_once(tmp_path: Path) -> None:
    bad = _GOOD.replace("image_encoder", "image_encodr") + "[schedule]\nepochs = 0\nbatch_size = 'many'\n"
    (tmp_path / "c.toml").write_text(bad, "utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "c.toml")
    message = str(caught.value)
    assert "did you mean 'image_encoder'" in message
    assert "missing key 'towers.image_encoder'" in message
    assert "schedule.batch_size must be a whole number" in message


def test_nan_and_misspelt_keys_hide_no_other_problem(tmp_path: Path) -> None:
    bad = "[schedule]\nepoch = 3\nbatch_size = 0\nsave_every_s = inf\n[augment]\nnoise_std = 3\n"
    (tmp_path / "c.toml").write_text(_GOOD + bad, "utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "c.toml")
    for problem in ("unknown key 'schedule.epoch'", "batch_size must", "noise_std must", "save_every_s must"):
        assert str(caught.value).count(problem) == 1


@pytest.mark.parametrize(
    ("addition", "reason"),
    [
        ("[schedule]\nimage_views = 2\n", "image_frozen_stages must not be 0"),
        ("[schedule]\nepochs = 0\n", "epochs must be 1 or more"),
        ("[schedule]\nlayer_decay = 0\nema_decay = 1.0\n", r"layer_decay must be in \(0, 1\].*ema_decay"),
        ("[schedule]\nprecision = 'fp8'\n", "one of 'fp32', 'bf16', 'fp16'"),
        ("[objective]\nhardness = -1\n", "hardness must be 0 or more"),
        ("[objective]\nhardness = 1\nloss = 'siglip'\n", "0 unless loss is 'info_nce'"),
        (
            "[[stages]]\ntrain = 'heads'\nepochs = 1\n[distillation]\nteacher = 'e5'\n",
            "distillation moves the text encoder, which no stage trains",
        ),
        ("[augment]\ncrop_min_area = 1.5\n", "crop_min_area"),
        ("[text]\nlowercase = 'turkish'\n", "one of 'none', 'azerbaijani'"),
        ("[schedule]\nseed = -1\nweight_decay = -5.0\n", "seed must be 0 or more, not -1; weight_decay"),
        (f"[schedule]\nseed = {2**63}\n", f"seed must be at most {2**63 - 1}, not {2**63}"),
        ("[schedule]\nsave_every_s = -1\n", r"save_every_s must be 0 or more, not -1"),
        ("[[sources]]\ndataset = ' '\n", r"sources\[1\]: dataset must be a folder .*, not empty"),
        (
            "[distillation]\nteacher = ''\nparallel_batch_size = 0\nweight = -1\n",
            "distillation: teacher must be .*, not empty; parallel_batch_size must be 1 or more, not 0; weight must",
        ),
        ("[schedule]\nlearning_rate_text = -0.1\n", r"learning_rate_text must be 0 or more, not -0\.1"),
        (
            "[[stages]]\ntrain = 'all'\nepochs = 1\nlearning_rate_image = -1\n",
            r"stages\[0\]: learning_rate_image must be 0 or more, not -1",
        ),
        ("[schedule]\nsave_every_s = nan\n", r"schedule\.save_every_s must be a finite number, not nan"),
        ("[preprocess]\nmean = [0.5, inf, 0.5]\n", r"preprocess\.mean\[1\] must be a finite number, not inf"),
        ("[[stages]]\nwarm = -inf\n", r"stages\[0\]\.warm must be a finite number, not -inf"),
    ],
)
def test_values_are_checked(tmp_path: Path, addition: str, reason: str) -> None:
    (tmp_path / "c.toml").write_text(_GOOD + addition, "utf-8")
    with pytest.raises(ConfigError, match=reason):
        load_config(tmp_path / "c.toml")


@pytest.mark.parametrize(
    ("towers", "reason"),
    [
        ("dims = 0", r"towers: dims must be in 8\.\.4096, not 0"),
        ("dropout = 1.5", r"dropout must be in \[0, 1\), not 1\.5"),
        ("projection_hidden = -2", r"projection_hidden must be in 0\.\.16384, not -2"),
        ("projection = 'linear'\nprojection_hidden = 8", "must be 0 where projection is 'linear'.*, not 8"),
        ("image_frozen_stages = -2", "image_frozen_stages must be -1 or more, not -2"),
        ("text_layers = [0, -1]", r"text_layers must be numbers of layers, .*, not \[0, -1\]"),
        ("text_layers = [3, 3]", r"text_layers must be .* each once, not \[3, 3\]"),
    ],
)
def test_values_of_towers_are_checked_before_anything_is_loaded(
    tmp_path: Path, towers: str, reason: str
) -> None:
    (tmp_path / "c.toml").write_text(_GOOD.replace("[towers]\n", f"[towers]\n{towers}\n"), "utf-8")
    with pytest.raises(ConfigError, match=reason):
        load_config(tmp_path / "c.toml")


_CONCEPTS = """
name = "n"
licence = "l"
[towers]
image_encoder = "resnet50"
image_frozen_stages = -1
text_encoder = "bert-base-multilingual-cased"
[[sources]]
dataset = "data"
[[stages]]
train = "heads"
epochs = 1
[schedule]
image_views = 1
[concepts]
names = "names.tsv"
image_weights = "weights.pth"
"""


def test_files_of_concepts_are_those_beside_the_config(tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text(_CONCEPTS, "utf-8")
    with pytest.raises(ConfigError, match=rf"concepts\.names is 'names.tsv', .*{tmp_path}/names\.tsv"):
        load_config(config)
    (tmp_path / "names.tsv").touch()
    with pytest.raises(ConfigError, match=r"concepts\.image_weights is 'weights.pth', .* hub"):
        load_config(config)
    (tmp_path / "weights.pth").touch()
    config.write_text(_CONCEPTS + 'words = "words.tsv"\n', "utf-8")
    with pytest.raises(ConfigError, match=r"concepts\.words is 'words.tsv'"):
        load_config(config)
    (tmp_path / "words.tsv").touch()
    found = load_config(config).concepts
    assert found and (found.names, found.words) == (str(tmp_path / "names.tsv"), str(tmp_path / "words.tsv"))
    assert found.image_weights == str(tmp_path / "weights.pth")
    config.write_text(_CONCEPTS + 'looks = "looks.tsv"\n', "utf-8")
    with pytest.raises(ConfigError, match=r"concepts\.looks is 'looks.tsv'"):
        load_config(config)
    (tmp_path / "looks.tsv").touch()
    found = load_config(config).concepts
    assert found and found.looks == str(tmp_path / "looks.tsv")
    config.write_text(_CONCEPTS.replace("weights.pth", "hub"), "utf-8")
    (tmp_path / "hub").mkdir()  # which the keyword does not mean
    found = load_config(config).concepts
    assert found and found.image_weights == "hub"
    config.write_text(_CONCEPTS.replace("weights.pth", "random"), "utf-8")
    with pytest.raises(ConfigError, match=r"concepts: .*'random': .* knows no class"):
        load_config(config)
    config.write_text(_CONCEPTS.split("names =")[0] + 'words = "words.tsv"\n', "utf-8")
    with pytest.raises(ConfigError, match="words find what looks like the classes that names names"):
        load_config(config)
    config.write_text(_CONCEPTS.split("names =")[0] + 'looks = "looks.tsv"\n', "utf-8")
    with pytest.raises(ConfigError, match="looks tell what looks like the classes that names names"):
        load_config(config)


def test_not_toml_and_not_there(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("name = ", "utf-8")
    with pytest.raises(ConfigError, match="not valid TOML"):
        load_config(tmp_path / "c.toml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "none.toml")


def test_the_shipped_configs_load_each_from_the_run_before(tmp_path: Path) -> None:
    configs = Path(__file__).parent.parent / "lowclip_train" / "configs"
    first, *later = [shutil.copy(configs / name, tmp_path) for name in CONFIGS]
    for name in (CLASS_NAMES, WORDS, LOOKS, "efficientnet-lite0.pth"):
        (tmp_path / name).touch()
    towers = load_config(first).towers
    assert (towers.image_encoder, towers.dims) == ("tf_efficientnet_lite0", 160)
    for path, run in zip(later, CONFIGS.values(), strict=False):
        manifest = write_tiny_checkpoint(tmp_path / run / "checkpoint") / "manifest.json"
        manifest.write_text(
            manifest.read_text("utf-8").replace('"dims": 32', f'"dims": {towers.dims}'), "utf-8"
        )
        assert load_config(path).towers.checkpoint == str(tmp_path / run / "checkpoint")
    assert load_config(later[-1]).heads_only
