"""Pairs of engines with a known fault, in hundreds, and what `compare_tokens` makes of them.

Run it for the figures:  python tests/porting/tokens_harness.py --pairs 20 --seed 0

Nothing of polylogit makes the pairs: an engine is a product of hidden states and an output matrix in plain NumPy, and
each fault is written as it happens between an inference engine and a trainer. An engine gives what it would: the chosen
tokens' log-probabilities, whole rows of logits or of log-probabilities, or the top k.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import sys
from typing import Any

import ml_dtypes
import numpy as np

VOCABULARIES = (50, 257, 1000, 8000, 32000)
FORMS = ("logits", "log-probs", "chosen", "top-k")


@dataclasses.dataclass
class Pair:
    """What `compare_tokens` gets, and what it should say."""

    reference: Any
    candidate: Any
    tokens: Any
    name: str = ""  # of the fault; empty for a right pair
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    undecidable: bool = False  # from what is given alone


@dataclasses.dataclass
class Engine:
    """Logits of one model, and how an engine makes log-probabilities of them."""

    logits: Any  # (batch, time, vocabulary) in float32
    tokens: Any
    rng: Any

    def again(self, noise: float = 2e-7) -> Any:
        """The logits as another engine computes them: the roundings fall differently."""
        x = self.logits
        return (x + noise * (1 + np.abs(x)) * self.rng.standard_normal(x.shape)).astype(np.float32)


def log_softmax(x: Any) -> Any:
    s = x - x.max(axis=-1, keepdims=True)
    return s - np.log(np.exp(s).sum(axis=-1, keepdims=True))


def pick(rows: Any, tokens: Any) -> Any:
    return np.take_along_axis(rows, tokens[..., None], axis=-1)[..., 0]


def given(logits: Any, tokens: Any, form: str, k: int = 20) -> Any:
    """What an engine returns of these logits."""
    rows = log_softmax(logits)
    if form == "logits":
        return logits
    if form == "log-probs":
        return rows
    if form == "chosen":
        return pick(rows, tokens)
    return top(rows, k)


def top(rows: Any, k: int = 20) -> Any:
    ids = np.argsort(-rows, axis=-1, kind="stable")[..., : min(k, rows.shape[-1])]
    return {"ids": ids, "logprobs": np.take_along_axis(rows, ids, axis=-1)}


def engine(rng: Any, vocabulary: int) -> Engine:
    """Hidden states times an output matrix, and tokens sampled from it (now and then the likeliest)."""
    most = 64 if vocabulary > 5000 else 256
    batch = int(rng.choice([1, 2, 4, 8]))
    time = int(rng.choice([n for n in (8, 16, 32, 64) if batch * n <= most]))
    hidden = rng.standard_normal((batch, time, 64))
    weights = rng.standard_normal((vocabulary, 64)) * rng.choice([0.1, 0.25, 0.5])
    bias = rng.choice([0.0, 0.0, -20.0])  # logits with an offset of their own, as GPT-2 has
    logits = (0.5 * hidden @ weights.T + bias).astype(np.float32)
    tokens = np.argmax(logits + rng.gumbel(size=logits.shape), axis=-1)
    return Engine(logits, tokens, rng)


def forms(rng: Any, left: tuple[str, ...] = FORMS, right: tuple[str, ...] = FORMS) -> tuple[str, str]:
    return str(rng.choice(left)), str(rng.choice(right))


def seen(*given_forms: str) -> bool:
    """Whether one side has whole rows."""
    return any(form in ("logits", "log-probs") for form in given_forms)


def swapped(rng: Any, pair: Pair) -> Pair:
    """Either engine may be the wrong one."""
    if rng.random() < 0.3:
        pair.reference, pair.candidate = pair.candidate, pair.reference
    return pair


# --- right pairs -----------------------------------------------------------------------------------------------------


def right_float32(e: Engine) -> Pair:
    left, right = forms(e.rng)
    return Pair(given(e.logits, e.tokens, left), given(e.again(), e.tokens, right), e.tokens)


def right_deep(e: Engine) -> Pair:
    """More noise than a single product has."""
    left, right = forms(e.rng)
    return Pair(given(e.logits, e.tokens, left), given(e.again(1e-6), e.tokens, right), e.tokens)


def right_sixteen_bits(e: Engine, *, rounded: bool = True) -> Pair:
    """A trunk in 16 bits on one side or on both, given in float32, and said so."""
    dtype, name = ((np.float16, "float16"), (ml_dtypes.bfloat16, "bfloat16"))[int(e.rng.integers(2))]
    eps = float(ml_dtypes.finfo(dtype).eps)
    noisy = e.again(0.25 * eps)
    other = e.again(0.25 * eps) if e.rng.random() < 0.5 else e.logits
    if rounded and e.rng.random() < 0.5:
        noisy = noisy.astype(dtype).astype(np.float32)
    left, right = forms(e.rng)
    pair = Pair(given(other, e.tokens, left), given(noisy, e.tokens, right), e.tokens, options={"dtype": name})
    return swapped(e.rng, pair)


def right_undeclared(e: Engine) -> Pair:
    """The same, and not said: noise of 16 bits in numbers of 32 can only be asked about."""
    pair = right_sixteen_bits(e, rounded=False)
    pair.options, pair.undecidable = {}, True
    return pair


def right_stored_in_sixteen_bits(e: Engine) -> Pair:
    """Log-probabilities given in bfloat16."""
    rows = log_softmax(e.again())
    c = (pick(rows, e.tokens) if e.rng.random() < 0.5 else rows).astype(ml_dtypes.bfloat16)
    return swapped(e.rng, Pair(given(e.logits, e.tokens, str(e.rng.choice(FORMS[:3]))), c, e.tokens))


def right_masked(e: Engine) -> Pair:
    """Padding that the two fill with different numbers, and a mask."""
    mask = lengths(e)
    left, right = forms(e.rng, FORMS[:3], FORMS[:3])
    r, c = given(e.logits, e.tokens, left).copy(), given(e.again(), e.tokens, right).copy()
    r[~mask], c[~mask] = 0.0, e.rng.choice([np.nan, -100.0, 3.0])
    return Pair(r, c, e.tokens, options={"mask": mask})


# --- faults ----------------------------------------------------------------------------------------------------------


def temperature(e: Engine) -> Pair:
    t = float(e.rng.choice([0.6, 0.7, 0.8, 0.9, 1.1, 1.2, 1.5]))
    left, right = forms(e.rng)
    c = given(e.again() / np.float32(t), e.tokens, right)
    return swapped(e.rng, Pair(given(e.logits, e.tokens, left), c, e.tokens, undecidable=not seen(left, right)))


def support(logits: Any, rng: Any, tokens: Any) -> Any:
    """Logits outside the top k or the top p at -inf, and tokens within."""
    order = np.argsort(-logits, axis=-1, kind="stable")
    sort = np.take_along_axis(logits, order, axis=-1)
    if rng.random() < 0.5:
        keep = np.broadcast_to(np.arange(logits.shape[-1]) < int(rng.choice([5, 20, 40])), logits.shape)
    else:
        masses = np.cumsum(np.exp(log_softmax(sort)), axis=-1)
        p = float(rng.choice([0.8, 0.9, 0.95]))
        keep = np.concatenate([np.ones_like(masses[..., :1], bool), masses[..., :-1] < p], axis=-1)
    kept = np.empty_like(keep)
    np.put_along_axis(kept, order, keep, axis=-1)
    cut = np.where(kept, logits, -np.inf).astype(np.float32)
    return cut, np.argmax(cut + rng.gumbel(size=cut.shape), axis=-1)


def truncated_support(e: Engine) -> Pair:
    cut, e.tokens = support(e.again(), e.rng, e.tokens)
    left, right = forms(e.rng, FORMS[:3], FORMS[:3])
    # Without the other side's whole distribution the mass is not known.
    r, c = given(e.logits, e.tokens, left), given(cut, e.tokens, right)
    return swapped(e.rng, Pair(r, c, e.tokens, undecidable=left == "chosen"))


def base_2(e: Engine) -> Pair:
    left, right = forms(e.rng, FORMS, FORMS[1:3])
    c = given(e.again(), e.tokens, right) / np.float32(np.log(2))
    return swapped(e.rng, Pair(given(e.logits, e.tokens, left), c, e.tokens))


def sign(e: Engine) -> Pair:
    left, right = forms(e.rng, FORMS, FORMS[1:3])
    return swapped(e.rng, Pair(given(e.logits, e.tokens, left), -given(e.again(), e.tokens, right), e.tokens))


def probabilities(e: Engine) -> Pair:
    left, right = forms(e.rng, FORMS, FORMS[1:3])
    return swapped(e.rng, Pair(given(e.logits, e.tokens, left), np.exp(given(e.again(), e.tokens, right)), e.tokens))


def missing_log_softmax(e: Engine) -> Pair:
    left = str(e.rng.choice(FORMS[:3]))
    return Pair(given(e.logits, e.tokens, left), pick(e.again(), e.tokens), e.tokens, undecidable=left != "logits")


def lengths(e: Engine) -> Any:
    """True where there is a token: each sequence has its own length."""
    batch, time = e.tokens.shape
    ends = e.rng.integers(time // 2, time - 1, batch)
    mask = np.arange(time) < ends[:, None]
    return mask if e.rng.random() < 0.7 else mask[:, ::-1]


def padding_counted(e: Engine) -> Pair:
    mask = lengths(e)
    e.tokens = np.where(mask, e.tokens, 0)
    left, right = forms(e.rng, FORMS[2:3], FORMS[:3])
    r = np.where(mask, given(e.logits, e.tokens, left), 0.0).astype(np.float32)
    return swapped(e.rng, Pair(r, given(e.again(), e.tokens, right), e.tokens))


def prompt_included(e: Engine) -> Pair:
    batch, time = e.tokens.shape
    mask = np.arange(time) >= e.rng.integers(2, time // 2 + 1, batch)[:, None]
    r = np.where(mask, given(e.logits, e.tokens, "chosen"), 0.0).astype(np.float32)
    return swapped(e.rng, Pair(r, given(e.again(), e.tokens, str(e.rng.choice(FORMS[:3]))), e.tokens))


def sink(e: Engine, *, missing: bool) -> Pair:
    left, right = forms(e.rng, FORMS[:3], FORMS[1:3])
    x, y = e.logits, e.again()
    sums = np.log(np.exp(x.astype(np.float64)).sum(-1, keepdims=True))
    term = float(np.median(sums)) + float(e.rng.choice([-3.0, -1.0, 0.0]))
    rows = (y - np.logaddexp(np.log(np.exp(y.astype(np.float64)).sum(-1, keepdims=True)), term)).astype(np.float32)
    c = rows if right == "log-probs" else pick(rows, e.tokens)
    r = given(x, e.tokens, left)
    decidable = left == "logits" or right == "log-probs"
    return (
        Pair(c, r, e.tokens, undecidable=not decidable) if missing else Pair(r, c, e.tokens, undecidable=not decidable)
    )


def missing_sink(e: Engine) -> Pair:
    return sink(e, missing=True)


def extra_sink(e: Engine) -> Pair:
    return sink(e, missing=False)


def logits_of_16_bits(e: Engine) -> Pair:
    dtype = (np.float16, ml_dtypes.bfloat16)[int(e.rng.integers(2))]
    left, right = forms(e.rng)
    rounded = e.again().astype(dtype).astype(np.float32)
    decidable = left == "logits" or right == "logits"
    pair = Pair(given(e.logits, e.tokens, left), given(rounded, e.tokens, right), e.tokens, undecidable=not decidable)
    return swapped(e.rng, pair)


def softmax_in_16_bits(e: Engine) -> Pair:
    dtype = (np.float16, ml_dtypes.bfloat16)[int(e.rng.integers(2))]
    left, right = forms(e.rng, FORMS[:3], FORMS[1:3])
    y = e.again()
    whole = e.rng.random() < 0.5
    # Computed in float32 and the result rounded, or the logits rounded too.
    rows = log_softmax(y if whole else y.astype(dtype).astype(np.float32)).astype(dtype).astype(np.float32)
    c = rows if right == "log-probs" else pick(rows, e.tokens)
    decidable = whole or left == "logits"
    return swapped(e.rng, Pair(given(e.logits, e.tokens, left), c, e.tokens, undecidable=not decidable))


def log_of_probabilities_of_16_bits(e: Engine) -> Pair:
    dtype = (np.float16, ml_dtypes.bfloat16)[int(e.rng.integers(2))]
    left, right = forms(e.rng, FORMS[:3], FORMS[1:3])
    with np.errstate(divide="ignore"):
        rows = np.log(np.exp(log_softmax(e.again())).astype(dtype).astype(np.float32))
    c = rows if right == "log-probs" else pick(rows, e.tokens)
    return swapped(e.rng, Pair(given(e.logits, e.tokens, left), c, e.tokens))


def position_offset(e: Engine) -> Pair:
    offset = int(e.rng.choice([1, -1]))
    left, right = forms(e.rng, FORMS[:3], FORMS[:3])
    if e.rng.random() < 0.5 and seen(left, right):  # the logits of a neighbour score the token
        r, c = given(e.logits, e.tokens, left), given(np.roll(e.again(), offset, axis=1), e.tokens, right)
    else:
        r = given(e.logits, e.tokens, left)
        c = np.roll(given(e.again(), e.tokens, right), offset, axis=1)
    return Pair(r, c, e.tokens)


def batch_permutation(e: Engine) -> Pair | None:
    batch = len(e.tokens)
    if batch < 2:
        return None
    order = e.rng.permutation(batch)
    if (order == np.arange(batch)).all():
        order = order[::-1]
    left, right = forms(e.rng, FORMS[:3], FORMS[:3])
    return Pair(given(e.logits, e.tokens, left), given(e.again(), e.tokens, right)[order], e.tokens)


def non_contiguous(e: Engine) -> Pair | None:
    if len(e.tokens) < 2:
        return None
    left, right = forms(e.rng, FORMS[:3], FORMS[:3])
    c = given(e.again(), e.tokens, right)
    c = np.ascontiguousarray(np.swapaxes(c, 0, 1)).reshape(c.shape)
    return Pair(given(e.logits, e.tokens, left), c, e.tokens)


# --- what must not get a name ----------------------------------------------------------------------------------------


def two_faults(e: Engine) -> Pair:
    """Temperature and another fault: no single name is right."""
    t = np.float32(e.rng.choice([0.7, 1.3]))
    y = e.again() / t
    which = int(e.rng.integers(4))
    if which == 0:
        y, e.tokens = support(y, e.rng, e.tokens)
        c = pick(log_softmax(y), e.tokens)
    elif which == 1:
        c = pick(log_softmax(y), e.tokens) / np.float32(np.log(2))
    elif which == 2:
        c = np.roll(pick(log_softmax(y), e.tokens), 1, axis=1)
    else:
        c = pick(log_softmax(y.astype(ml_dtypes.bfloat16).astype(np.float32)), e.tokens)
    return Pair(given(e.logits, e.tokens, str(e.rng.choice(FORMS[:3]))), c, e.tokens, undecidable=True)


def other_weights(e: Engine) -> Pair:
    """Another checkpoint: a change of the logits that is nobody's fault here."""
    left, right = forms(e.rng)
    c = e.again(float(e.rng.choice([0.003, 0.03, 0.3])))
    return Pair(given(e.logits, e.tokens, left), given(c, e.tokens, right), e.tokens, undecidable=True)


def one_token_wrong(e: Engine) -> Pair:
    left, right = forms(e.rng, FORMS[:3], FORMS[:3])
    c = given(e.again(), e.tokens, right).copy()
    at = 0, int(e.rng.integers(e.tokens.shape[1]))
    # A constant added to logits changes nothing.
    c[at] = c[at] * np.float32(1.3) if right == "logits" else c[at] + np.float32(0.5 + e.rng.random())
    return Pair(given(e.logits, e.tokens, left), c, e.tokens, undecidable=True)


RIGHT = (right_float32, right_deep, right_sixteen_bits, right_undeclared, right_stored_in_sixteen_bits, right_masked)
FAULTS = {
    temperature: "temperature",
    truncated_support: "truncated-support",
    base_2: "base-2",
    sign: "sign",
    probabilities: "probabilities",
    missing_log_softmax: "missing-log-softmax",
    padding_counted: "padding-counted",
    prompt_included: "prompt-included",
    missing_sink: "missing-sink",
    extra_sink: "extra-sink",
    logits_of_16_bits: "16-bit-logits",
    softmax_in_16_bits: "16-bit-softmax",
    log_of_probabilities_of_16_bits: "16-bit-softmax",
    position_offset: "position-offset",
    batch_permutation: "batch-permutation",
    non_contiguous: "non-contiguous",
    two_faults: "unknown",
    other_weights: "unknown",
    one_token_wrong: "unknown",
}


def outcome(pair: Pair, name: str) -> str:
    """One of right, unknown, undecided, wrong, beyond and accused (of right pairs), and passed."""
    from polylogit.porting import compare_tokens

    found = compare_tokens(pair.reference, pair.candidate, tokens=pair.tokens, **pair.options)
    if not name:
        fine = ("inconclusive", "beyond rounding") if pair.undecidable else ("within rounding",)
        return "right" if found.verdict in fine else "beyond" if found.verdict == "beyond rounding" else "accused"
    if found.agrees:
        return "passed"
    if found.cause is None or found.cause.name == "unknown":
        return "right" if name == "unknown" else "undecided" if pair.undecidable else "unknown"
    return "right" if found.cause.name == name else "wrong"


def pairs(make: Any, count: int, seed: int) -> Any:
    """So many pairs of one kind, those aside that a shape does not allow."""
    for number in range(count):
        rng = np.random.default_rng([seed, number, *make.__name__.encode()])
        vocabulary = VOCABULARIES[number % len(VOCABULARIES)]
        with np.errstate(all="ignore"):
            pair = make(engine(rng, vocabulary))
        if pair is not None and all(listed(one, pair.tokens) >= 8 for one in (pair.reference, pair.candidate)):
            yield vocabulary, number, pair


def listed(side: Any, tokens: Any) -> int:
    """How many of the tokens a side says anything about."""
    return int((side["ids"] == tokens[..., None]).any(-1).sum()) if isinstance(side, dict) else tokens.size


def run(count: int, seed: int, *, verbose: bool = False) -> dict[str, collections.Counter[str]]:
    """The outcomes by kind."""
    found: dict[str, collections.Counter[str]] = {}
    for make, name in [*((one, "") for one in RIGHT), *FAULTS.items()]:
        counts = found[make.__name__] = collections.Counter()
        for vocabulary, number, pair in pairs(make, count, seed):
            result = outcome(pair, name)
            counts[result] += 1
            if verbose and result not in ("right", "undecided"):
                from polylogit.porting import compare_tokens

                print(make.__name__, number, vocabulary, pair.tokens.shape, result)
                print(compare_tokens(pair.reference, pair.candidate, tokens=pair.tokens, **pair.options))
    return found


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args(arguments)
    found = run(options.pairs, options.seed, verbose=options.verbose)
    columns = ("right", "undecided", "unknown", "wrong", "beyond", "accused", "passed")
    print(f"{'':34}" + "".join(f"{one:>11}" for one in columns))
    total: collections.Counter[str] = collections.Counter()
    for name, counts in found.items():
        total += counts
        print(f"{name:34}" + "".join(f"{counts[one]:>11}" for one in columns))
    print(f"{'all':34}" + "".join(f"{total[one]:>11}" for one in columns))
    return int(total["wrong"] > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
