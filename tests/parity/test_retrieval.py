"""Case 08, its recall: shares, counts and the ranked items of every query."""

import re

import pytest
import torch

from models.retrieval import Retrieved, mean_recall, search_both_ways

pytestmark = pytest.mark.golden

WORDS = {"txt": "image_to_text", "img": "text_to_image"}  # named after what is searched in
NUM_LISTED = 10


def recalls_of(case) -> dict[str, dict]:
    """The stored results by the name of their inputs."""
    found = {
        key: stored for key, stored in case.manifest["results"].items() if f"{key}.text_ids" in case.manifest["inputs"]
    }
    assert found
    return found


def features_of(case, key: str) -> dict[str, torch.Tensor]:
    return {name: case.input(f"{key}.{name}_features") for name in ("text", "image")}


def find(case, key: str, vectors: dict[str, torch.Tensor], stored: dict) -> dict[str, Retrieved]:
    ids = {name: case.input(f"{key}.{name}_ids").numpy() for name in vectors}
    ks = sorted({int(name.rpartition("_r")[2]) for name in stored if re.fullmatch(r"\w+_r\d+", name)})
    return search_both_ways(vectors, ids, ks=(*ks, NUM_LISTED) if NUM_LISTED not in ks else ks)


def check(found: dict[str, Retrieved], stored: dict) -> None:
    """Compare every number of a stored result; counts exactly, shares up to the last digits."""
    seen = 0
    for word, direction in WORDS.items():
        for name in stored:
            if match := re.fullmatch(rf"{word}_r(\d+)", name):
                k = int(match[1])
                assert found[direction].percent(k) == pytest.approx(stored[name], abs=1e-9)
                assert found[direction].hits[k].sum() == round(stored[name] * len(found[direction].query_ids) / 100)
                seen += 1
        assert mean_recall([found[direction]]) == pytest.approx(stored[f"{word}_r_mean"], abs=1e-9)
    assert seen
    assert mean_recall(found.values()) == pytest.approx(stored["r_mean"], abs=1e-9)
    assert len(found["image_to_text"].query_ids) == stored["img_count"]
    assert len(found["text_to_image"].query_ids) == stored["txt_count"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_recall_both_ways(find_cases, dtype):
    for case in find_cases("08_"):
        for key, stored in recalls_of(case).items():
            vectors = {name: each.to(dtype) for name, each in features_of(case, key).items()}
            check(find(case, key, vectors, stored), stored)


def test_every_query_has_the_stored_items_in_the_stored_order(find_cases):
    for case in find_cases("08_"):
        for key, stored in recalls_of(case).items():
            found = find(case, key, features_of(case, key), stored)
            for word, direction in WORDS.items():
                each = found[direction]
                # A list stands under the item's id: that of the item's last sentence where it has several.
                ours = dict(
                    zip(map(str, each.query_ids.tolist()), each.ranked_ids[:, :NUM_LISTED].tolist(), strict=True)
                )
                assert ours == stored[f"predict_{word}"]


def test_a_planted_error_is_seen(find_cases):
    for case in find_cases("08_"):
        for key, stored in recalls_of(case).items():
            vectors = features_of(case, key)
            vectors["image"] = vectors["image"] + 0.5 * vectors["image"].roll(1, dims=0)
            with pytest.raises(AssertionError):
                check(find(case, key, vectors, stored), stored)
