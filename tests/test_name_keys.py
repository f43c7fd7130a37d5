"""Which names a text tower keeps, and what it finds by short keys."""

import pytest
import torch

from lowclip_train.concept_codes import NamedConcepts
from lowclip_train.concepts import ConceptSizes
from lowclip_train.name_keys import KEY_DIMS, key_dims, text_concepts, without_redundant


def _named(count: int, width: int, dims: int = 16) -> NamedConcepts:
    generator = torch.Generator().manual_seed(0)
    codes = torch.nn.functional.normalize(torch.randn(count, dims, generator=generator), dim=1)
    return NamedConcepts(torch.randn(count, width, generator=generator), codes, codes.clone())


def test_a_name_that_others_say_is_left_out_and_still_found() -> None:
    named = _named(8, 64)
    named.features[5] = named.features[1] + 0.05 * torch.randn(64, generator=torch.Generator().manual_seed(1))
    named.features[6] = named.features[2].clone()  # as like, but another thing
    named.name_codes[5] = named.name_codes[1]
    fewer = without_redundant(named)
    assert torch.equal(fewer.name_codes, named.name_codes[[0, 1, 2, 3, 4, 6, 7]])
    assert torch.equal(fewer.features, named.features[[0, 1, 2, 3, 4, 6, 7]])
    told = text_concepts(ConceptSizes(pretrained=8, learned=0, names=7, dims=16), fewer)
    assert (
        torch.nn.functional.cosine_similarity(told(named.features[[5]]), named.name_codes[[5]]).item() > 0.98
    )


def test_a_chain_of_like_names_is_not_taken_away_link_by_link() -> None:
    """Each is said by the next one; when that goes too, it has to stay."""
    named = _named(12, 64)
    step = named.features[11] - named.features[0]
    for k in range(12):
        named.features[k] = named.features[0] + 0.06 * k * step
        named.name_codes[k] = named.name_codes[0]
    named = NamedConcepts(
        torch.cat([named.features, _named(20, 64).features]),
        named.concept_codes,
        torch.cat([named.name_codes, _named(20, 64).name_codes]),
    )
    fewer = without_redundant(named)
    told = text_concepts(ConceptSizes(pretrained=12, learned=0, names=len(fewer.features), dims=16), fewer)
    assert len(fewer.features) < len(named.features)
    assert (told(named.features[:12]) @ named.name_codes[0]).min() > 0.6


@pytest.mark.parametrize("width", [KEY_DIMS, 3 * KEY_DIMS])
def test_names_are_found_by_short_keys_and_other_texts_are_not(width: int) -> None:
    named = _named(300, width)
    sizes = ConceptSizes(pretrained=300, learned=0, names=300, dims=16, key_dims=key_dims(width))
    assert sizes.key_dims == (KEY_DIMS if width > KEY_DIMS else 0)
    told = text_concepts(sizes, named)
    assert told.names.in_features == KEY_DIMS
    found = told(named.features)
    assert torch.nn.functional.cosine_similarity(found, named.name_codes).min() > 0.95
    assert found.norm(dim=1).min() > 0.95
    others = torch.randn(100, width, generator=torch.Generator().manual_seed(2))
    assert told(others).norm(dim=1).max() < 0.1
