"""Providers that are missing or do not start, and the cores that a container really gives."""

import os
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from lowclip_runtime.clip import LowClip
from lowclip_runtime.cores import available_cores
from lowclip_runtime.errors import BundleError, ProviderError
from lowclip_runtime.openvino_options import openvino_options
from lowclip_runtime.providers import available_providers, check_provider, installed_distributions
from lowclip_runtime.session import TowerSession, session_options

REAL_SESSION = ort.InferenceSession
CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"


def offer(monkeypatch: pytest.MonkeyPatch, *providers: str) -> None:
    """Let onnxruntime say that it was built with `providers`."""
    monkeypatch.setattr(ort, "get_available_providers", lambda: list(providers))
    monkeypatch.setattr(ort, "preload_dlls", lambda: None, raising=False)


def cuda_does_not_start(path: str, options: Any, providers: list[str], **_: Any) -> Any:
    """onnxruntime's own behaviour where the CUDA libraries are missing: it goes on with the CPU."""
    return REAL_SESSION(path, options, providers=[one for one in providers if one == CPU])


@pytest.mark.parametrize(
    ("provider", "how"),
    [
        ("cuda", "onnxruntime-gpu"),
        ("tensorrt", "tensorrt"),
        ("openvino", "onnxruntime-openvino"),
        ("coreml", "macOS"),
    ],
)
def test_a_provider_that_is_not_installed_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tiny_bundle: Path, provider: str, how: str
) -> None:
    offer(monkeypatch, CPU)
    with pytest.raises(ProviderError, match=rf"{provider}.*available here: cpu.*{how}"):
        LowClip.open(tiny_bundle, provider)


def test_a_session_checks_its_provider_itself(monkeypatch: pytest.MonkeyPatch, tiny_bundle: Path) -> None:
    offer(monkeypatch, CPU)
    with pytest.raises(ProviderError, match="'cuda' is not installed"):
        TowerSession(tiny_bundle / "onnx/text_model.onnx", "cuda")


def test_an_unknown_provider_names_the_known(tiny_bundle: Path) -> None:
    with pytest.raises(
        ProviderError, match=r"'gpu'; use one of cpu, cuda, tensorrt, openvino, coreml or auto"
    ):
        LowClip.open(tiny_bundle, "gpu")


def test_a_provider_that_does_not_start_is_no_silent_cpu_run(
    monkeypatch: pytest.MonkeyPatch, tiny_bundle: Path
) -> None:
    offer(monkeypatch, CUDA, CPU)
    monkeypatch.setattr(ort, "InferenceSession", cuda_does_not_start)
    with pytest.raises(ProviderError, match=r"'cuda' is installed but does not start"):
        LowClip.open(tiny_bundle, "cuda").embed_texts(["it"])


def test_a_provider_that_fails_tells_its_reason(monkeypatch: pytest.MonkeyPatch, tiny_bundle: Path) -> None:
    def fail(*_: Any, enable_fallback: int = 1, **__: Any) -> Any:
        assert not enable_fallback, "onnxruntime would print a banner and run on the CPU"
        raise RuntimeError("libcudart.so.12: cannot open shared object file\nmore")

    offer(monkeypatch, CUDA, CPU)
    monkeypatch.setattr(ort, "InferenceSession", fail)
    with pytest.raises(
        ProviderError, match=r"does not start on this machine \(libcudart\.so\.12: cannot open"
    ):
        LowClip.open(tiny_bundle, "cuda").embed_texts(["it"])


def test_auto_goes_on_to_what_starts(monkeypatch: pytest.MonkeyPatch, tiny_bundle: Path) -> None:
    offer(monkeypatch, CUDA, CPU)
    monkeypatch.setattr(ort, "InferenceSession", cuda_does_not_start)
    clip = LowClip.open(tiny_bundle, "auto")
    clip.embed_texts(["it"])
    assert clip.text_session.provider == "cpu"


def test_our_names_of_what_is_built_in(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, "OpenVINOExecutionProvider", "AzureExecutionProvider", CPU)
    assert available_providers() == ["cpu", "openvino"]
    check_provider("openvino")


def test_the_installed_distribution_is_named() -> None:
    assert ort.__version__ in installed_distributions().values()


def test_a_missing_graph_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"gone\.onnx is missing"):
        TowerSession(tmp_path / "gone.onnx")


def test_a_session_opened_ahead_is_opened_once(monkeypatch: pytest.MonkeyPatch, tiny_bundle: Path) -> None:
    opened = []

    def told(path: str, *arguments: Any, **options: Any) -> Any:
        opened.append(path)
        return REAL_SESSION(path, *arguments, **options)

    feed = {"input_ids": np.array([[1, 2]]), "attention_mask": np.array([[1, 1]])}
    as_ever = TowerSession(tiny_bundle / "onnx/text_model.onnx", threads=2).run("text_embeds", feed)
    monkeypatch.setattr(ort, "InferenceSession", told)
    session = TowerSession(tiny_bundle / "onnx/text_model.onnx", threads=2)
    session.open_ahead()
    np.testing.assert_array_equal(session.run("text_embeds", feed), as_ever)
    session.open_ahead()
    assert opened == [str(tiny_bundle / "onnx/text_model.onnx")]


def test_without_a_thread_the_run_opens_the_session(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Thread) -> None:
        raise RuntimeError("can't start new thread")

    session = TowerSession(tiny_bundle / "onnx/text_model.onnx", threads=2)
    with monkeypatch.context() as patch:
        patch.setattr(Thread, "start", refuse)
        session.open_ahead()
    feed = {"input_ids": np.array([[1, 2]]), "attention_mask": np.array([[1, 1]])}
    assert session.run("text_embeds", feed).shape[0] == 1


def test_what_fails_ahead_is_told_by_the_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no graph")
    session = TowerSession(broken, threads=2)
    session.open_ahead()
    with pytest.raises(BundleError, match="cannot open"):
        session.run("text_embeds", {"input_ids": np.array([[1]])})
    assert capfd.readouterr().err == ""


def test_the_wrong_shape_is_one_sentence(tiny_bundle: Path) -> None:
    session = TowerSession(tiny_bundle / "onnx/vision_model.onnx")
    with pytest.raises(BundleError, match=r"does not run on pixel_values \(1, 4, 8, 8\)"):
        session.run("image_embeds", {"pixel_values": np.zeros((1, 4, 8, 8), np.float32)})


@pytest.mark.parametrize("spin_us", [0, 50, 1000])
def test_spinning_and_threads_change_nothing(tiny_bundle: Path, spin_us: int) -> None:
    pixel_values = np.random.default_rng(0).normal(size=(3, 3, 32, 32)).astype(np.float32)
    runs = [
        TowerSession(tiny_bundle / "onnx/vision_model.onnx", threads=threads, spin_us=spin_us).run(
            "image_embeds", {"pixel_values": pixel_values}
        )
        for threads in (1, 3)
    ]
    np.testing.assert_allclose(runs[0], runs[1], atol=1e-6)


def write(root: Path, path: str, content: str) -> None:
    """A file of a pretended `/proc` or `/sys`."""
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(content)


@pytest.fixture
def many_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that lets this process run on 16 cores."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)


@pytest.mark.usefixtures("many_cores")
@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 16),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, 16),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"}, 2),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "10000 100000\n"}, 1),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "9900000 100000\n"}, 16),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/cpu.max": "300000 100000\n"}, 3),
        ({"proc/self/cgroup": "0::/on/the/host\n", "sys/fs/cgroup/cpu.max": "400000 100000\n"}, 4),
        (
            {
                "proc/self/cgroup": "4:cpuset:/\n3:cpu,cpuacct:/x\n",
                "sys/fs/cgroup/cpu/x/cpu.cfs_quota_us": "500000\n",
                "sys/fs/cgroup/cpu/x/cpu.cfs_period_us": "100000\n",
            },
            5,
        ),
        (
            {
                "proc/self/cgroup": "1:cpu:/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            16,
        ),
    ],
)
def test_cores_by_affinity_and_quota(tmp_path: Path, files: dict[str, str], cores: int) -> None:
    for path, content in files.items():
        write(tmp_path, path, content)
    assert available_cores(tmp_path) == cores


def test_affinity_alone_limits_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5}, raising=False)
    write(tmp_path, "proc/self/cgroup", "0::/\n")
    write(tmp_path, "sys/fs/cgroup/cpu.max", "800000 100000\n")
    assert available_cores(tmp_path) == 2


def test_bound_inputs_and_outputs_give_what_a_plain_run_gives(
    monkeypatch: pytest.MonkeyPatch, tiny_bundle: Path
) -> None:
    """The path of GPU providers, here on the CPU."""
    session = TowerSession(tiny_bundle / "onnx/vision_model.onnx")
    pixel_values = np.random.default_rng(0).normal(size=(3, 3, 32, 32)).astype(np.float32)
    for feed in (pixel_values, np.asfortranarray(pixel_values), pixel_values[::-1]):
        plain = session.run("image_embeds", {"pixel_values": feed})
        with monkeypatch.context() as patched:
            patched.setattr(TowerSession, "_is_on_gpu", True)
            bound = session.run("image_embeds", {"pixel_values": feed})
            with pytest.raises(BundleError, match=r"does not run on pixel_values \(1, 4, 8, 8\)"):
                session.run("image_embeds", {"pixel_values": np.zeros((1, 4, 8, 8), np.float32)})
        np.testing.assert_array_equal(bound, plain)


def test_provider_options_go_to_the_provider_that_was_named(
    monkeypatch: pytest.MonkeyPatch, tiny_bundle: Path
) -> None:
    asked: list[Any] = []

    def told(*_: Any, providers: Any, **__: Any) -> Any:
        asked.append(providers)
        raise RuntimeError("no device")

    offer(monkeypatch, CUDA, CPU)
    monkeypatch.setattr(ort, "InferenceSession", told)
    with pytest.raises(ProviderError, match="no device"):
        LowClip.open(tiny_bundle, "cuda", provider_options={"device_id": "1"}).embed_texts(["it"])
    assert asked == [[(CUDA, {"device_id": "1"}), CPU]]
    with pytest.raises(ProviderError, match="name it instead of 'auto'"):
        LowClip.open(tiny_bundle, "auto", provider_options={"device_id": "1"}).embed_texts(["it"])


@pytest.mark.parametrize(
    ("version", "given", "asked"),
    [
        ("1.24.1", None, openvino_options(3, 1)),
        ("1.24.1", {"device_type": "GPU"}, {"device_type": "GPU"}),
        ("1.23.0", None, {}),
    ],
)
def test_openvino_is_told_precision_and_threads_unless_the_user_tells_it_something(
    monkeypatch: pytest.MonkeyPatch,
    tiny_bundle: Path,
    version: str,
    given: dict[str, str] | None,
    asked: dict[str, str],
) -> None:
    seen: list[Any] = []

    def told(*_: Any, providers: Any, **__: Any) -> Any:
        seen.append(providers[0])
        raise RuntimeError("no device")

    offer(monkeypatch, "OpenVINOExecutionProvider", CPU)
    monkeypatch.setattr(ort, "__version__", version)
    monkeypatch.setattr(ort, "InferenceSession", told)
    with pytest.raises(ProviderError, match="no device"):
        LowClip.open(tiny_bundle, "openvino", threads=3, provider_options=given).embed_texts(["it"])
    assert seen == [("OpenVINOExecutionProvider", asked)]


@pytest.mark.parametrize(("version", "spins"), [("1.25.3", "0"), ("1.26.0", "1"), ("2.0.1", "1")])
def test_threads_spin_only_where_it_can_be_bounded(
    monkeypatch: pytest.MonkeyPatch, version: str, spins: str
) -> None:
    monkeypatch.setattr(ort, "__version__", version)
    asked = session_options(2, 50).get_session_config_entry("session.intra_op.allow_spinning")
    never = session_options(2, 0).get_session_config_entry("session.intra_op.allow_spinning")
    assert (asked, never) == (spins, "0")
