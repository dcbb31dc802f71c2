"""Two PyTorch models compared module by module, and what is done where modules have no counterpart."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from polylogit._cli import polylogit as command
from polylogit.errors import ComparisonError
from polylogit.porting import compare, isolate, record, tap
from porting import small_transformers as small

X = torch.tensor(small.X)


def test_a_model_agrees_with_its_copy_and_is_left_as_it_was() -> None:
    model = small.torch_encoder()
    before = {name: one.clone() for name, one in model.state_dict().items()}
    found = isolate(model, copy.deepcopy(model), small.X)
    assert found.agrees, str(found)
    assert found.whole == ""
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())
    for name, one in model.state_dict().items():
        assert one.dtype == torch.float32
        assert torch.equal(one, before[name])


def test_a_fault_too_small_for_the_outputs_is_found_in_each_module() -> None:
    model, port = small.torch_encoder(), small.torch_encoder()
    port.blocks[1].norm1.eps = 1e-6
    found = isolate(model, port, small.X)
    assert found.first_divergence == "blocks.1.norm1"
    assert [one.status for one in found.activations].count("disagrees") == 1
    assert found.cause is not None
    assert found.cause.name == "norm-epsilon"


class Attention(torch.nn.Module):
    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.dtype, self.q, self.k, self.v = dtype, *(torch.nn.Linear(16, 16) for _ in range(3))

    def forward(self, x: Any) -> Any:
        scores = self.q(x) @ self.k(x).transpose(-1, -2)
        return torch.softmax(scores.to(self.dtype), -1).float() @ self.v(x)


@pytest.mark.parametrize("compared", [isolate, lambda a, b, x: compare(record(a), record(b), inputs=x)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_softmax_in_16_bits_within_a_wider_model_is_named(dtype: torch.dtype, compared: Any) -> None:
    found = compared(Attention(torch.float32), Attention(dtype), small.X)
    assert found.cause is not None
    assert found.cause.name == f"{str(dtype).removeprefix('torch.')}-rounding"
    assert compared(Attention(torch.float32), Attention(torch.float32), small.X).agrees


def test_a_model_in_training_is_said_to_be() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 64), torch.nn.Dropout(0.1), torch.nn.Linear(64, 3))
    port = copy.deepcopy(model).eval()
    x = np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32)
    found = compare(model, port, inputs=x).cause
    assert found is not None
    assert "call eval() on the reference" in found.fix
    model.eval()
    port[2].bias.data += 0.1
    found = isolate(model.train(), port, x).cause
    assert found is not None
    assert repr(isolate(model.eval(), port, x)).startswith("<Isolation disagrees: ")


class Images(torch.nn.Module):
    """Two convolutions, and the images between them with their channels first or last."""

    def __init__(self, channels: int, *, last: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        kind = ChannelsLast if last else torch.nn.Conv2d
        self.axes, self.last = (1, 2) if last else (2, 3), last
        self.a, self.b = kind(3, channels, 3, padding=1), kind(channels, channels, 3, padding=1)

    def forward(self, x: Any) -> Any:
        x = x.permute(0, 2, 3, 1) if self.last else x
        return self.b(torch.relu(self.a(x))).mean(self.axes)


class ChannelsLast(torch.nn.Conv2d):
    def forward(self, x: Any) -> Any:
        return super().forward(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


@pytest.mark.parametrize("channels", [6, 8])
def test_channels_first_or_last_make_no_difference_whatever_the_sizes(channels: int) -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
    port = Images(channels, last=True)
    assert isolate(Images(channels, last=False), port, x).agrees
    with torch.no_grad():  # nothing like the original's, in whatever layout
        port.a.weight.copy_(torch.roll(port.a.weight, 1, 0).flip(1))
    found = isolate(Images(channels, last=False), port, x)
    assert [one.name for one in found.activations if not one.verdict.agrees] == ["a"]


def test_channels_left_first_for_a_module_that_takes_them_last_are_found() -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
    port = Images(8, last=True)
    port.b.forward = torch.nn.Conv2d(8, 8, 3, padding=1).forward  # type: ignore[method-assign]
    assert isolate(Images(8, last=False), port, x).first_divergence == "b"


@pytest.mark.parametrize("size", [1e4, -1e6])
def test_a_massive_channel_hides_nothing_in_the_others(size: float) -> None:
    """With these, the root mean square over the whole of the fault is below a rounding error of the massive channel."""
    x = np.random.default_rng(0).standard_normal((4, 5, 16)).astype(np.float32)
    model, port = small.torch_encoder(), small.torch_encoder()
    with torch.no_grad():
        for one in (model, port):
            one.blocks[0].down.weight[3] *= size
    assert isolate(model, port, x).agrees
    with torch.no_grad():
        port.blocks[0].down.bias[5] += 1e-3
    found = isolate(model, port, x)
    assert found.first_divergence == "blocks.0.down"
    assert [one.name for one in found.activations if not one.verdict.agrees] == ["blocks.0.down"]


def test_what_a_module_computes_beside_its_parts_has_noise_of_its_own() -> None:
    """The original has a module for what the port does by a few operations, right and with more rounding."""

    class Mlp(torch.nn.Module):
        def __init__(self, act: Any) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.up, self.down, self.act = torch.nn.Linear(16, 64), torch.nn.Linear(64, 16), act

        def forward(self, x: Any) -> Any:
            return self.down(self.act(self.up(x)))

    port = Mlp(lambda x: x * (0.5 * (1.0 + torch.erf(x * 0.5**0.5))))
    x = 3.0 * np.random.default_rng(0).standard_normal((4, 12, 16)).astype(np.float32)
    found = isolate(torch.nn.Sequential(Mlp(torch.nn.GELU())), torch.nn.Sequential(port), x)
    assert found.agrees, str(found)
    assert "0" in [one.name for one in found.activations]


def test_a_value_that_came_from_elsewhere_is_compared_where_it_goes() -> None:
    """The port passes on a module's output where the original added to it."""

    class Residual(torch.nn.Module):
        def __init__(self, scale: float) -> None:
            super().__init__()
            self.first, self.second, self.scale = torch.nn.Linear(16, 16), torch.nn.Linear(16, 16), scale

        def forward(self, x: Any) -> Any:
            hidden = self.first(x)
            return self.second(hidden + x if self.scale else hidden)

    model, port = Residual(1.0), Residual(0.0)
    port.load_state_dict(model.state_dict())
    found = isolate(model, port, small.X)
    assert found.first_divergence == "(the model itself)"
    assert found.places["(the model itself)"] == "in what it passes to second as input"


def test_modules_that_write_into_their_inputs_change_nothing() -> None:
    def model(inplace: bool) -> Any:
        torch.manual_seed(0)
        layers = [torch.nn.Linear(16, 16), torch.nn.ReLU(inplace=inplace), torch.nn.Linear(16, 4)]
        return torch.nn.Sequential(*layers)

    for both in ((False, True), (True, False), (True, True)):
        found = isolate(*map(model, both), small.X)
        assert found.agrees, str(found)


def test_channels_at_the_end_and_at_the_front_are_the_same() -> None:
    class Last(torch.nn.Module):
        def __init__(self, conv: Any) -> None:
            super().__init__()
            self.conv = Transposing(conv)

        def forward(self, x: Any) -> Any:
            return torch.relu(self.conv(x)).sum((1, 2))

    class Transposing(torch.nn.Module):
        def __init__(self, conv: Any) -> None:
            super().__init__()
            self.weight, self.bias = conv.weight, conv.bias

        def forward(self, x: Any) -> Any:
            return torch.conv2d(x.movedim(-1, 1), self.weight, self.bias).movedim(1, -1)

    class First(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 7, 3)

        def forward(self, x: Any) -> Any:
            return torch.relu(self.conv(x)).sum((2, 3))

    images = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
    model = First()
    found = isolate(model, Last(model.conv), images, candidate_inputs=np.moveaxis(images, 1, -1))
    assert found.agrees, str(found)
    assert [one.name for one in found.activations] == ["conv", "(the model itself)"]


def test_names_pair_what_nothing_else_pairs_and_leave_out() -> None:
    model, port = small.torch_encoder(), small.torch_encoder()
    with torch.no_grad():
        port.blocks[0].up.bias.zero_()
    assert isolate(model, port, small.X, names={"blocks.*.up": None}).agrees is False  # its block has the fault now
    found = isolate(model, port, small.X, names={"blocks.*.up": "blocks.*.up"})
    assert found.first_divergence == "blocks.0.up"
    assert {one.how for one in found.pairs if one.name.endswith("up")} == {"names="}
    with pytest.raises(ComparisonError, match="no module of the reference"):
        isolate(model, port, small.X, names={"layers.*": "blocks.*"})


def test_a_module_that_fails_on_the_originals_inputs_is_left_out_with_the_reason() -> None:
    class Choosy(torch.nn.Linear):
        def forward(self, x: Any) -> Any:
            if (x > 0).any():
                raise ValueError("only negative inputs")
            return super().forward(x)

    def model(kind: Any, sign: float) -> Any:
        torch.manual_seed(0)
        made = torch.nn.Sequential(torch.nn.Linear(16, 16), torch.nn.ReLU(), kind(16, 4))
        made[1].register_forward_hook(lambda *given: sign * given[2])
        return made

    found = isolate(model(torch.nn.Linear, 1.0), model(Choosy, -1.0), small.X)
    assert found.status == "disagrees"
    assert any(
        one.startswith("2: the candidate's fails on the original's inputs. ValueError") for one in found.unmatched
    )


def test_functions_are_compared_by_their_taps_and_the_report_says_so() -> None:
    def before(x: Any) -> Any:
        return tap("scores", x * 2).sum(-1)

    def after(x: Any) -> Any:
        return tap("scores", x * 3).sum(-1)

    found = isolate(before, after, small.X)
    assert found.first_divergence == "scores"
    assert "Not in isolation, errors propagate" in found.summary()


def test_a_function_that_calls_a_model_is_isolated_in_the_model() -> None:
    model, port = small.torch_encoder(), small.torch_encoder()
    with torch.no_grad():
        port.blocks[1].attention.key.weight.copy_(port.blocks[1].attention.key.weight.T.clone())
    found = isolate(lambda x: model(x).sum(-1), lambda x: port(x).sum(-1), small.X)
    assert found.first_divergence == "blocks.1.attention.key"


def test_models_that_cannot_be_called_are_errors() -> None:
    with pytest.raises(ComparisonError, match="the candidate could not be called"):
        isolate(torch.nn.Linear(16, 4), torch.nn.Linear(8, 4), small.X)


def test_the_command_line_isolates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code = (
        "import torch\n"
        "torch.manual_seed(0)\n"
        "model = torch.nn.Sequential(torch.nn.Linear(16, 16), torch.nn.GELU(), torch.nn.Linear(16, 4))\n"
        "port = torch.nn.Sequential(model[0], torch.nn.GELU('tanh'), model[2])\n"
    )
    Path("isolated_models.py").write_text(code)
    np.save("x.npy", small.X)
    models = ["compare", "isolated_models:model", "isolated_models:port", "--isolate"]
    done = CliRunner().invoke(command, [*models, "--inputs", "x.npy", "--json", "found.json"])
    assert done.exit_code == 1, done.output
    assert "first divergence: 1" in done.output
    assert json.loads(Path("found.json").read_text())["first_divergence"] == "1"
    done = CliRunner().invoke(command, [*models, "--inputs", "x.npy", "--name", "1=1", "--name", "0=2"])
    assert done.exit_code == 1
    done = CliRunner().invoke(command, models)
    assert done.exit_code == 2
    assert "give the inputs" in done.output


# --- weights that are known ------------------------------------------------------------------------------------------


def quantized(values: Any, levels: int, axis: int | None = None) -> Any:
    """On a grid with as many levels to either side of 0, one scale for the whole or for each index of an axis."""
    step = np.abs(values).max(axis=axis, keepdims=axis is not None) / levels
    return (np.round(values / step) * step).astype(np.float32)


def with_weight(name: str, change: Any) -> Any:
    """The small encoder with one weight changed."""
    port = small.torch_encoder()
    with torch.no_grad():
        weight = port.get_parameter(name)
        weight.copy_(torch.tensor(np.ascontiguousarray(change(weight.numpy().copy()))))
    return port


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (np.transpose, "weight-transposed"),
        (lambda w: quantized(w, 127), "quantized-weights"),
        (lambda w: quantized(w, 127, axis=1), "quantized-weights"),
        (lambda w: quantized(w, 7, axis=0), "quantized-weights"),
        (lambda w: w.astype(np.float16), "unknown"),
        (lambda w: w[::-1], "unknown"),
        (lambda w: w.T[::-1], "unknown"),
        (lambda w: quantized(w, 127) + np.abs(w).max() / 64, "unknown"),
    ],
)
def test_weights_decide_where_the_outputs_do_not(change: Any, cause: str) -> None:
    """With 15 rows for 16 channels, any outputs are made by some weight."""
    name = "blocks.1.attention.out"
    found = isolate(small.torch_encoder(), with_weight(f"{name}.weight", change), small.X)
    assert found.first_divergence == name
    assert found.cause is not None
    assert found.cause.name == cause


def test_a_quantised_table_is_named_and_weights_that_do_not_explain_the_outputs_are_not() -> None:
    class Model(torch.nn.Module):
        def __init__(self, more: float = 0.0) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.table, self.out, self.more = torch.nn.Embedding(50, 16), torch.nn.Linear(16, 16), more
            self.out.register_forward_hook(lambda *given: given[2] + more)

        def forward(self, tokens: Any) -> Any:
            return self.out(self.table(tokens))

    tokens = np.arange(12).reshape(3, 4)
    port = Model()
    port.table.weight.data = torch.tensor(quantized(port.table.weight.detach().numpy(), 127))
    found = isolate(Model(), port, tokens)
    assert (found.first_divergence, found.cause and found.cause.name) == ("table", "quantized-weights")
    twice = Model(more=0.5)
    twice.out.weight.data = torch.tensor(quantized(twice.out.weight.detach().numpy(), 127))
    found = isolate(Model(), twice, tokens)
    assert (found.first_divergence, found.cause and found.cause.name) == ("out", "unknown")


def test_a_softmax_by_hand_is_compared_by_what_comes_of_it_and_the_report_says_so() -> None:
    class Attention(torch.nn.Module):
        def __init__(self, softmax: Any) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.scores, self.out, self.softmax = torch.nn.Linear(16, 5), torch.nn.Linear(5, 4), softmax

        def forward(self, x: Any) -> Any:
            return self.out(self.softmax(self.scores(x)))

    def by_hand(x: Any) -> Any:
        e = torch.exp(x - x.max(-1, keepdim=True).values)
        return e / e.sum(-1, keepdim=True)

    model = Attention(lambda x: torch.softmax(x, -1))
    found = isolate(model, Attention(by_hand), small.X)
    assert found.agrees, str(found)
    assert any("1 were seen in the reference and 0 in the candidate" in one for one in found.unmatched)
    found = isolate(model, Attention(lambda x: by_hand(2 * x)), small.X)
    assert found.cause is not None
    assert found.cause.name == "scaled-logits"
