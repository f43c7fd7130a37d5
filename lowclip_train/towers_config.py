"""What a config says of the two towers to start from; `starting_model.py` makes them."""

from dataclasses import dataclass
from typing import Literal

WEIGHTS_OF_NO_FILE = ("hub", "random")  # values of image_weights; all others are paths
MOST_DIMS = 4096  # of an embedding


@dataclass(frozen=True, kw_only=True)
class Towers:
    """Which encoders to start from.

    Attributes:
        checkpoint: a folder that an earlier run wrote: its weights, projections, tokenizer and text spec are the
            start. In a config file all that it decides may then be left out; what is given must agree.
        image_encoder: timm model name; image_weights: `hub`, `random` or a state dict's path.
        image_frozen_stages: this many first stages keep their weights (-1: the whole encoder).
        class_retention: weight of keeping what the classifier of image_weights says of images (0: it may forget all).
        text_encoder: hub name or local folder (empty: the checkpoint's); text_layers: keep only these of its layers.
        train_token_embeddings: false keeps the pretrained table, which holds words that training never sees.
        projection_hidden: width of a second branch of each residual projection (0: none); a checkpoint's may get wider.
        vocabulary_corpora: text files; where given, the vocabulary is trimmed to what they use before training.
    """

    checkpoint: str = ""
    image_encoder: str
    image_weights: str = "hub"
    image_frozen_stages: int = 0
    class_retention: float = 0.0
    text_encoder: str
    text_layers: tuple[int, ...] = ()
    text_pooling: Literal["mean", "cls"] = "mean"
    train_token_embeddings: bool = True
    vocabulary_corpora: tuple[str, ...] = ()
    dims: int = 256
    projection: Literal["residual", "linear"] = "residual"
    projection_hidden: int = 0
    dropout: float = 0.1

    def __post_init__(self) -> None:
        problems = projection_problems(self.dims, self.projection, self.projection_hidden, self.dropout)
        if self.image_frozen_stages < -1:
            problems.append(f"image_frozen_stages must be -1 or more, not {self.image_frozen_stages}")
        if not 0 <= self.class_retention <= 1000:
            problems.append(f"class_retention must be in 0..1000, not {self.class_retention}")
        elif self.class_retention and self.image_weights == "random":
            problems.append(
                "class_retention is about a pretrained classifier, and image_weights 'random' has none"
            )
        elif self.class_retention and self.image_frozen_stages == -1:
            problems.append(
                "class_retention is for an image encoder that trains; leave it out where all is frozen"
            )
        if min(self.text_layers, default=0) < 0 or len(set(self.text_layers)) < len(self.text_layers):
            problems.append(
                f"text_layers must be numbers of layers, from 0 and each once, not {list(self.text_layers)}"
            )
        decided = {
            "image_weights": "hub",
            "text_layers": (),
            "vocabulary_corpora": (),
            "class_retention": 0.0,
        }
        given = [name for name, default in decided.items() if getattr(self, name) != default]
        if self.checkpoint and given:
            problems.append(f"leave {', '.join(given)} out where checkpoint is given, which decides them")
        if problems:
            raise ValueError("; ".join(problems))


def projection_problems(dims: int, projection: str, hidden: int, dropout: float) -> list[str]:
    """What is wrong with these values of a projection, in a config or in a checkpoint."""
    problems = []
    if not 8 <= dims <= MOST_DIMS:
        problems.append(f"dims must be in 8..{MOST_DIMS}, not {dims}")
    if not 0 <= hidden <= 16384:
        problems.append(f"projection_hidden must be in 0..16384, not {hidden}")
    if hidden and projection == "linear":
        problems.append(
            f"projection_hidden must be 0 where projection is 'linear', which has no branch, not {hidden}"
        )
    if not 0 <= dropout < 1:
        problems.append(f"dropout must be in [0, 1), not {dropout}")
    return problems
