"""What a config says of the concepts that its model shall know by name; used by runs of heads alone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lowclip_runtime.errors import ConfigError
from lowclip_train.towers_config import MOST_DIMS


@dataclass(frozen=True, kw_only=True)
class ConceptsConfig:
    """Concepts known by name, see `concepts.py`; those of a source's images are `Source.concepts`.

    Attributes:
        dims: of the embedding, added to those of the checkpoint.
        names: pairs file whose `image` is the number of a class that the image encoder was pretrained on and whose
            caption is a name of it; empty: none of those classes.
        words: pairs file of names of other things, each `image` a thing of which there need not be one; such a name
            finds what looks like classes of similar names. Empty: none.
        looks: which of those classes photos of a thing look like, see `concept_names.read_looks`; what it does not
            tell is guessed from names. Empty: all is.
        image_weights: the pretrained weights with their classifier: `hub`, or a state dict's path.
    """

    dims: int = 96
    names: str = ""
    words: str = ""
    looks: str = ""
    image_weights: str = "hub"

    def __post_init__(self) -> None:
        if not 8 <= self.dims <= MOST_DIMS:
            raise ValueError(f"dims must be in 8..{MOST_DIMS}, not {self.dims}")
        if self.image_weights == "random":
            raise ValueError(
                "image_weights must be hub or a state dict's path, not 'random': an untrained classifier knows no class"
            )
        if self.image_weights != "hub" and not self.names:
            raise ValueError(
                "image_weights are for the classes that names names; give names or leave them out"
            )
        for key, do in (("words", "find"), ("looks", "tell")):
            if getattr(self, key) and not self.names:
                raise ValueError(
                    f"{key} {do} what looks like the classes that names names; give names or leave them out"
                )


def check_concepts(config: ConceptsConfig | None, shown: Sequence[bool], dims: int) -> None:
    """Do these concepts fit the sources of a config, of which `shown` show concepts, and the `dims` of its towers?

    Raises:
        ValueError: they do not.
    """
    if any(shown) and not config:
        raise ValueError("sources.concepts needs a table [concepts], which says how long their code is")
    if any(shown) and all(shown):
        raise ValueError(
            "sources.concepts needs another source without it, of images that show none of these concepts"
        )
    if config and not (any(shown) or config.names):
        raise ValueError("concepts has none: give concepts.names, or a source with concepts = true")
    if config and dims + config.dims > MOST_DIMS:
        raise ValueError(
            f"concepts.dims come beside the {dims} of towers.dims, together at most {MOST_DIMS}, not {config.dims}"
        )


def with_files(config: ConceptsConfig, resolve: Callable[[str], str], base: Path) -> ConceptsConfig:
    """`config` with the paths of its files, which must be there: only `hub` is a name of something else."""
    if not config.names:
        return config
    names = resolve(config.names)
    weights = "hub" if config.image_weights == "hub" else resolve(config.image_weights)
    words, looks = (path and resolve(path) for path in (config.words, config.looks))
    files = (
        ("names", names, None),
        ("words", words, ""),
        ("looks", looks, ""),
        ("image_weights", weights, "hub"),
    )
    for key, path, other in files:
        if path != other and not Path(path).is_file():
            or_hub = ", or hub for timm's own weights" if other == "hub" else ""
            raise ConfigError(
                f"concepts.{key} is {path!r}, but there is no file {base / path}; "
                f"give a path relative to the config{or_hub}"
            )
    return replace(config, names=names, words=words, looks=looks, image_weights=weights)
