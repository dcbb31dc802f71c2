"""`TokenComparison`: the results of `compare_tokens`, with methods that write them as text, JSON and HTML."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from polylogit import _page
from polylogit.porting._figures import RELATIVE_TO, cause_as_dict, number, residuals, times
from polylogit.porting._tokens.results import TokenResults
from polylogit.porting._written import Written

__all__ = ["TokenComparison"]

SCHEMA = "polylogit.tokens/1"
VERDICTS = {
    "within rounding": "The two engines agree: every difference is within rounding.",
    "beyond rounding": "The two engines are beyond rounding, {times} times at the worst, and nothing explains it.",
    "different": "The two engines differ, {times} times rounding at the worst.",
    "inconclusive": "Inconclusive: {hint}.",
}
# How a verdict is coloured.
LOOK = {
    "within rounding": "agrees",
    "beyond rounding": "inconclusive",
    "different": "disagrees",
    "inconclusive": "inconclusive",
}
MOST_PLACES = 10
BINS = 41


class TokenComparison(Written, TokenResults):
    __doc__ = (TokenResults.__doc__ or "").replace(", without the reports", "")

    def summary(self) -> str:
        """The verdict, the cause, the fix and the measures in a few lines of text."""
        lines = [_sentence(self)]
        if self.cause is not None:
            lines += [f"cause: {self.cause.name}", f"  {self.cause.explanation}", f"  fix: {self.cause.fix}"]
            lines.append(f"  {residuals(self.cause, RELATIVE_TO['log'])}")
        if self.hint and self.verdict == "different":
            lines.append(f"  {self.hint}")
        lines += [f"{name}: {value}" for name, value in _facts(self)]
        return "\n".join(lines)

    __str__ = summary

    def __repr__(self) -> str:
        """One line."""
        cause = "" if self.cause is None else f", cause: {self.cause.name}"
        return f"<TokenComparison {self.verdict}: {self.counted} token{'s' if self.counted != 1 else ''}{cause}>"

    def _as_dict(self) -> dict[str, Any]:
        return _as_dict(self)

    def _page(self, *, part: bool = False) -> str:
        return _html(self, part=part)


def _sentence(found: TokenResults) -> str:
    return VERDICTS[found.verdict].format(times=times(found.times), hint=found.hint)


def _facts(found: TokenResults) -> list[tuple[str, str]]:
    """The statistics, in words."""
    weights = f"mean {found.weight_mean:.6g}, largest {found.weight_largest:.6g}, worth "
    weights += f"{found.effective_sample_size:.2%} of the tokens"
    facts = [
        ("tokens compared", f"{found.counted}, judged by {found.dtype}"),
        ("bias (candidate - reference)", f"{number(found.mean, 3)} ± {number(found.mean_error, 3)} nats"),
        ("mean absolute difference", f"{number(found.mean_absolute, 3)} nats"),
        ("worst difference", f"{number(found.worst, 3)} nats at {_place(found.worst_position)}"),
        (f"KL divergence ({found.kl_method})", f"{number(found.kl, 3)} nats a token"),
        ("importance weights", weights),
    ]
    for what, places in (("outside the support", found.outside), ("NaN or +inf", found.invalid)):
        facts += [(f"{what}, {side}", _places(some)) for side, some in places.items() if some]
    if found.unlisted:
        facts.append(("not in the top k, not compared", _places(found.unlisted)))
    return facts


def _place(position: tuple[int, ...] | None) -> str:
    return "no position" if position is None else f"[{', '.join(map(str, position))}]"


def _places(positions: tuple[tuple[int, ...], ...]) -> str:
    shown = ", ".join(_place(one) for one in positions[:MOST_PLACES])
    return f"{len(positions)} at {shown}{', ...' if len(positions) > MOST_PLACES else ''}"


def _as_dict(found: TokenResults) -> dict[str, Any]:
    whole: dict[str, Any] = {
        "schema": SCHEMA,
        "verdict": found.verdict,
        "agrees": found.agrees,
        "times": found.times,
        "hint": found.hint,
        "dtype": found.dtype,
        "cause": cause_as_dict(found.cause, RELATIVE_TO["log"]),
    }
    for name in ("counted", "mean", "mean_error", "mean_absolute", "worst", "worst_position", "kl", "kl_method"):
        whole[name] = getattr(found, name)
    for name in ("weight_mean", "weight_largest", "effective_sample_size", "outside", "invalid", "unlisted"):
        whole[name] = getattr(found, name)
    return whole


# --- HTML ------------------------------------------------------------------------------------------------------------


def _html(found: TokenResults, *, part: bool = False) -> str:
    return _page.render(
        "tokens.html.j2",
        part=part,
        look=LOOK[found.verdict],
        verdict=_sentence(found),
        cause=found.cause,
        residuals=residuals(found.cause, RELATIVE_TO["log"]) if found.cause else "",
        hint=found.hint if found.verdict == "different" else "",
        facts=_facts(found),
        bars=_bars(found),
        worst=_worst(found),
    )


def _bars(found: TokenResults) -> dict[str, Any] | None:
    """A histogram of the differences with logarithmic counts, so that a single token is visible."""
    values = found.differences[np.isfinite(found.differences)]
    if not values.size or not np.any(values):
        return None
    reach = float(np.max(np.abs(values)))
    counts, edges = np.histogram(values, bins=BINS, range=(-reach, reach))
    top = math.log1p(int(counts.max()))
    bars = [
        {
            "x": 10 + 12 * at,
            "height": round(100 * math.log1p(int(count)) / top, 1),
            "title": f"{count} from {edges[at]:.3g} to {edges[at + 1]:.3g}",
        }
        for at, count in enumerate(counts)
    ]
    return {"bars": bars, "width": 20 + 12 * BINS, "low": f"{-reach:.3g}", "high": f"{reach:.3g}"}


def _worst(found: TokenResults) -> list[dict[str, str]]:
    """The tokens that differ most, those with infinities and NaN first."""
    with np.errstate(all="ignore"):
        size = np.abs(found.differences).ravel()
    places = (*found.invalid["reference"], *found.invalid["candidate"])
    both = set(found.outside["reference"]) & set(found.outside["candidate"])
    places += tuple({*found.outside["reference"], *found.outside["candidate"]} - both)
    shape = found.differences.shape
    order = [int(at) for at in np.argsort(-np.nan_to_num(size), kind="stable")[:MOST_PLACES] if size[at] > 0]
    places += tuple(tuple(map(int, np.unravel_index(at, shape))) for at in order)
    return [
        {
            "place": _place(place),
            "reference": f"{found.reference[place]:.6g}",
            "candidate": f"{found.candidate[place]:.6g}",
            "difference": f"{found.candidate[place] - found.reference[place]:.3g}",
        }
        for place in places[:MOST_PLACES]
    ]
