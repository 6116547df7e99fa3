"""The digest that is written with a file."""

from __future__ import annotations

from collections import OrderedDict

import torch

from lwta.support.digests import digest_of_content


def test_any_difference_of_content_changes_the_digest() -> None:
    contents = [
        {"a": torch.zeros(2, 3), "b": [1, 2.0, None]},
        {"a": torch.zeros(3, 2), "b": [1, 2.0, None]},
        {"a": torch.zeros(2, 3, dtype=torch.int32), "b": [1, 2.0, None]},
        {"a": torch.tensor([[0, 0, 0], [0, 0, -0.0]]), "b": [1, 2.0, None]},
        {"a": torch.zeros(2, 3), "b": [1, 2, None]},
        {"a": torch.zeros(2, 3), "b": [1, [2.0, None]]},
        {"a": torch.zeros(2, 3), "c": [1, 2.0, None]},
        {"a": torch.zeros(2, 3)},
        ["ab", "c"],
        ["a", "bc"],
        torch.zeros(0),
        torch.zeros(()),
        torch.zeros(1, dtype=torch.bfloat16),
    ]
    assert len({digest_of_content(content) for content in contents}) == len(contents)


def test_layout_and_order_leave_the_digest_as_it_is() -> None:
    x = torch.randn(2, 3, 4, 5)
    first = digest_of_content({"x": x, "one": torch.ones(3, 2), 1: (1, 2)})
    other = OrderedDict(
        [(1, [1, 2]), ("one", torch.ones(1).expand(3, 2)), ("x", x.to(memory_format=torch.channels_last))]
    )
    assert digest_of_content(other) == first
