"""The error for an argument that an operation does not have: it shows the whole call as polylogit spells it.

Other libraries use other names for the same arguments; a table translates them. Knows the names of arguments, and no
framework.
"""

from __future__ import annotations

from polylogit.errors import ArgumentError

TYPE_CHECKING = False  # as in polylogit._registry
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

__all__ = ["unexpected"]

# What others call the argument -> what it is called here. PyTorch: dim, attn_mask; SciPy: axes; transformers:
# attention_mask; array libraries: a.
_MEANT = {
    **dict.fromkeys(("dim", "dims", "axes", "axis", "implicit_dim"), "axis"),
    **dict.fromkeys(("mask", "masks", "attn_mask", "attention_mask", "src_mask", "where"), "where"),
    **dict.fromkeys(("valid", "is_valid", "unmasked"), "where"),
    **dict.fromkeys(("T", "tau", "temp"), "temperature"),
    **dict.fromkeys(("x", "input", "inputs", "logits", "scores", "a", "tensor", "array", "features", "values"), "x"),
    **dict.fromkeys(("type", "out_dtype", "output_dtype"), "dtype"),
    **dict.fromkeys(("framework", "library", "xp"), "backend"),
}

# What some library's function takes and none here does -> why the call is complete without it.
_LEFT_OUT = {
    **dict.fromkeys(("keepdims", "keepdim"), "the result has the shape of x as it is"),
    "inplace": "the result is a new array; on NumPy out=x writes over the logits",
    "name": "operations have no names here",
    "device": "the result lies where x does",
    "requires_grad": "the result requires grad where x does",
    "_stacklevel": "there is no warning to attribute",
    "training": "the result is the same in training",
    "initial": "rows without entries are defined as they are",
    "stable": "the stable form is the only one",
    "axis_name": "each element stands for itself",
    "precision": "it is computed in float32 at least",
}

# What is applied to the logits, as an expression: ``{}`` is what was given.
_TO_LOGITS = {
    **dict.fromkeys(("scale", "logit_scale", "beta", "inverse_temperature"), "{} * x"),
    "bias": "x + {}",
    "softcap": "{0} * tanh(x / {0})",
    "base": "x * math.log({})",
}

# What makes a mask, as an expression that every framework takes.
_TO_MASKS = {
    **dict.fromkeys(("is_causal", "causal"), "numpy.tri(*x.shape[-2:], dtype=bool).tolist()"),
    **dict.fromkeys(
        ("length", "lengths", "sequence_length", "valid_lens"),
        "(numpy.arange(x.shape[-1]) < numpy.asarray({})[:, None]).tolist()",
    ),
}

# Masks that say which entries are left out.
_INVERTED = ("key_padding_mask", "src_key_padding_mask", "padding_mask", "masked", "ignore")


def unexpected(operation: str, known: Iterable[str], axis: Any, given: Mapping[str, Any]) -> ArgumentError:
    """The error for a call with an argument that is not among `known`; it shows the whole call to write instead.

    Parameters
    ----------
    operation : str
        The name of the operation.
    known : iterable of str
        The keywords that the operation accepts, including `axis` if it has one.
    axis : object
        The axis as the caller passed it, or -1.
    given : mapping
        The keywords of the call.
    """
    known = tuple(known)
    wrong = next(name for name in given if name not in known)
    written, left = _written(known, axis, given)
    call = f"{operation}({', '.join(written)})"
    meant = _MEANT.get(wrong)
    # Python's own words: there are libraries that look for them, to call again without the argument.
    said = f"{operation}() got an unexpected keyword argument {wrong!r}"
    if wrong in left:
        why = _LEFT_OUT.get(wrong, "")
        of_rows = meant or _similar(wrong, ("axis", "where"))
        if of_rows in ("axis", "where") or wrong in _INVERTED or wrong in _TO_MASKS:
            why = f"{operation} goes element by element"  # the only operation without the two
        if why or given[wrong] is False:
            return ArgumentError(f"{said}{why and f': {why}'}. Leave it out: {call}.")
        return ArgumentError(f"{said}: it takes x by position, and {', '.join(f'{name}=' for name in known)}.")
    if meant == "x":
        return ArgumentError(f"{said}: the logits go first, without a name. Write {call}.")
    if wrong in _TO_LOGITS:
        return ArgumentError(f"{said}: change the logits themselves. Write {call}.")
    if meant in known or wrong in _INVERTED or wrong in _TO_MASKS:
        return ArgumentError(f"{said}; write {call}.")
    return ArgumentError(f"{said}; did you mean {call}?")


def _written(known: tuple[str, ...], axis: Any, given: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """The arguments of the call in polylogit's spelling, and the keywords that it drops."""
    arguments: dict[str, str] = {}
    x, left = "x", []
    if "axis" in known and axis != -1:
        arguments["axis"] = repr(axis)
    for name, value in given.items():
        meant = name if name in known else _MEANT.get(name) or _similar(name, known)
        if meant == "x":
            continue
        if name in _INVERTED and "where" in known:
            arguments["where"] = f"~{name}"
        elif name in _TO_MASKS and "where" in known and value is not False:
            arguments["where"] = _TO_MASKS[name].format(name)
        elif name in _TO_LOGITS:
            x = _TO_LOGITS[name].format(_value(name, value))
        elif meant in known and name not in _LEFT_OUT and name not in _TO_MASKS:
            arguments[meant] = _mask(name, value) if meant == "where" else _value(name, value)
        else:
            left.append(name)
    return [x, *(f"{name}={arguments[name]}" for name in known if name in arguments)], left


def _value(name: str, value: Any) -> str:
    """Return a short value as written, and the name of the argument for any other value."""
    plain = isinstance(value, (bool, int, float, str, type(None)))
    if isinstance(value, (tuple, list)):
        plain = len(value) < 8 and all(isinstance(one, int) for one in value)
    return repr(value) if plain else name


def _mask(name: str, value: Any) -> str:
    """A boolean mask by its name; a mask of numbers as the comparison that makes it boolean."""
    dtype = str(getattr(value, "dtype", "bool"))
    if "bool" in dtype:
        return name
    if name == "attn_mask" and "float" in dtype:
        return f"({name} == 0)"  # PyTorch's are added to the logits: 0 or -inf
    return f"({name} != 0)"


def _similar(name: str, known: tuple[str, ...]) -> str:
    """The known keyword that a misspelt one resembles most; empty if none does."""
    import difflib  # only for an error

    close = difflib.get_close_matches(name, known, n=1)
    return close[0] if close else ""
