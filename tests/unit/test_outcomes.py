import re

import pytest

from engine import errors
from engine.errors import REFUSAL_ERRORS, OutcomeError, Refused, Unavailable, Unconfirmed
from engine.outcomes import REFUSALS, RETRY, Outcome, Retry


def leaves(base: type[OutcomeError]) -> list[type[OutcomeError]]:
    """The exceptions that have a word of their own."""
    below = [leaf for error in base.__subclasses__() for leaf in leaves(error)]
    return [*below, *([base] if "outcome" in vars(base) else [])]


def test_one_exception_for_each_word() -> None:
    """Every word that is not success has exactly one exception, and the tree of the docstring has it."""
    found = leaves(OutcomeError)
    assert sorted(error.outcome for error in found) == sorted(RETRY)
    told = set(re.findall(r"[A-Z]\w+", errors.__doc__ or ""))
    assert {error.__name__ for error in found} <= told
    for error in found:
        assert re.sub(r"(?<!^)([A-Z])", r"_\1", error.__name__).lower() == error.outcome


def test_refused_and_unavailable() -> None:
    """What a script decides is refused; what the server could not take is unavailable; nothing is both."""
    assert {error.outcome for error in leaves(Refused)} == REFUSALS == set(REFUSAL_ERRORS)
    rest = {error.outcome for error in leaves(Unavailable)} | {Unconfirmed.outcome}
    assert rest == set(RETRY) - REFUSALS


@pytest.mark.parametrize("word", RETRY)
def test_retries(word: Outcome) -> None:
    """What had no effect for want of the server may be sent again as it is; a refusal never so."""
    assert (RETRY[word] is Retry.SAME_KEY) == (word not in REFUSALS)


def test_words_are_in_order_of_precedence() -> None:
    """Success, then what the engine tells itself, then refusals, then the server's troubles."""
    order = list(Outcome)
    assert list(RETRY) == order[order.index(Outcome.IDEMPOTENCY_MISMATCH) :]
    assert order[-1] is Outcome.UNCONFIRMED
