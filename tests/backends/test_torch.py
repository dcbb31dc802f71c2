"""PyTorch: its own machinery, its own tensor types, and the corrections of its native calls."""

from __future__ import annotations

import copy
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from torch.export import Dim, export

import polylogit
from frameworks import older
from polylogit import errors
from polylogit._backends.torch import TorchBackend

OPERATIONS = ("softmax", "log_softmax", "sigmoid")
NATIVE = {"softmax": torch.softmax, "log_softmax": torch.log_softmax}
BACKEND = TorchBackend()

if older("torch", "2.7"):  # whose first call in a process has to be outside of what is compiled (docs/versions.md)
    polylogit.softmax(torch.ones(1))


@pytest.fixture(autouse=True)
def fresh_dynamo() -> None:
    torch._dynamo.reset()


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(4, 7, generator=torch.Generator().manual_seed(0)) * 3


def logits(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype) * 3


def graph_of(function: object, *arguments: object, dynamic: bool = False) -> list[object]:
    """The operations of the FX graph that torch.compile makes, in one graph."""
    graphs = []

    def keep(module: torch.fx.GraphModule, _: object) -> object:
        graphs.append([node.target for node in module.graph.nodes if node.op.startswith("call")])
        return module

    torch.compile(function, fullgraph=True, backend=keep, dynamic=dynamic)(*arguments)
    assert len(graphs) == 1
    return graphs[0]


@pytest.mark.contract(28)
class TestCompiled:
    @pytest.mark.parametrize("operation", OPERATIONS)
    @pytest.mark.parametrize("backend", ["eager", "aot_eager", "inductor"])
    def test_in_one_graph_with_the_values_of_eager(self, operation: str, backend: str, x: torch.Tensor) -> None:
        function = getattr(polylogit, operation)
        compiled = torch.compile(lambda x: function(x * 2) + 1, fullgraph=True, backend=backend)
        torch.testing.assert_close(compiled(x), function(x * 2) + 1, rtol=1e-6, atol=1e-6)

    @pytest.mark.parametrize("operation", OPERATIONS)
    def test_a_first_call_may_be_inside_the_compiled_function(self, operation: str) -> None:
        class Logits(torch.nn.Parameter):
            pass

        polylogit._registry.TABLES[operation].pop(torch.nn.Parameter, None)
        parameter = torch.nn.Parameter(torch.zeros(3))
        compiled = torch.compile(lambda: getattr(polylogit, operation)(parameter), fullgraph=True, backend="eager")
        torch.testing.assert_close(compiled(), getattr(polylogit, operation)(parameter))

    @pytest.mark.parametrize("operation", ["softmax", "log_softmax"])
    def test_the_graph_holds_the_native_call_alone(self, operation: str, x: torch.Tensor) -> None:
        function = getattr(polylogit, operation)
        assert graph_of(function, x) == graph_of(lambda x: NATIVE[operation](x, -1), x)
        assert graph_of(lambda x: function(x, 0), logits(32, 300)) == [NATIVE[operation]]

    def test_the_graph_of_sigmoid_holds_the_native_call_alone(self, x: torch.Tensor) -> None:
        assert graph_of(polylogit.sigmoid, x) == graph_of(torch.sigmoid, x)

    @pytest.mark.parametrize("axis", [None, (0, 2), (), -1])
    def test_masks_axes_and_dtypes_are_traced_in_one_graph(self, axis: object) -> None:
        x, mask = logits(2, 3, 4), logits(3, 1) > 0

        def masked(x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return polylogit.softmax(x, axis, where=mask, dtype=torch.float64)

        backend = "aot_eager" if older("torch", "2.7") else "inductor"  # which fails there by itself (docs/versions.md)
        compiled = torch.compile(masked, fullgraph=True, backend=backend)
        torch.testing.assert_close(compiled(x, mask), masked(x, mask))

    @pytest.mark.parametrize("dtype", [torch.uint8, torch.bool, torch.float16, torch.bfloat16])
    def test_other_dtypes_are_traced_in_one_graph(self, dtype: torch.dtype) -> None:
        x = (logits(3, 5) > 0).to(dtype)
        for operation in OPERATIONS:
            function = getattr(polylogit, operation)
            torch.testing.assert_close(torch.compile(function, fullgraph=True)(x), function(x))

    @pytest.mark.parametrize("operation", ["softmax", "log_softmax"])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_dynamic_shapes_and_long_rows(self, operation: str, dtype: torch.dtype) -> None:
        function = getattr(polylogit, operation)
        compiled = torch.compile(function, fullgraph=True, dynamic=True)
        for length in (5, 70, 1000, 3000, 100_000):
            x = logits(2, length, dtype=dtype)
            exact = NATIVE[operation](x, -1, dtype=torch.float64)
            torch.testing.assert_close(compiled(x).double(), exact, rtol=5e-6, atol=1e-30)

    def test_gradients_flow_through_the_compiled_function(self, x: torch.Tensor) -> None:
        x.requires_grad_()
        weights = torch.arange(7.0)
        torch.compile(lambda x: (polylogit.log_softmax(x) * weights).sum(), fullgraph=True)(x).backward()
        expected = weights - torch.softmax(x, -1) * weights.sum()
        torch.testing.assert_close(x.grad, expected.detach(), rtol=1e-5, atol=1e-5)

    def test_vjp_and_jvp_are_traced_in_one_graph(self, x: torch.Tensor) -> None:
        def both(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            _, pullback = polylogit.vjp(polylogit.softmax, x)
            return pullback(x), polylogit.jvp(polylogit.softmax, x, x)[1]

        for got, expected in zip(torch.compile(both, fullgraph=True)(x), both(x), strict=True):
            torch.testing.assert_close(got, expected)

    def test_composed_with_a_scale_at_1e10_inductor_keeps_the_probability_of_1(self) -> None:
        x = logits(16, 100) * 1e10
        y = torch.compile(lambda x: polylogit.softmax(x / 0.7), fullgraph=True)(x)
        torch.testing.assert_close(y, torch.softmax(x / 0.7, -1))


class _Head(torch.nn.Module):
    def __init__(self, operation: str, axis: int = -1) -> None:
        super().__init__()
        self.operation, self.axis = operation, axis

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.operation == "sigmoid":
            return polylogit.sigmoid(x)
        return getattr(polylogit, self.operation)(x, self.axis)


@pytest.mark.contract(28)
class TestExported:
    @pytest.mark.parametrize("operation", OPERATIONS)
    @pytest.mark.parametrize("strict", [False, True])
    def test_with_a_dynamic_batch_and_the_native_call_alone(self, operation: str, strict: bool) -> None:
        program = export(_Head(operation), (logits(3, 5),), dynamic_shapes=({0: Dim("batch")},), strict=strict)
        calls = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
        native = {"sigmoid": "aten.sigmoid.default"}.get(operation, f"aten.{operation}.int")
        assert calls == [native]
        x = logits(9, 5)
        torch.testing.assert_close(program.module()(x), _Head(operation)(x))

    @pytest.mark.parametrize("operation", ["softmax", "log_softmax"])
    @pytest.mark.parametrize("strict", [False, True])
    def test_a_dynamic_row_is_unconstrained_and_accurate_at_every_length(self, operation: str, strict: bool) -> None:
        program = export(_Head(operation), (logits(3, 5),), dynamic_shapes=({1: Dim("classes")},), strict=strict)
        for length in (4, 100_000):
            x = logits(3, length)
            exact = NATIVE[operation](x, -1, dtype=torch.float64)
            torch.testing.assert_close(program.module()(x).double(), exact, rtol=5e-6, atol=1e-30)

    def test_a_dynamic_float64_row(self) -> None:
        program = export(_Head("softmax"), (logits(3, 5).double(),), dynamic_shapes=({1: Dim("classes")},))
        x = logits(3, 2000).double()
        torch.testing.assert_close(program.module()(x), torch.softmax(x, -1))


@pytest.mark.contract(28)
class TestTransforms:
    @pytest.mark.parametrize("operation", OPERATIONS)
    def test_vmap_grad_and_jacrev(self, operation: str, x: torch.Tensor) -> None:
        function = getattr(polylogit, operation)
        torch.testing.assert_close(torch.func.vmap(function)(x), function(x))
        torch.testing.assert_close(
            torch.func.vmap(function, in_dims=1, out_dims=1)(x.T.contiguous().T), function(x.T).T
        )
        jacobian = torch.func.jacrev(function)(x[0])
        torch.testing.assert_close(jacobian, torch.func.jacfwd(function)(x[0]), rtol=1e-5, atol=1e-6)
        gradient = torch.func.grad(lambda x: (function(x) * torch.arange(7.0)).sum())(x[0])
        torch.testing.assert_close(gradient, torch.arange(7.0) @ jacobian, rtol=1e-5, atol=1e-6)
        assert torch.func.hessian(lambda x: function(x)[0])(x[0]).isfinite().all()

    def test_vmap_over_masks(self, x: torch.Tensor) -> None:
        mask = x > 0
        batched = torch.func.vmap(lambda x, mask: polylogit.softmax(x, where=mask))(x, mask)
        torch.testing.assert_close(batched, polylogit.softmax(x, where=mask))

    def test_no_nan_arises_on_the_way_through_a_mask(self) -> None:
        x = torch.tensor([[1.0, torch.inf, 2.0], [torch.nan] * 3], requires_grad=True)
        mask = torch.tensor([[True, False, True], [False] * 3])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that anomalies are looked for
            watch = torch.autograd.detect_anomaly()
        with watch:
            (gradient,) = torch.autograd.grad(polylogit.softmax(x, where=mask)[:, 0].sum(), x)
        assert gradient.isfinite().all()

    def test_forward_mode_warns_of_nothing(self) -> None:
        code = "import torch, polylogit; x = torch.zeros(2); polylogit.jvp(polylogit.softmax, x, x)"
        done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    def test_first_and_second_order_through_autograd(self) -> None:
        x = logits(3, 4, dtype=torch.float64).requires_grad_()
        mask = torch.tensor([[True, False, True, True]])
        for operation in OPERATIONS:
            options = {} if operation == "sigmoid" else {"where": mask}

            def finite(x: torch.Tensor, operation: str = operation, options: dict = options) -> torch.Tensor:
                y = getattr(polylogit, operation)(x, **options)
                return torch.where(y.isfinite(), y, 0.0)

            assert torch.autograd.gradcheck(finite, x, check_forward_ad=True)
            assert torch.autograd.gradgradcheck(finite, x)

    def test_the_result_of_vjp_is_differentiable_in_turn(self) -> None:
        x = logits(4, dtype=torch.float64).requires_grad_()
        _, pullback = polylogit.vjp(polylogit.log_softmax, x)
        (second,) = torch.autograd.grad(pullback(torch.ones_like(x)).square().sum(), x)
        assert second.abs().sum() > 0

    def test_vjp_takes_the_user_s_own_function(self, x: torch.Tensor) -> None:
        y, pullback = polylogit.vjp(lambda x, scale: polylogit.softmax(x * scale).sum(0), x, scale=2.0)
        assert y.shape == (7,)
        assert pullback(torch.ones(7)).shape == x.shape
        torch.testing.assert_close(pullback(y), pullback(y))

    def test_a_cotangent_of_another_shape_is_refused(self, x: torch.Tensor) -> None:
        _, pullback = polylogit.vjp(polylogit.softmax, x)
        with pytest.raises(errors.DifferentiationError, match=r"\(7,\).*\(4, 7\)"):
            pullback(torch.ones(7))

    @pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
    def test_without_recording_the_values_are_the_same(self, mode: object, x: torch.Tensor) -> None:
        expected = [getattr(polylogit, operation)(x) for operation in OPERATIONS]
        with mode():
            got = [getattr(polylogit, operation)(x) for operation in OPERATIONS]
        torch.testing.assert_close(got, expected)

    def test_autocast_runs_and_is_as_accurate_as_its_input(self, x: torch.Tensor) -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = polylogit.softmax(x @ torch.eye(7))
        torch.testing.assert_close(y.float().sum(-1), torch.ones(4), atol=1e-2, rtol=0)


class Plain(torch.Tensor):
    """A subclass as users write it."""


@pytest.mark.contract(26)
class TestTypes:
    def test_a_parameter_gives_a_tensor_and_gets_a_gradient(self) -> None:
        parameter = torch.nn.Parameter(torch.zeros(3))
        y = polylogit.softmax(parameter)
        assert type(y) is torch.Tensor
        (y * torch.arange(3.0)).sum().backward()
        torch.testing.assert_close(parameter.grad, torch.tensor([-1.0, 0.0, 1.0]) / 3)

    @pytest.mark.parametrize("operation", OPERATIONS)
    @pytest.mark.parametrize("options", [{}, {"axis": None}, {"dtype": "float64"}])
    def test_a_subclass_is_kept_as_torch_keeps_it(self, operation: str, options: dict[str, object]) -> None:
        if operation == "sigmoid":
            options = {key: value for key, value in options.items() if key != "axis"}
        y = getattr(polylogit, operation)(torch.zeros(2, 2).as_subclass(Plain), **options)
        assert type(y) is Plain

    @pytest.mark.parametrize("operation", OPERATIONS)
    def test_fake_and_meta_tensors_give_shapes(self, operation: str) -> None:
        from torch._subclasses.fake_tensor import FakeTensorMode

        with FakeTensorMode():
            fake = torch.empty(3, 2000)
            y = getattr(polylogit, operation)(fake)
        assert y.shape == (3, 2000)
        assert getattr(polylogit, operation)(torch.empty(3, 4, device="meta")).device.type == "meta"

    def test_a_sparse_tensor_is_refused_with_a_remedy(self) -> None:
        with pytest.raises(errors.UnsupportedArrayError, match="to_dense"):
            polylogit.softmax(torch.eye(3).to_sparse())

    def test_a_quantized_tensor_is_refused(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            quantized = torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)
        for operation in OPERATIONS:
            with pytest.raises(errors.DTypeError, match="qint8"):
                getattr(polylogit, operation)(quantized)

    def test_a_distributed_tensor_is_served(self, tmp_path: object) -> None:
        import torch.distributed as dist
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.tensor import DTensor, Shard, distribute_tensor

        dist.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
        try:
            mesh = init_device_mesh("cpu", (1,))
            x = logits(4, 6)
            distributed = distribute_tensor(x, mesh, [Shard(0)])
            for operation in OPERATIONS:
                y = getattr(polylogit, operation)(distributed)
                assert type(y) is DTensor
                torch.testing.assert_close(y.full_tensor(), getattr(polylogit, operation)(x))
        finally:
            dist.destroy_process_group()

    def test_modules_holding_the_function_can_be_copied_and_scripted_types_kept(self) -> None:
        head = copy.deepcopy(_Head("softmax", 0))
        torch.testing.assert_close(head(torch.zeros(2)), torch.full((2,), 0.5))


@pytest.mark.contract(18)
class TestLongRows:
    """The CPU kernels' running sum; see `_LONGEST`. A row of equal terms is where it drifts most."""

    @pytest.mark.parametrize("axis", [0, -1])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("length", [100, 513, 1025, 128_256])
    def test_sums_to_one_where_the_native_call_drifts(self, length: int, dtype: torch.dtype, axis: int) -> None:
        row = torch.cat([torch.zeros(1), torch.full((length - 1,), -0.1)]).to(dtype)
        x = row if axis == -1 else torch.stack([row] * 8, 1)
        total = polylogit.softmax(x, axis).double().sum(axis)
        bound = torch.finfo(dtype).eps * (4 + 2 * np.log2(length))
        assert (total - 1).abs().max() <= bound
        log_total = polylogit.log_softmax(x, axis).double().exp().sum(axis)
        assert (log_total - 1).abs().max() <= torch.finfo(dtype).eps * (1 + np.log(length)) * (2 + np.log2(length))

    @pytest.mark.parametrize("axis", [0, -1])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_and_their_gradients_do_not_drift_in_inductor_s_loops(self, dtype: torch.dtype, axis: int) -> None:
        length = 100_000
        row = torch.cat([torch.zeros(1), torch.full((length - 1,), -0.1)]).to(dtype)
        x = row if axis == -1 else torch.stack([row] * 8, 1)
        for function in (polylogit.softmax, polylogit.log_softmax):

            def both(x: torch.Tensor, function: object = function) -> tuple[torch.Tensor, torch.Tensor]:
                y, pullback = polylogit.vjp(function, x, axis=axis)
                return y, pullback(x.cos())

            for got, expected in zip(torch.compile(both, fullgraph=True)(x), both(x), strict=True):
                # All but one of the cotangents are alike, so that the gradient is what cancellation leaves.
                slack = 40 * torch.finfo(dtype).eps
                torch.testing.assert_close(got, expected, rtol=slack, atol=slack * both(x)[0].abs().max().item())

    @pytest.mark.parametrize("operation", ["softmax", "log_softmax"])
    @pytest.mark.parametrize(("shape", "axis"), [((130, 33), -1), ((3, 1000), -1), ((70, 5), 0), ((4, 65, 2), 1)])
    def test_nothing_of_a_row_is_left_out_where_inductor_computes_on(
        self, operation: str, shape: tuple[int, ...], axis: int
    ) -> None:
        x, function = 5 * logits(*shape), getattr(polylogit, operation)
        compiled = torch.compile(lambda x: function(x + x, axis) * 2.0 * 0.5, fullgraph=True)
        exact = NATIVE[operation](2 * x.double(), axis)
        torch.testing.assert_close(compiled(x).double(), exact, rtol=2e-5, atol=1e-6)

    def test_inductor_still_leaves_out_what_does_not_fill_a_chunk(self) -> None:
        # pytorch#195582; with it repaired, what is spread over the chunks of a long row need not be made before.
        def cut(x: torch.Tensor, chunks: torch.Tensor) -> torch.Tensor:
            return x - chunks.unsqueeze(-1).expand(-1, -1, 32).flatten(1).narrow(1, 0, x.shape[1])

        x, chunks = logits(130, 33), torch.zeros(130, 2)
        assert not torch.equal(torch.compile(cut)(x, chunks), x)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_the_derivative_does_not_underflow_before_the_value(self, dtype: torch.dtype) -> None:
        info = torch.finfo(dtype)
        lowest = float(np.log(info.tiny)) + 16
        x = torch.cat([torch.zeros(600), torch.full((600,), lowest)]).to(dtype)
        _, pullback = polylogit.vjp(polylogit.softmax, x)
        (one_hot,) = torch.eye(1200, dtype=dtype)[1199:]
        exact = torch.softmax(x.double(), -1)[-1].item()
        assert pullback(one_hot)[-1].item() == pytest.approx(exact, rel=1e-4)

    def test_the_native_call_still_drifts(self) -> None:
        row = torch.cat([torch.zeros(1), torch.full((128_255,), -0.1)])
        assert (torch.softmax(row, -1).double().sum() - 1).abs() > 1e-5
        assert (torch.softmax(torch.stack([row] * 8, 1), 0).double().sum(0) - 1).abs().max() > 1e-4
        assert (torch.softmax(row.double(), -1).sum() - 1).abs() > 100 * torch.finfo(torch.float64).eps


class TestCompilers:
    def test_compile_any_number_of_closures(self) -> None:
        for compiler in BACKEND.compilers().values():
            for count in range(10):
                compiled = compiler(lambda x, count=count: polylogit.softmax(x * count))
                torch.testing.assert_close(compiled(torch.ones(2)), torch.full((2,), 0.5))


class TestArrays:
    @pytest.mark.parametrize("name", BACKEND.dtypes())
    def test_every_dtype_goes_to_numpy_and_back(self, name: str) -> None:
        x = BACKEND.asarray([0.5, 1.0, -2.0], dtype=name)
        assert BACKEND.dtype_name(x) == name
        array = BACKEND.to_numpy(x)
        assert array.dtype.name == name
        again = BACKEND.asarray(array)
        assert BACKEND.dtype_name(again) == name
        assert again.double().tolist() == [0.5, 1.0, -2.0]

    def test_an_array_is_copied(self) -> None:
        array = np.zeros(2)
        tensor = BACKEND.asarray(array)
        tensor[0] = 1
        assert array.tolist() == [0.0, 0.0]

    def test_what_torch_cannot_hold_is_refused(self) -> None:
        with pytest.raises(errors.DTypeError, match=r"longdouble|float128"):
            BACKEND.asarray(np.zeros(2, np.longdouble))
        with pytest.raises(errors.DTypeError, match="float33"):
            BACKEND.asarray([1.0], dtype="float33")
