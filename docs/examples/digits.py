"""Train the same classifier in NumPy, PyTorch, TensorFlow and JAX, and measure how far the four drift apart.

One layer, 64 pixels in, 10 digits out, a softmax head; the loss is the cross-entropy through `polylogit.log_softmax`.
All start from the same weights and see the same batches; each differentiates with its own autodiff, NumPy with
`polylogit.vjp`. The data comes with scikit-learn, nothing is downloaded.

    python docs/examples/digits.py                  # every framework that is installed
    python docs/examples/digits.py --plot digits.svg
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

import polylogit

STEPS, BATCH, RATE = 200, 128, 1.0
TEST_IMAGES = 397
# The largest difference in the weights after the last step that is allowed.
TOLERANCE = {"float32": 1e-4, "float64": 1e-10}


@dataclass
class Run:
    """The training in one framework: its values after each step, as NumPy arrays."""

    loss: np.ndarray  # (steps,), of the training batch
    logits: np.ndarray  # (steps, test images, 10)
    probabilities: np.ndarray  # (steps, test images, 10)
    weights: np.ndarray  # (steps, 64, 10)

    def accuracy(self, labels: np.ndarray) -> np.ndarray:
        """The fraction of test images that is classified correctly, after each step."""
        return (self.probabilities.argmax(axis=-1) == labels).mean(axis=-1)


# --- one training step in each framework: (weights, images, targets) -> (loss, new weights) --------------------------


def numpy_step() -> Any:
    """NumPy has no autodiff: polylogit has the pullback of log_softmax; that of the matrix product is well known."""

    def step(weights: Any, images: Any, targets: Any) -> tuple[Any, Any]:
        log_probabilities, pullback = polylogit.vjp(polylogit.log_softmax, images @ weights)
        loss = -(targets * log_probabilities).sum() / len(images)
        return loss, weights - RATE * (images.T @ pullback(-targets / len(images)))

    return step


def torch_step() -> Any:
    """Autograd records the operations on a tensor that requires a gradient."""
    import torch

    def step(weights: Any, images: Any, targets: Any) -> tuple[Any, Any]:
        weights = weights.detach().requires_grad_()
        loss = -(targets * polylogit.log_softmax(images @ weights)).sum() / len(images)
        (gradient,) = torch.autograd.grad(loss, weights)
        return loss, (weights - RATE * gradient).detach()

    return step


def tensorflow_step() -> Any:
    """A gradient tape records, and tf.function compiles the step."""
    import tensorflow as tf

    @tf.function
    def step(weights: Any, images: Any, targets: Any) -> tuple[Any, Any]:
        with tf.GradientTape() as tape:
            tape.watch(weights)
            loss = -tf.reduce_sum(targets * polylogit.log_softmax(images @ weights)) / images.shape[0]
        return loss, weights - RATE * tape.gradient(loss, weights)

    return step


def jax_step() -> Any:
    """jax.value_and_grad transforms the loss function, and jax.jit compiles the step."""
    import jax

    def loss(weights: Any, images: Any, targets: Any) -> Any:
        return -(targets * polylogit.log_softmax(images @ weights)).sum() / len(images)

    @jax.jit
    def step(weights: Any, images: Any, targets: Any) -> tuple[Any, Any]:
        value, gradient = jax.value_and_grad(loss)(weights, images, targets)
        return value, weights - RATE * gradient

    return step


STEP = {"numpy": numpy_step, "torch": torch_step, "tensorflow": tensorflow_step, "jax": jax_step}


# --- the training -----------------------------------------------------------------------------------------------------


def data() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Training images and labels, test images and labels; pixels scaled to [0, 1], in one fixed shuffled order."""
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    images, labels = digits.data[order] / 16.0, digits.target[order]
    return images[:-TEST_IMAGES], labels[:-TEST_IMAGES], images[-TEST_IMAGES:], labels[-TEST_IMAGES:]


def train(name: str, dtype: str) -> Run:
    """Train in one framework; everything but the step is the same for all."""
    train_images, train_labels, test_images, _ = data()
    targets = np.eye(10)[train_labels]
    rng = np.random.default_rng(1)
    weights = rng.normal(0.0, 0.01, (64, 10))
    backend = polylogit.get_backend(name)

    def array(values: np.ndarray) -> Any:
        return backend.asarray(values.astype(dtype))

    step, weights, test_images = STEP[name](), array(weights), array(test_images)
    held = []
    for _ in range(STEPS):
        batch = rng.choice(len(train_images), BATCH, replace=False)
        loss, weights = step(weights, array(train_images[batch]), array(targets[batch]))
        logits = test_images @ weights
        held.append([backend.to_numpy(value) for value in (loss, logits, polylogit.softmax(logits), weights)])
    return Run(*(np.stack(values) for values in zip(*held, strict=True)))


def spread(runs: dict[str, Run], quantity: str) -> np.ndarray:
    """Largest difference between any two frameworks in a quantity, after each step."""
    values = np.stack([getattr(run, quantity) for run in runs.values()])
    return np.ptp(values, axis=0).reshape(STEPS, -1).max(axis=-1)


QUANTITIES = ("logits", "probabilities", "loss", "weights")


def report(runs: dict[str, Run], dtype: str) -> bool:
    """Print accuracy and drift; tell whether the frameworks stayed within the tolerance."""
    labels = data()[-1]
    print(f"{dtype}: {', '.join(runs)}")
    print("  step  test accuracy        largest difference between any two in")
    print("        lowest  highest  " + "".join(f"{quantity:>15}" for quantity in QUANTITIES))
    accuracy = np.stack([run.accuracy(labels) for run in runs.values()])
    for index in (0, *range(49, STEPS, 50)):
        drift = "".join(f"{spread(runs, quantity)[index]:15.1e}" for quantity in QUANTITIES)
        print(f"  {index + 1:4d}  {accuracy[:, index].min():6.2%}  {accuracy[:, index].max():7.2%}  {drift}")
    agrees = bool(spread(runs, "weights")[-1] <= TOLERANCE[dtype])
    print(f"  the weights {'agree' if agrees else 'DISAGREE'} within {TOLERANCE[dtype]:g}\n")
    return agrees


def plot(results: dict[str, dict[str, Run]], path: Path) -> None:
    """Draw the accuracy (one line, if all is well) and the drift at both precisions."""
    from matplotlib import pyplot

    pyplot.rcParams.update(
        {"svg.fonttype": "none", "svg.hashsalt": "digits", "font.size": 10, "font.family": "sans-serif"}
    )
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    steps, labels = np.arange(1, STEPS + 1), data()[-1]
    for width, (name, run) in zip((7, 5, 3, 1), results["float32"].items(), strict=False):
        left.plot(steps, 100 * run.accuracy(labels), linewidth=width, label=name)
    left.set(title="Four frameworks, one curve", xlabel="step", ylabel="test accuracy in % (float32)", ylim=(60, 100))
    left.legend(frameon=False, loc="lower right")
    for color, quantity in zip(("C0", "C1", "C2", "C3"), QUANTITIES, strict=True):
        for dtype, line in (("float32", "-"), ("float64", "--")):
            so_far = np.maximum.accumulate(spread(results[dtype], quantity))
            right.semilogy(steps, so_far, line, color=color, label=quantity if dtype == "float32" else None)
    for dtype, height in (("float32", 2e-5), ("float64", 5e-14)):
        right.text(STEPS, height, dtype, ha="right")
    right.set(title="Largest difference between any two, so far", xlabel="step", ylim=(1e-17, 1e-3))
    right.legend(frameon=False, ncols=2, loc="center")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    figure.savefig(path, metadata={"Date": None})


def main(arguments: list[str] | None = None) -> int:
    """Train, print and plot; the exit status is 1 if the frameworks disagree."""
    installed = [info.name for info in polylogit.backends() if info.installed and info.name in STEP]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", action="append", choices=installed, help="may be repeated; default: all installed")
    parser.add_argument("--plot", type=Path, help="write a figure here")
    options = parser.parse_args(arguments)
    names = options.backend or installed
    if "jax" in names:
        import jax

        jax.config.update("jax_enable_x64", True)  # or JAX would turn float64 into float32
    results = {dtype: {name: train(name, dtype) for name in names} for dtype in TOLERANCE}
    agrees = [report(runs, dtype) for dtype, runs in results.items()]
    if options.plot:
        plot(results, options.plot)
    return 0 if all(agrees) else 1


if __name__ == "__main__":
    sys.exit(main())
