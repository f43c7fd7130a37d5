"""What `lowclip-train translate` refuses, each in one sentence: foreign and damaged models, full devices."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_training import write_text_encoder
from tiny_translation import pairs_of, run, translate
from tiny_translators import convert_to_ctranslate2

from lowclip_runtime.errors import ConfigError
from lowclip_runtime.pairs import Pair, read_pairs
from lowclip_train.translation.engines import TransformersEngine


def test_refusals_are_one_sentence(tmp_path: Path, nllb: Path) -> None:
    pairs, out = pairs_of(["red dog"], tmp_path / "p.tsv"), tmp_path / "o.tsv"
    encoder = write_text_encoder(tmp_path / "bert")
    languages = ("--from", "en", "--to", "az")
    for arguments, told in (
        ((out, "--model", nllb, *languages, "--target-code", "aze_Latn"), "nearest of its"),
        ((out, "--model", nllb, "--from", "de", "--to", "az"), "no caption with lang 'de' (it has ['en'])"),
        ((out, "--model", tmp_path / "none", *languages), "no tokenizer could be loaded"),
        ((out, "--model", encoder, *languages), "no seq2seq model could be loaded"),
        ((out, "--model", nllb, *languages, "--engine", "ctranslate2"), "not a CTranslate2 folder"),
        (
            (out, "--model", nllb, *languages, "--beams", "0", "--min-similarity", "2"),
            "beams must be 1 or more",
        ),
        ((out, "--model", nllb, *languages, "--device", "cuda:7"), "pass --device cpu"),
        ((tmp_path, "--model", nllb, *languages), "is a folder"),
    ):
        result = run(pairs, *arguments)
        assert result.exit_code == 1 and told in result.output, result.output
        assert "Traceback" not in result.output and not out.exists()
    assert read_pairs(pairs) == [Pair("0.jpg", "red dog", "en", "train", "0#0")]


def test_a_damaged_model_is_told_in_one_sentence(tmp_path: Path, nllb: Path, marian: Path) -> None:
    pairs, out = pairs_of(["red dog"], tmp_path / "p.tsv"), tmp_path / "o.tsv"
    e5 = write_text_encoder(tmp_path / "e5")
    tokens = {**json.loads((nllb / "tokenizer.json").read_text("utf-8")), "model": {"type": "None"}}
    wider = {**json.loads((marian / "config.json").read_text("utf-8")), "d_model": 64}
    judging = ("--model", nllb, "--back-model", nllb, "--min-similarity", "0", "--encoder")
    for model, file, damaged, told, options in (
        (nllb, "model.safetensors", b"<html>", "no seq2seq model could be loaded", ()),
        (marian, "config.json", json.dumps(wider).encode(), "no seq2seq model could be loaded", ()),
        (nllb, "tokenizer.json", json.dumps(tokens).encode(), "no tokenizer could be loaded", ()),
        (marian, "source.spm", b"<html>", "no tokenizer could be loaded", ()),
        (e5, "model.safetensors", b"<html>", "no text encoder could be loaded", judging),
    ):
        broken = Path(shutil.copytree(model, tmp_path / f"{model.name}-{file}"))
        (broken / file).write_bytes(damaged)
        asked = (*options, broken) if options else ("--model", broken)
        result = run(pairs, out, *asked, "--from", "en", "--to", "az")
        assert result.exit_code == 1 and not out.exists()
        sentence = result.output[result.output.index("Error: ") :].strip()
        assert told in sentence and "\n" not in sentence, result.output
    converted = convert_to_ctranslate2(marian, tmp_path / "converted")
    (converted / "model.bin").write_bytes(b"<html>")
    result = run(pairs, out, "--model", converted, "--from", "en", "--to", "az", "--engine", "ctranslate2")
    assert result.exit_code == 1 and "not a model that CTranslate2 can translate with" in result.output


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nSee the documentation"),
        RuntimeError("CUDA failed with error out of memory"),  # as CTranslate2 has it
    ],
)
def test_too_little_memory_is_told_with_the_way_out(
    tmp_path: Path, nllb: Path, error: RuntimeError, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*arguments: Any) -> None:
        raise error

    monkeypatch.setattr(TransformersEngine, "generate", no_room)
    with pytest.raises(
        ConfigError, match=r"2 sentences of up to 4 tokens \(CUDA.*lower --batch-tokens"
    ) as caught:
        translate(["red dog", "blue sea"], nllb, tmp_path)
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(TransformersEngine, "generate", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        translate(["red dog"], nllb, tmp_path)


def test_no_file_is_written_over_that_is_not_the_runs_own(tmp_path: Path, nllb: Path) -> None:
    pairs, out, notes = pairs_of(["red dog"], tmp_path / "p.tsv"), tmp_path / "o.tsv", tmp_path / "notes"
    report = tmp_path / "o.report.json"
    report.write_text('{"forward": 1, "mine": 2}', "utf-8")
    notes.write_text("mine", "utf-8")
    (tmp_path / "linked.tsv").symlink_to(pairs)
    before = {path: path.read_bytes() for path in (pairs, report, notes)}
    for arguments, told in (
        ((pairs,), f"pairs and OUT would both be {pairs}"),
        ((tmp_path / "linked.tsv",), f"pairs and OUT would both be {pairs}"),
        ((tmp_path / "new.tsv", "--cache", pairs), f"pairs and the cache would both be {pairs}"),
        ((tmp_path / "new.tsv", "--cache", notes), f"{notes} is not a translation cache"),
        ((tmp_path / "new.tsv", "--cache", tmp_path / "new.tsv"), "OUT and the cache would both be"),
        (
            (tmp_path / "new.tsv", "--cache", tmp_path / "new.report.json"),
            "its report and the cache would both",
        ),
        ((out,), f"would replace {report}, which is no report of o.tsv"),
    ):
        result = run(pairs, *arguments, "--model", nllb, "--from", "en", "--to", "az", "--overwrite")
        assert result.exit_code == 1 and told in result.output, result.output
        assert {path: path.read_bytes() for path in before} == before and not out.exists()
    report.unlink()
    for _ in range(2):  # its own report and cache are no others'
        assert run(pairs, out, "--model", nllb, "--from", "en", "--to", "az", "--overwrite").exit_code == 0
    assert "already_translated" in report.read_text("utf-8")
