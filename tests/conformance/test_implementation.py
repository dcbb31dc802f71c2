"""How an implementation is asked: by its signature, or by what a universal function says of itself."""

import numpy as np
import pytest
from scipy.special import expit

import polylogit
from polylogit import conformance
from polylogit.conformance._implementation import Implementation, implementation_of
from polylogit.conformance._request import Request
from polylogit.conformance._run_case import raised
from polylogit.errors import ConformanceError

from .kernels.faults import softmax


class OfRows:
    """What Numba makes of the code of a row: a universal function that is no `numpy.ufunc`."""

    nin, nout, signature, types = 1, 1, "(n)->(n)", ("f->f",)
    __name__ = "of_rows"

    def __init__(self, function):
        self.function = function
        self.__wrapped__ = lambda x, y: None  # its signature is the row's, with the output

    def __call__(self, x, axis=-1):
        return self.function(x, axis)


def verdicts(report, dtype):
    return {result.verdict for result in report.results if result.dtype == dtype}


def test_a_ufunc_of_elements_is_asked_for_the_dtypes_that_it_has_loops_for():
    report = conformance.check(expit, "sigmoid", level="quick")
    assert report.passed, report.summary()
    assert verdicts(report, "float64") == {"passed", "unsupported"}
    (refused,) = [result for result in report.results if result.dtype == "bfloat16"]
    assert refused.verdict == "unsupported"
    assert "no loop for bfloat16" in refused.message


def test_a_ufunc_of_rows_takes_an_axis_though_its_signature_shows_none():
    implementation = Implementation(polylogit.get_backend("numpy"), "softmax", OfRows(softmax))
    assert implementation.offers_axis
    assert implementation.default_axis
    assert not implementation.offers_where
    report = conformance.check(OfRows(softmax), "softmax", level="quick")
    assert report.passed, report.summary()
    assert verdicts(report, "float16") == {"unsupported"}
    assert any(result.check == "axes" and result.verdict == "passed" for result in report.results)


def test_a_wrong_ufunc_is_caught():
    wrong = OfRows(lambda x, axis: softmax(x, axis) * np.float32(1.001))
    assert conformance.check(wrong, "softmax", level="quick").status == 1


@pytest.mark.requires("torch")
def test_a_custom_operator_without_a_forward_mode_is_not_taken_for_a_wrong_one():
    import torch

    @torch.library.custom_op("polylogit_tests::sigmoid", mutates_args=())
    def operator(x: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(x)

    operator.register_fake(torch.empty_like)
    operator.register_autograd(
        lambda ctx, g: g * ctx.saved_tensors[0] * (1 - ctx.saved_tensors[0]),
        setup_context=lambda ctx, inputs, output: ctx.save_for_backward(output),
    )
    checks = ["values", "vjp", "jvp"]
    report = conformance.check(
        operator, "sigmoid", backend="torch", level="quick", dtypes=["float64"], checks=checks, name="operator"
    )
    assert report.passed, report.summary()
    of_jvp = [result for result in report.results if result.check == "jvp"]
    assert {result.verdict for result in of_jvp} == {"unsupported"}
    assert "forward mode" in of_jvp[0].message


def masked(x, axis=-1, where=None):
    return polylogit.softmax(x, axis, where=where)


def pullback(x, cotangent, axis=-1, where=None):
    return polylogit.vjp(polylogit.softmax, x, axis=axis, where=where)[1](cotangent)


def without_mask(x, cotangent, axis=-1):
    return pullback(x, cotangent, axis)


def ignores_the_mask(x, cotangent, axis=-1, where=None):
    return pullback(x, cotangent, axis)


@pytest.mark.parametrize(
    ("vjp", "verdict"), [(pullback, "passed"), (ignores_the_mask, "failed"), (without_mask, "unsupported")]
)
def test_a_gradient_of_ones_own_is_asked_under_masks_if_it_takes_them(vjp, verdict):
    options = {"vjp": vjp, "level": "quick", "dtypes": ["float32"], "only": ["vjp/float32/where*"], "search": 0}
    report = conformance.check(masked, "softmax", **options)
    assert verdicts(report, "float32") == {verdict}


def test_a_device_that_is_not_there_is_named():
    with pytest.raises(ConformanceError, match="numpy cannot create arrays on device 'cuda'"):
        conformance.check(softmax, "softmax", device="cuda")


def test_a_function_without_return_is_named_so_once_for_each_dtype():
    def forgetful(x, axis=-1):
        np.exp(x)

    report = conformance.check(forgetful, "softmax", level="quick", dtypes=["float32", "float64"], only=["shapes"])
    assert {result.message for result in report.results} == {
        "refused with TypeError: it returned None; a function without `return` does"
    }
    assert len(report.results) == 2
    assert not report.passed


def test_what_cannot_be_called_is_no_implementation():
    with pytest.raises(ConformanceError, match="is a float, which cannot be called"):
        implementation_of("numpy", "softmax", "math:pi")


@pytest.mark.requires("jax")
def test_a_function_compiled_with_a_traced_axis_is_told_how_to_be_compiled():
    import jax

    def along(x, axis=-1):
        return jax.nn.softmax(x, axis=axis)

    asked = Request(np.ones((2, 3)), "float32", axis=-1)
    for compiled, works in ((jax.jit(along), False), (jax.jit(along, static_argnames="axis"), True)):
        answer = implementation_of("jax", "softmax", compiled).ask(asked)
        assert (answer.error is None) == works
        assert works or 'jax.jit(function, static_argnames="axis")' in raised(answer.error)
