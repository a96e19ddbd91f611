"""Near duplicates: a correlation that is the same on every processor."""

from pipelines.data import near_duplicates
from tests.support.toys import pictures


def test_a_correlation_is_exact_whatever_the_order_of_the_sum() -> None:
    one = near_duplicates.descriptors(pictures(40, 8))
    forward = one @ one.T
    backward = one[:, ::-1] @ one[:, ::-1].T
    assert (forward == backward).all()
