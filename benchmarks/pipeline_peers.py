"""How other libraries bring a folder of photos to embeddings, with the network of our image tower.

Each peer takes paths and gives (N, D). Those of torch run the network in torch, as they would any; the others get
our int8 graph. Decoding, resizing, batching and threads are theirs.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from PIL import Image

from lowclip_runtime.clip import LowClip
from lowclip_train.torchvision_repair import import_torchvision

Peer = Callable[[Sequence[Path]], NDArray[np.float32]]
_RCLIP_BATCH = 8  # rclip/main.py, default of --indexing-batch-size
_CLIP_RETRIEVAL_BATCH = (
    16  # its default of 256 leaves the processor to one stage at a time in a folder of this size
)


def sentence_transformers(clip: LowClip, threads: int) -> Peer:
    """`SentenceTransformer.encode` of opened images, with a module of ours that holds the network."""
    import_torchvision()
    import timm
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Module
    from transformers import AutoImageProcessor

    class Tower(Module):
        """timm's network behind the image processor that the bundle describes."""

        modalities = ("image",)

        def __init__(self) -> None:
            super().__init__()
            self.processor = AutoImageProcessor.from_pretrained(clip.path)
            self.network = timm.create_model("tf_efficientnet_lite0", num_classes=clip.dims).eval()

        def preprocess(
            self, inputs: list[Image.Image], prompt: str | None = None, **_: Any
        ) -> dict[str, Any]:
            images = [image.convert("RGB") for image in inputs]
            return dict(self.processor(images=images, return_tensors="pt"))

        def forward(self, features: dict[str, Any], **_: Any) -> dict[str, Any]:
            features["sentence_embedding"] = self.network(features["pixel_values"])
            return features

        def save(self, *_: Any, **__: Any) -> None:
            raise NotImplementedError

    torch.set_num_threads(threads)
    model = SentenceTransformer(modules=[Tower()], device="cpu")

    def embed(paths: Sequence[Path]) -> NDArray[np.float32]:
        rows = []
        for start in range(
            0, len(paths), 32
        ):  # `encode` takes opened images; all at once would fill the memory
            images = [Image.open(path) for path in paths[start : start + 32]]
            rows.append(model.encode(images, batch_size=32, normalize_embeddings=True))
        return np.concatenate(rows)

    return embed


def fastembed(clip: LowClip, threads: int, folder: Path, *, parallel: int | None) -> Peer:
    """`ImageEmbedding.embed` with our graph in place of one of its own; `parallel` is its worker processes."""
    from fastembed import ImageEmbedding

    (folder / "onnx").mkdir(parents=True, exist_ok=True)
    graph = clip.path / clip.manifest.image_tower.file
    (folder / "onnx/vision_model.onnx").write_bytes(graph.read_bytes())
    (folder / "preprocessor_config.json").write_bytes((clip.path / "preprocessor_config.json").read_bytes())
    model = ImageEmbedding(
        "jinaai/jina-clip-v1",
        threads=threads if parallel is None else 1,
        specific_model_path=str(folder),
        cuda=False,
    )
    return lambda paths: np.stack(list(model.embed(list(paths), batch_size=16, parallel=parallel)))


def clip_retrieval(clip: LowClip, threads: int) -> Peer:
    """Pillow and torchvision transforms in a torch DataLoader with worker processes, as clip-retrieval reads."""
    from torch.utils.data import DataLoader, Dataset

    class Photos(Dataset):  # type: ignore[type-arg]
        def __init__(self, paths: Sequence[Path]) -> None:
            self.paths, self.transform = paths, pillow_transform(clip)

        def __len__(self) -> int:
            return len(self.paths)

        def __getitem__(self, i: int) -> Any:
            return self.transform(self.paths[i])

    session = plain_session(clip, threads)

    def embed(paths: Sequence[Path]) -> NDArray[np.float32]:
        loader = DataLoader(Photos(paths), batch_size=_CLIP_RETRIEVAL_BATCH, num_workers=threads)
        return np.concatenate([session.run(None, {"pixel_values": batch.numpy()})[0] for batch in loader])

    return embed


def rclip(clip: LowClip, threads: int) -> Peer:
    """One loop that opens, converts, transforms and runs a batch at a time, as rclip indexes."""
    session, transform = plain_session(clip, threads), pillow_transform(clip)

    def embed(paths: Sequence[Path]) -> NDArray[np.float32]:
        rows = []
        for start in range(0, len(paths), _RCLIP_BATCH):
            batch = np.stack([transform(path) for path in paths[start : start + _RCLIP_BATCH]])
            rows.append(session.run(None, {"pixel_values": batch})[0])
        return np.concatenate(rows)

    return embed


def plain_session(clip: LowClip, threads: int) -> ort.InferenceSession:
    """Our graph with onnxruntime's own options but for the threads."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    return ort.InferenceSession(
        str(clip.path / clip.manifest.image_tower.file), options, providers=["CPUExecutionProvider"]
    )


def pillow_transform(clip: LowClip) -> Callable[[Path], NDArray[np.float32]]:
    """Decode in full, resize, normalize: what torchvision's usual transforms do."""
    spec = clip.manifest.preprocess
    mean, std = np.float32(spec.mean), np.float32(spec.std)

    def transform(path: Path) -> NDArray[np.float32]:
        with Image.open(path) as image:
            small = image.convert("RGB").resize((spec.size_px, spec.size_px), Image.Resampling.BICUBIC)
        return ((np.asarray(small, np.float32) / 255 - mean) / std).transpose(2, 0, 1)

    return transform
