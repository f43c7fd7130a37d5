"""Names of onnxruntime's providers: ours, which are there, and how to get the others."""

import onnxruntime as ort

from lowclip_runtime.errors import ProviderError

# each name's onnxruntime providers in order; the CPU one takes the few shape operators that are left over
PROVIDERS = {
    "cpu": ("CPUExecutionProvider",),
    "cuda": ("CUDAExecutionProvider", "CPUExecutionProvider"),
    "tensorrt": ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"),
    "openvino": ("OpenVINOExecutionProvider", "CPUExecutionProvider"),
    "coreml": ("CoreMLExecutionProvider", "CPUExecutionProvider"),
}
_NVIDIA = "pip uninstall -y onnxruntime && pip install 'onnxruntime-gpu[cuda,cudnn]'"
_HOW_TO_GET = {
    "cuda": _NVIDIA,
    "tensorrt": f"{_NVIDIA} tensorrt",
    "openvino": "pip uninstall -y onnxruntime && pip install onnxruntime-openvino",
    "coreml": "pip install --force-reinstall onnxruntime (on macOS)",
}
DISTRIBUTIONS = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml")


def available_providers() -> list[str]:
    """Our names of the providers that the installed onnxruntime was built with."""
    built = set(ort.get_available_providers())
    return [name for name, wanted in PROVIDERS.items() if wanted[0] in built]


def installed_distributions() -> dict[str, str]:
    """Which onnxruntime wheels are installed, with versions; more than one overwrite each other's files."""
    from importlib import metadata  # takes 20 ms, which a first answer need not wait for

    found = {}
    for name in DISTRIBUTIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def check_provider(name: str) -> None:
    """Refuse a provider that is unknown or not built into the installed onnxruntime.

    Raises:
        ProviderError: naming what is available and how to get the missing one.
    """
    available = available_providers()
    here = f"available here: {', '.join(available)}"
    if not isinstance(name, str) or name not in (*PROVIDERS, "auto"):
        raise ProviderError(
            f"there is no provider {name!r}; use one of {', '.join(PROVIDERS)} or auto ({here})"
        )
    if name != "auto" and name not in available:
        raise ProviderError(
            f"the provider {name!r} is not installed ({here}); get it with: {_HOW_TO_GET[name]}"
        )
