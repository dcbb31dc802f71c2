"""Which modules of two models correspond, by what their descriptions say."""

from __future__ import annotations

import numpy as np
import pytest

from polylogit.errors import ComparisonError
from polylogit.porting._match import Described, fingerprint, match, normalized, patterns, role

RNG = np.random.default_rng(0)
A, B, C = (RNG.standard_normal((4, 6)).astype(np.float32) for _ in range(3))


def linear(name: str, *weights: np.ndarray, parent: int | None = 0) -> Described:
    return Described(name, "Linear", (2, 6), parent, tuple(map(fingerprint, weights)))


ROOT = Described("", "Model", (2, 6), leaf=False)


def names(reference: list[Described], candidate: list[Described], **given: str | None) -> dict[str, tuple[str, str]]:
    found = match(reference, candidate, {key.replace("__", "."): name for key, name in given.items()})
    return {reference[one.reference].name: (candidate[one.candidate].name, one.how) for one in found}


def test_a_fingerprint_is_that_of_the_values_in_whatever_order() -> None:
    assert fingerprint(A) == fingerprint(A.T) == fingerprint(np.sort(A.ravel()))
    assert fingerprint(A) != fingerprint(np.nextafter(A, np.float32(9)))
    assert fingerprint(A.astype(np.float64)) == fingerprint(A)
    assert fingerprint(np.array([-0.0])) == fingerprint(np.array([0.0]))


def test_a_fused_matrix_has_the_fingerprint_of_its_parts() -> None:
    assert fingerprint(np.concatenate([A, B, C])) == fingerprint(A) + fingerprint(B) + fingerprint(C)


def test_zeros_and_ones_tell_nothing() -> None:
    assert fingerprint(np.ones(5)).trivial
    assert fingerprint(np.zeros(5)).trivial
    assert not fingerprint(A).trivial


@pytest.mark.parametrize("name", ["layers_0/Dense", "layers.0.dense", "layers._0/dense", "Layers.0.Dense"])
def test_names_have_one_spelling(name: str) -> None:
    assert normalized(name) == "layers.0.dense"


def test_equal_names_match_whatever_their_spelling() -> None:
    found = names([ROOT, linear("h.0.fc", A), linear("h.1.fc", B)], [ROOT, linear("h_0/fc", A), linear("h_1/fc", B)])
    assert found == {"": ("", "order"), "h.0.fc": ("h_0/fc", "name"), "h.1.fc": ("h_1/fc", "name")}


def test_a_name_that_one_side_puts_before_all_is_left_out() -> None:
    found = names([ROOT, linear("bert.a", A), linear("bert.b", B)], [ROOT, linear("b", B), linear("a", A)])
    assert found["bert.a"] == ("a", "name")
    assert found["bert.b"] == ("b", "name")


def test_weights_overrule_names_that_are_counted_from_elsewhere() -> None:
    reference = [ROOT, linear("h.0", A), linear("h.1", B), linear("h.2", C)]
    candidate = [ROOT, linear("h.1", A), linear("h.2", B), linear("h.3", C)]
    assert names(reference, candidate)["h.1"] == ("h.2", "weights")


def test_names_overrule_weights_that_one_module_has_wrongly() -> None:
    wrong = linear("b", np.zeros_like(B))
    assert names([ROOT, linear("a", A), linear("b", B)], [ROOT, linear("a", A.T), wrong])["b"] == ("b", "name")


def test_weights_match_where_names_say_nothing() -> None:
    found = names([ROOT, linear("fc", A), linear("out", B)], [ROOT, linear("dense_1", B.T), linear("dense", A.T)])
    assert found["fc"] == ("dense", "weights")
    assert found["out"] == ("dense_1", "weights")


def test_order_within_a_module_matches_what_is_left() -> None:
    found = names([ROOT, linear("fc", A), linear("out", B)], [ROOT, linear("x", A + 1), linear("y", B + 1)])
    assert found["fc"] == ("x", "order")
    assert found["out"] == ("y", "order")


def test_what_could_be_either_is_left_alone() -> None:
    found = names([ROOT, linear("fc", A), linear("out", B)], [ROOT, linear("x", A + 1)])
    assert list(found) == [""]


def test_a_wrapper_is_not_taken_for_what_it_wraps() -> None:
    reference = [
        ROOT,
        Described("wrap", "Block", (2, 6), 0, (fingerprint(A),), leaf=False),
        linear("wrap.fc", A, parent=1),
    ]
    found = names(reference, [ROOT, linear("dense", A)])
    assert found["wrap.fc"] == ("dense", "weights")
    assert "wrap" not in found


def test_shapes_that_cannot_correspond_do_not_match() -> None:
    other = linear("fc", A)._replace(shape=(2, 7))
    assert "fc" not in names([ROOT, linear("fc", A)], [ROOT, other])


def test_patterns_pair_and_leave_out() -> None:
    reference = [ROOT, linear("h.0.fc", A), linear("h.1.fc", B), linear("tail", C)]
    candidate = [ROOT, linear("block_0.dense", B), linear("block_1.dense", A), linear("tail", C)]
    given = {"h.*.fc": "block_*.dense", "tail": None}
    found = {reference[one.reference].name: candidate[one.candidate].name for one in match(reference, candidate, given)}
    assert found == {"": "", "h.0.fc": "block_0.dense", "h.1.fc": "block_1.dense"}


def test_patterns_without_a_module_are_errors() -> None:
    with pytest.raises(ComparisonError, match="no module of the reference"):
        patterns({"nowhere.*": "x"}, ["a"], ["x"])
    with pytest.raises(ComparisonError, match="'x_1', which is no module of the candidate"):
        patterns({"a.*": "x_*"}, ["a.1"], ["y"])


def test_a_class_that_may_be_a_matrix_or_a_convolution_has_no_role() -> None:
    assert role("Conv1D") == ""
    assert role("Conv2d") == "conv"
    assert role("FlaxBertLayerNorm") == "norm"
