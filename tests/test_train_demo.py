"""What the training demo refuses to delete; that it runs is `make train-demo`."""

from pathlib import Path
from unittest import mock

from click.testing import CliRunner

from lowclip_train import train_demo


def test_only_an_earlier_demo_is_removed(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    refused = CliRunner().invoke(train_demo.main, [str(out)])
    assert refused.exit_code == 1 and "holds something else than an earlier demo" in refused.output
    assert (out / "thesis.txt").is_file()
    with mock.patch.object(train_demo, "write_small_text_encoder", side_effect=KeyboardInterrupt):
        for folder in (tmp_path / "new", tmp_path / "new"):
            assert CliRunner().invoke(train_demo.main, [str(folder)]).exit_code == 1
            assert (folder / "config.toml").is_file() and not (folder / "left").exists()
            (folder / "left").touch()
