"""How long sums are cut into slices."""

from hypothesis import given
from hypothesis import strategies as st

from lwta.kernels.triton_parts.matmul import PROGRAMS, SHORTEST, slices


@given(terms=st.integers(0, 10**7), tiles=st.integers(0, 10**4), multiple=st.sampled_from([32, 64, 128]))
def test_slices_cover_every_term_once_and_are_neither_short_nor_many(terms: int, tiles: int, multiple: int) -> None:
    number, length = slices(terms, tiles, multiple)
    assert length % multiple == 0
    assert (number - 1) * length < terms <= number * length or number == terms == 0
    assert number <= max(PROGRAMS // max(tiles, 1), 0) + 1
    assert number <= 1 or length >= SHORTEST


def test_long_sums_fill_a_gpu() -> None:
    number, length = slices(20_000, 24, 64)
    assert number == 21
    assert length == 960
