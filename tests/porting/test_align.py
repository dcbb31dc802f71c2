"""Which activation stands for which: by name, pattern, number, order and shape; and what stays without a match."""

from __future__ import annotations

import collections.abc
from typing import Any

import numpy as np
import pytest

from polylogit.errors import ComparisonError
from polylogit.porting import compare
from polylogit.porting._align import align
from polylogit.porting._alike import alike, can_correspond

RNG = np.random.default_rng(0)


def arrays(**shapes: tuple[int, ...]) -> dict[str, Any]:
    return {name.replace("__", "."): RNG.standard_normal(shape) for name, shape in shapes.items()}


def softmax_calls(count: int, shape: tuple[int, ...] = (2, 3)) -> dict[str, Any]:
    names = [f"softmax:{number}.{what}" for number in range(1, count + 1) for what in ("scores", "weights")]
    return {name: RNG.standard_normal(shape) for name in names}


def test_a_star_stands_for_one_run_of_characters_and_exact_names_win() -> None:
    left = arrays(h__0__mlp=(2,), h__1__mlp=(2,), h__10__mlp=(2,))
    right = arrays(block_1__ffn=(2,), block_0__ffn=(2,), last=(2,), block_10__ffn=(2,))
    found = align(left, right, {"h.*.mlp": "block_*.ffn", "h.10.mlp": "last"})
    assert found.pairs == [("h.0.mlp", "block_0.ffn"), ("h.1.mlp", "block_1.ffn"), ("h.10.mlp", "last")]
    assert found.unmatched == ("block_10.ffn",)


def test_several_stars_are_filled_in_order() -> None:
    left, right = arrays(a__0__b__1=(2,), z=(3,)), arrays(x0y1=(2,))
    assert align(left, right, {"a.*.b.*": "x*y*"}).pairs == [("a.0.b.1", "x0y1")]
    with pytest.raises(ComparisonError, match="as many in both"):
        align(left, right, {"a.*.b.*": "x*"})


def test_what_one_side_lacks_is_listed_and_inputs_are_not() -> None:
    left = {**arrays(a=(2, 3), b=(2, 4), only=(5,)), "a:input": RNG.standard_normal((2, 3))}
    right = {**arrays(b=(2, 4), a=(2, 3), extra=(7,)), "a:input": RNG.standard_normal((2, 9))}
    found = align(left, right)
    assert found.pairs == [("a", "a"), ("b", "b")]
    assert found.unmatched == ("only", "extra")
    assert align(left, right, {"a:input": "a:input"}).pairs[-1] == ("a:input", "a:input")


def test_nothing_in_common_is_an_error_that_lists_both_sides() -> None:
    with pytest.raises(ComparisonError, match=r"the reference has \['a'\], the candidate \['b', 'c'\]"):
        align(arrays(a=(2,)), arrays(b=(3,), c=(4,)))


def test_softmax_calls_are_paired_by_number_if_there_are_as_many() -> None:
    same = align({**softmax_calls(2), **arrays(output=(2, 3))}, {**softmax_calls(2), **arrays(output=(2, 3))})
    assert [name for name, _ in same.pairs][:3] == ["softmax:1.scores", "softmax:1.weights", "softmax:2.scores"]
    fewer = align({**softmax_calls(2), **arrays(output=(2, 3))}, {**softmax_calls(1), **arrays(output=(2, 3))})
    assert fewer.pairs == [("output", "output")]
    assert len(fewer.unmatched) == 6
    other = align({**softmax_calls(1), **arrays(output=(2, 3))}, {**softmax_calls(1, (5, 7)), **arrays(output=(2, 3))})
    assert other.pairs == [("output", "output")]


def test_where_few_names_agree_order_and_shape_decide_between_matches() -> None:
    left = {**arrays(fc1=(4, 8), act=(4, 8)), **softmax_calls(1), **arrays(fc2=(4, 3), output=(4, 3))}
    right = {**arrays(dense=(4, 8), relu=(4, 8)), **softmax_calls(1), **arrays(head=(4, 3), output=(4, 3))}
    pairs = dict(align(left, right).pairs)
    assert (pairs["fc1"], pairs["act"], pairs["fc2"]) == ("dense", "relu", "head")


def test_the_summary_shows_which_name_stands_for_which() -> None:
    x = RNG.standard_normal((4, 3))
    found = compare({"a": x, "output": x[0]}, {"b": x, "output": x[0]}, names={"a": "b"})
    assert "agrees  a (b in the candidate): equal" in found.summary()
    assert "agrees  output: equal" in found.summary()


def test_order_decides_nothing_where_there_is_a_choice() -> None:
    left, right = arrays(fc1=(4, 8), act=(4, 8), output=(4, 3)), arrays(dense=(4, 8), output=(4, 3))
    found = align(left, right)
    assert found.pairs == [("output", "output")]
    assert found.unmatched == ("fc1", "act", "dense")


def test_order_is_not_believed_where_the_values_say_otherwise() -> None:
    query, key, output = RNG.standard_normal((3, 4, 4))
    left = {"q": query, "k": key, "output": output}
    assert align(left, {"key": key, "query": query, "output": output}).pairs == [("output", "output")]
    broken = align(left, {"query": query, "key": key + 1, "output": output})
    assert broken.pairs == [("q", "query"), ("k", "key"), ("output", "output")]


def test_a_model_within_another_and_a_tuple_of_one_are_seen_through() -> None:
    left = {**arrays(emb=(2, 5), layer__0=(2, 3), layer__1=(2, 4)), "output.hidden": RNG.standard_normal((2, 4))}
    right = arrays(bert__emb=(2, 5), bert__layer__0=(2, 3))
    right |= {"bert.layer.1[0]": RNG.standard_normal((2, 4)), "output": RNG.standard_normal((2, 4))}
    found = align(left, right)
    expected = [("emb", "bert.emb"), ("layer.0", "bert.layer.0"), ("layer.1", "bert.layer.1[0]")]
    assert found.pairs == [*expected, ("output.hidden", "output")]


def test_the_same_two_values_are_compared_once_and_outputs_always() -> None:
    x, y = RNG.standard_normal((2, 2, 3))
    left, right = ({"a": one, "b": one, "softmax:1.weights": one, "output": one} for one in (x, y))
    assert align(left, right).pairs == [("a", "a"), ("output", "output")]


def test_a_layer_with_its_activation_inside_is_compared_before_it() -> None:
    linear = RNG.standard_normal((4, 3))
    right = {"dense:linear": linear + 1e-7, "dense": np.tanh(linear), "output": np.tanh(linear)}
    found = align({"dense": linear, "output": np.tanh(linear)}, right)
    assert found.pairs == [("dense", "dense:linear"), ("output", "output")]
    assert align({"dense": np.tanh(linear), "output": linear}, right).pairs[0] == ("dense", "dense")


def test_shapes_that_cannot_correspond_are_one_row_among_others() -> None:
    a, b = RNG.standard_normal((6, 5)), RNG.standard_normal((6, 4))
    found = compare({"a": a, "b": b}, {"a": a, "b": b[:, :3]})
    assert [one.status for one in found.activations] == ["agrees", "disagrees"]
    assert found.cause is not None
    assert found.cause.name == "unknown"
    assert "(6, 4) in the reference and (6, 3) in the candidate cannot correspond" in found.cause.explanation
    found.summary()
    later = compare({"a": a, "b[1]": b}, {"a": a, "b[1]": b[:, :3]})
    assert later.agrees
    assert later.unmatched == ("b[1]", "b[1]")


@pytest.mark.parametrize(
    ("r", "c", "possible"),
    [
        ((6, 5), (5, 6), True),
        ((6, 2), (6, 1), True),
        ((6, 5), (6,), True),
        ((6, 5), (6, 4), False),
        ((6,), (0,), False),
    ],
)
def test_shapes_correspond_if_some_fault_makes_one_of_the_other(r: Any, c: Any, possible: bool) -> None:
    assert can_correspond(r, c) is possible


def test_layouts_and_shared_batches_are_no_differences_within_a_model() -> None:
    x = RNG.standard_normal((2, 3, 4, 5))
    np.testing.assert_array_equal(alike("conv", x, np.moveaxis(x, 1, -1))[1], x)
    assert alike("output", x, np.moveaxis(x, 1, -1))[1].shape == (2, 4, 5, 3)
    once = RNG.standard_normal((1, 3, 4))
    r, c = alike("positions", once, np.repeat(once, 2, axis=0))
    np.testing.assert_array_equal(r, c)


def test_the_fills_of_masks_say_nothing_of_the_scores() -> None:
    scores = RNG.standard_normal((3, 4)).astype(np.float32)
    mask = np.triu(np.ones((3, 4), bool), 1)
    r, c = np.where(mask, np.float32(-1e9), scores), np.where(mask, -np.inf, scores).astype(np.float32)
    assert compare({"softmax:1.scores": r, "output": scores}, {"softmax:1.scores": c, "output": scores}).agrees
    unmasked = alike("softmax:1.scores", r, scores)
    np.testing.assert_array_equal(*unmasked)
    assert np.isfinite(unmasked[0]).all()
    np.testing.assert_array_equal(*alike("whatever they are called", r, c))
    few = np.where(np.arange(64) == 7, np.float32(-1e9), np.ones((3, 64), np.float32))
    assert alike("a massive activation", few, few)[0] is few


def test_what_is_read_anew_each_time_is_no_repeat() -> None:
    values = {name: RNG.standard_normal((2, 3)) for name in ("a", "b", "c")}
    read: list[str] = []

    class File(collections.abc.Mapping[str, Any]):
        def __getitem__(self, name: str) -> Any:
            read.append(name)
            return values[name].copy()

        def __iter__(self) -> Any:
            return iter(values)

        def __len__(self) -> int:
            return len(values)

        def __contains__(self, name: object) -> bool:
            return name in values

    assert align(File(), File()).pairs == [("a", "a"), ("b", "b"), ("c", "c")]
    assert read == []


def test_layers_that_are_listed_otherwise_are_the_same_under_another_root() -> None:
    values = [RNG.standard_normal((2, 3)) for _ in range(4)]
    torch = dict(
        zip(
            ("transformer.h.0.ln_1", "transformer.h.0.mlp", "transformer.h.1.ln_1", "transformer.h.1[0]"),
            values,
            strict=True,
        )
    )
    for names in (("h_0.ln_1", "h_0.mlp", "h_1.ln_1", "h_1"), ("h/0/ln_1", "h/0/mlp", "h/1/ln_1", "h/1")):
        other = dict(zip(names, values, strict=True))
        assert align(torch, other).pairs == list(zip(torch, other, strict=True))
        assert align(other, torch).pairs == list(zip(other, torch, strict=True))
        without_root = {name.removeprefix("transformer."): value for name, value in torch.items()}
        assert align(without_root, other).pairs == list(zip(without_root, other, strict=True))


def test_a_pattern_that_makes_no_name_of_the_candidate_is_a_mistake_unless_other_means_match() -> None:
    reference = {"a.0": np.ones(3), "b": np.ones(4)}
    with pytest.raises(ComparisonError, match=r"'a\.\*' of names= makes 'x_0' of 'a\.0', which the candidate lacks"):
        align(reference, {"b": np.ones(4)}, {"a.*": "x_*"})
    found = align(reference, {"a.0": np.ones(3), "b": np.ones(4)}, {"a.*": "x_*"})
    assert found.pairs == [("a.0", "a.0"), ("b", "b")]
