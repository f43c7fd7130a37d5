"""Concepts known by name: how they are seen, named and coded, and what a model with them gives."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lowclip_runtime.errors import ConfigError, DatasetError
from lowclip_runtime.pairs import Pair, write_pairs
from lowclip_train.captions import Caption, CaptionedImage
from lowclip_train.concepts import ConceptSizes, ImageConcepts
from lowclip_train.encoders import pretrained_classifier
from lowclip_train.known_concepts import (
    add_concepts,
    coded,
    discriminant,
    learned_concepts,
    no_discriminant,
    read_class_names,
)
from lowclip_train.model import DualEncoder, ModelConfig

_TEXT = {"model_type": "bert", "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
         "intermediate_size": 64, "vocab_size": 20}  # fmt: skip


def _clusters(generator: torch.Generator, count: int = 6, images: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    """Images of concepts that lie apart in a few directions, in three views, and images of none of them."""
    means = 4 * torch.eye(count, 24)
    concepts = torch.arange(count).repeat(images)
    features = means[concepts][:, None] + torch.randn(len(concepts), 3, 24, generator=generator)
    return features, concepts, torch.randn(400, 24, generator=generator) - 2


def test_a_discriminant_tells_concepts_apart_and_from_all_else() -> None:
    generator = torch.Generator().manual_seed(0)
    layer = discriminant(*_clusters(generator))
    features, concepts, others = _clusters(generator)  # other images of the same
    logits = layer(features[:, 0])
    assert (logits.argmax(1) == concepts).float().mean() > 0.9
    assert (layer(others).argmax(1) == 6).float().mean() > 0.95


def test_codes_of_concepts_that_share_a_name_are_alike() -> None:
    names = [["German shepherd", "dog"], ["poodle", "dog"], ["tabby", "cat"], ["lynx", "cat"], ["dog"]]
    flat = dict.fromkeys(n for of_one in names for n in of_one)
    features = {name: torch.randn(8) for name in flat}
    named = coded(names, features, 4096, seed=0)
    alike = named.concept_codes @ named.concept_codes.T
    assert alike[0, 1] > 0.15 > 0.1 > alike[0, 2:4].abs().max() and alike[2, 3] > 0.15
    torch.testing.assert_close(named.concept_codes.norm(dim=1), torch.ones(5))
    dog = named.concept_codes @ named.name_codes[list(flat).index("dog")]
    assert dog.sort(descending=True).indices[:3].sort().values.tolist() == [0, 1, 4]
    assert torch.equal(coded(names, features, 4096, seed=0).concept_codes, named.concept_codes)


def _model() -> DualEncoder:
    torch.manual_seed(0)
    return DualEncoder(ModelConfig(image_encoder="test_efficientnet", text_encoder=_TEXT, dims=16)).eval()


def _with_concepts(
    model: DualEncoder, told_apart: torch.nn.Linear, names: Sequence[Sequence[str]]
) -> dict[str, Tensor]:
    """`model` gets to know them; returns the text features that their names have."""
    flat = list(dict.fromkeys(n for of_one in names for n in of_one))
    features = dict(
        zip(flat, torch.randn(len(flat), 32, generator=torch.Generator().manual_seed(1)), strict=True)
    )
    add_concepts(model, 48, None, told_apart, coded(names, features, 48, seed=0))
    return features


def _told_apart(width: int, count: int) -> torch.nn.Linear:
    layer = torch.nn.Linear(width, count + 1)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(count + 1, width))
        layer.bias.zero_()
    return layer


def test_images_and_names_of_a_concept_meet_and_other_texts_meet_none() -> None:
    model = _model()
    width = model.image_tower.projection.project.in_features  # type: ignore[union-attr]
    names = [["dog", "hound"], ["cat"], ["ship"]]
    features = _with_concepts(model, _told_apart(width, 3), names)
    images = model.image_tower.embed_pooled(20 * torch.eye(4, width))  # the last shows none of them
    queries = torch.stack([*features.values()])
    texts = model.text_tower.embed_pooled(queries)
    torch.testing.assert_close(images.norm(dim=1), torch.ones(4))
    torch.testing.assert_close(texts.norm(dim=1), torch.ones(4))
    meet = texts[:, 16:] @ images[:3, 16:].T
    assert meet.argmax(1).tolist() == [0, 0, 1, 2]
    assert meet.max(1).values.min() > 0.45  # of 0.5, which two equal codes would have
    other = model.text_tower.embed_pooled(torch.randn(5, 32, generator=torch.Generator().manual_seed(9)))
    assert other[:, 16:].norm(dim=1).max() < 0.1


def test_what_is_none_of_the_learned_concepts_is_shared_among_the_pretrained_classes() -> None:
    seen = ImageConcepts(4, ConceptSizes(pretrained=2, learned=1, names=3, dims=3))
    with torch.no_grad():
        seen.classify.weight.copy_(
            10 * torch.tensor([[0, 1, 0, 0], [0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
        )
        seen.classify.bias.zero_()
        seen.codes.weight.copy_(torch.eye(3))
        seen.codes.bias.zero_()
    features = torch.tensor(
        [[1.0, 1, 0, 0], [0, 1, 0, 1], [0, 0, 1, 1]]
    )  # learned; the first class; the second
    assert seen(features).argmax(1).tolist() == [2, 0, 1]
    even = seen(torch.tensor([[0.0, 1, 1, 1]]))
    torch.testing.assert_close(even[0, :2], torch.full((2,), 0.5**0.5), rtol=1e-2, atol=1e-2)


def test_pretrained_classes_alone_are_known_too() -> None:
    model = _model()
    width = model.image_tower.projection.project.in_features  # type: ignore[union-attr]
    classifier = torch.nn.Linear(width, 5)
    names = [[f"class {k}"] for k in range(5)]
    features = {name: torch.randn(32) for (name,) in names}
    add_concepts(model, 32, classifier, no_discriminant(width), coded(names, features, 32, seed=0))
    pooled = 10 * torch.randn(40, width)
    meet = (
        model.image_tower.embed_pooled(pooled)[:, 16:]
        @ model.text_tower.embed_pooled(torch.stack([*features.values()]))[:, 16:].T
    )
    assert (meet.argmax(1) == classifier(pooled).argmax(1)).float().mean() > 0.9
    # the config alone rebuilds it
    again = DualEncoder(model.config)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.eval().image_tower.embed_pooled(pooled), model.image_tower.embed_pooled(pooled))
    with pytest.raises(ConfigError, match="knows concepts already"):
        add_concepts(model, 32, classifier, no_discriminant(width), coded(names, features, 32, seed=0))


def _image(name: str, concept: str, *captions: str) -> CaptionedImage:
    texts = [Caption(caption, caption, (), concept) for caption in captions]
    return CaptionedImage(Path(name), "", {"az": texts[:1], "en": texts[1:]})


def test_images_that_share_a_caption_id_show_one_concept() -> None:
    images = [
        _image("photo.jpg", "", "bir it qaçır"),
        _image("one/dog.png", "u1", "it", "dog"),
        _image("one/cat.png", "u2", "pişik", "cat"),
        _image("two/dog.png", "u1", "it", "hound"),
    ]
    learned = learned_concepts(images, [1, 2, 3])
    assert learned.of_row == {1: 0, 2: 1, 3: 0}
    assert learned.names == [["it", "dog", "hound"], ["pişik", "cat"]]
    with pytest.raises(ConfigError, match="no two of these 2 images do; leave it out"):
        learned_concepts(images, [1, 2])


def test_bad_class_names_are_refused_in_one_sentence(tmp_path: Path) -> None:
    names = tmp_path / "names.tsv"
    write_pairs(names, [Pair("0", "it", "az"), Pair("2", "pişik", "az")])
    with pytest.raises(
        ConfigError, match="names 2 of the classifier's 3 classes; the first without a name is 1"
    ):
        read_class_names(names, 3)
    write_pairs(names, [Pair("dog", "it", "az")])
    with pytest.raises(DatasetError, match="image must be the number of a class, 0 to 2, not 'dog'"):
        read_class_names(names, 3)
    with pytest.raises(ConfigError, match="no image encoder named"):
        pretrained_classifier("test_efficientet", "hub")


def test_the_shipped_names_are_of_every_class() -> None:
    path = Path(__file__).parent.parent / "lowclip_train/labels/imagenet1k.tsv"
    assert all(len(of_class) >= 2 for of_class in read_class_names(path, 1000))


def test_sizes_that_mean_no_concepts_are_refused() -> None:
    with pytest.raises(ValueError, match="there must be a concept"):
        ConceptSizes(pretrained=0, learned=0, names=1, dims=8)
    with pytest.raises(ValueError, match="dims must be more than the concepts' 16"):
        ModelConfig(
            image_encoder="test_efficientnet", text_encoder=_TEXT, dims=16,
            concepts=ConceptSizes(pretrained=1, learned=0, names=1, dims=16),
        )  # fmt: skip
