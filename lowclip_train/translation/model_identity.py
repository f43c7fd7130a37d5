"""What a model is, by its content: a copied or renamed folder keeps its cache, a retrained one does not."""

import hashlib
from pathlib import Path

from lowclip_runtime.files import sha256_of

_SUFFIXES = {".json", ".safetensors", ".bin", ".model", ".spm", ".txt"}


def folder_identity(folder: Path) -> str:
    """Hash of the names and contents of all weights, configs and tokenizer files of a model folder."""
    files = [path for path in sorted(folder.iterdir()) if path.is_file() and path.suffix in _SUFFIXES]
    described = "\n".join(f"{sha256_of(path)} {path.name}" for path in files)
    return f"sha256:{hashlib.sha256(described.encode()).hexdigest()}"
