"""Concepts known by name: how they are seen and coded, and what a model with them gives."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from lowclip_runtime.errors import ConfigError
from lowclip_train.concept_codes import coded
from lowclip_train.concept_names import ConceptNames
from lowclip_train.concepts import ConceptSizes, ImageConcepts
from lowclip_train.known_concepts import add_concepts, discriminant, no_discriminant
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


_UNSEEN = torch.zeros(0, 0)  # photos, where there is no pretrained class


def _names(concepts: Sequence[Sequence[str]], others: Sequence[str] = ()) -> ConceptNames:
    """All of them English."""
    return ConceptNames([{n: n for n in of_one} for of_one in concepts], [{n: n} for n in others])


def _features(names: ConceptNames, width: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {name: torch.randn(width, generator=generator) for name in names.all()}


def test_codes_of_concepts_that_share_a_name_are_alike() -> None:
    names = _names(
        [["German shepherd", "dog"], ["poodle", "dog"], ["tabby", "cat"], ["lynx", "cat"], ["dog"]]
    )
    flat, features = names.all(), _features(names, 8)
    named = coded(names, features, _UNSEEN, 4096, seed=0)
    alike = named.concept_codes @ named.concept_codes.T
    assert alike[0, 1] > 0.15 > 0.1 > alike[0, 2:4].abs().max() and alike[2, 3] > 0.15
    torch.testing.assert_close(named.concept_codes.norm(dim=1), torch.ones(5))
    dog = named.concept_codes @ named.name_codes[flat.index("dog")]
    assert dog.sort(descending=True).indices[:3].sort().values.tolist() == [0, 1, 4]
    assert torch.equal(coded(names, features, _UNSEEN, 4096, seed=0).concept_codes, named.concept_codes)


def test_a_name_of_no_class_meets_the_classes_that_mean_something_like_it() -> None:
    """Of a word, and of a drawing, whose own concept it meets too; what is said in English decides."""
    things = {"tiger": "pələng", "ship": "gəmi", "violin": "skripka", "lion": "aslan", "boat": "qayıq"}
    called = [{english: english, name: english} for english, name in things.items()]
    names = ConceptNames(called[:4], called[4:])  # three classes, a drawing and a word
    features = {name: 0.1 * feature for name, feature in _features(names, 32).items()}
    for one, like in (("lion", "tiger"), ("boat", "ship")):
        features[one] = features[like] + 0.2 * features[one]
    seen = torch.eye(3).repeat(20, 1) * 0.7 + 0.1
    named = coded(names, features, seen, 64, seed=0)
    meet = dict(zip(names.all(), named.name_codes @ named.concept_codes.T, strict=True))
    assert meet["qayıq"].argmax() == meet["boat"].argmax() == meet["gəmi"].argmax() == 1
    assert meet["aslan"].topk(2).indices.sort().values.tolist() == [0, 3]
    assert meet["qayıq"][0].abs() < 0.4 < meet["qayıq"][1] and meet["skripka"].argmax() == 2


def test_a_name_meets_the_classes_that_it_is_told_to_look_like() -> None:
    """Not those that mean something like it; the first the most, and a group of many all the same."""
    called = [{f"class {k}": f"class {k}"} for k in range(12)]
    looks = {"hedgehog": [2, 5], "all": list(range(12)), "class 0": [0, 3], "joy": []}
    words = [{"Hedgehog": "Hedgehog", "kirpi": "Hedgehog"}, {"all": "all"}, {"sea": "sea"}]
    names = ConceptNames(called, words, looks)
    features = _features(names, 32)
    features["kirpi"] = features["Hedgehog"] = features["class 7"].clone()
    features["sea"] = features["class 7"] + 0.01
    named = coded(names, features, torch.eye(12), 512, seed=0)
    meet = dict(zip(names.all(), named.name_codes @ named.concept_codes.T, strict=True))
    for name in ("Hedgehog", "kirpi"):
        assert meet[name].topk(2).indices.tolist() == [2, 5] and meet[name][5] < 0.7 * meet[name][2]
        assert meet[name][7] < 0.2
    assert meet["sea"].argmax() == 7
    assert meet["all"].min() > 0.2 and meet["all"].max() - meet["all"].min() < 0.05
    assert meet["class 0"].topk(2).indices.tolist() == [0, 3] and meet["class 1"][[0, 3]].abs().max() < 0.1
    of_classes, of_words = named.name_codes.norm(dim=1).split([12, 4])
    assert of_classes.min() > of_words.max() + 0.2


def test_codes_count_less_in_what_all_photos_show() -> None:
    """A class that every photo seems to show would drown the others, whose codes are a little like its own."""
    names = _names([[f"class {k}"] for k in range(40)])
    generator = torch.Generator().manual_seed(0)
    shown = torch.arange(10, 40).repeat(4)
    seen = torch.cat([
        8 * torch.rand(len(shown), 10, generator=generator),
        3 * torch.nn.functional.one_hot(shown - 10, 30),
    ], 1)  # fmt: skip
    seen /= seen.sum(1, keepdim=True)
    named = coded(names, _features(names, 8), seen, 16, seed=0)
    plain = coded(names, _features(names, 8), _UNSEEN, 16, seed=0)

    def found(codes: Tensor, of_names: Tensor) -> float:
        """Share of the four best photos by a class's name that show it."""
        photos = torch.nn.functional.normalize(seen.sqrt() @ codes, dim=1)
        best = (of_names[10:] @ photos.T).topk(4, dim=1).indices
        return float((shown[best] == torch.arange(10, 40)[:, None]).float().mean())

    assert found(named.concept_codes, named.name_codes) > found(plain.concept_codes, plain.name_codes) + 0.1


def _model() -> DualEncoder:
    torch.manual_seed(0)
    return DualEncoder(ModelConfig(image_encoder="test_efficientnet", text_encoder=_TEXT, dims=16)).eval()


def _with_concepts(
    model: DualEncoder, told_apart: torch.nn.Linear, names: Sequence[Sequence[str]]
) -> dict[str, Tensor]:
    """`model` gets to know them; returns the text features that their names have."""
    features = _features(_names(names), 32)
    add_concepts(model, 48, None, told_apart, coded(_names(names), features, _UNSEEN, 48, seed=0))
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
    names = _names([[f"class {k}"] for k in range(5)])
    features = _features(names, 32)
    pooled = 10 * torch.randn(40, width)
    named = coded(names, features, classifier(pooled).softmax(-1), 32, seed=0)
    add_concepts(model, 32, classifier, no_discriminant(width), named)
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
        add_concepts(model, 32, classifier, no_discriminant(width), named)


def test_sizes_that_mean_no_concepts_are_refused() -> None:
    with pytest.raises(ValueError, match="there must be a concept"):
        ConceptSizes(pretrained=0, learned=0, names=1, dims=8)
    with pytest.raises(ValueError, match="dims must be more than the concepts' 16"):
        ModelConfig(
            image_encoder="test_efficientnet", text_encoder=_TEXT, dims=16,
            concepts=ConceptSizes(pretrained=1, learned=0, names=1, dims=16),
        )  # fmt: skip
