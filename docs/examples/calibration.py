"""Calibrate a classifier of handwritten digits with a single temperature, and measure the effect.

A linear classifier is trained on a few of scikit-learn's digits until it knows them by heart, so that it is too sure of
all others. One number repairs that: the temperature at which the negative log-likelihood (NLL) of held-out images is
least. The data comes with scikit-learn, nothing is downloaded.

    python docs/examples/calibration.py
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

import polylogit

TRAINING, HELD_OUT = 200, 500  # images; the rest are for the test
BINS = 10


@functools.cache
def logits_of_digits() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Logits and labels of the held-out images, and of the test images."""
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    images, labels = digits.data[order] / 16.0, digits.target[order]
    model = LogisticRegression(C=1e4, tol=1e-8, max_iter=10_000).fit(images[:TRAINING], labels[:TRAINING])
    logits = model.decision_function(images[TRAINING:])
    labels = labels[TRAINING:]
    return logits[:HELD_OUT], labels[:HELD_OUT], logits[HELD_OUT:], labels[HELD_OUT:]


def nll(logits: np.ndarray, labels: np.ndarray, temperature: float) -> float:
    """The mean negative log-likelihood of the labels."""
    log_probabilities = polylogit.log_softmax(logits, temperature=temperature)
    return float(-log_probabilities[np.arange(len(labels)), labels].mean())


def slope(logits: np.ndarray, labels: np.ndarray, temperature: float) -> float:
    """The derivative of the NLL with respect to the temperature, by the chain rule: sum of dL/dx times -x / T."""
    y, pullback = polylogit.vjp(polylogit.log_softmax, logits, temperature=temperature)
    cotangent = np.zeros_like(y)
    cotangent[np.arange(len(labels)), labels] = -1.0 / len(labels)
    return float(-(pullback(cotangent) * logits).sum() / temperature)


def fitted(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature that minimises the NLL, by bisection: the NLL is convex in 1 / T, so there is one minimum."""
    low, high = 1e-2, 1e2
    while high / low > 1 + 1e-9:
        middle = (low * high) ** 0.5
        low, high = (middle, high) if slope(logits, labels, middle) < 0 else (low, middle)
    return (low * high) ** 0.5


class Reliability(NamedTuple):
    """For each confidence bin: the number of images, the mean confidence, and the accuracy."""

    count: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @property
    def ece(self) -> float:
        """The expected calibration error: the mean distance between confidence and accuracy, weighted by the counts."""
        return float((self.count * np.abs(self.confidence - self.accuracy)).sum() / self.count.sum())


def reliability(probabilities: np.ndarray, labels: np.ndarray) -> Reliability:
    """The points of the diagram; empty bins have none."""
    confidence, right = probabilities.max(-1), probabilities.argmax(-1) == labels
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    count = np.bincount(bins, minlength=BINS)
    seen = count > 0
    return Reliability(
        count[seen],
        np.bincount(bins, confidence, BINS)[seen] / count[seen],
        np.bincount(bins, right, BINS)[seen] / count[seen],
    )


def main() -> None:
    """Print the output that the page shows."""
    held_out, held_out_labels, test, labels = logits_of_digits()
    temperature = fitted(held_out, held_out_labels)
    print(f"temperature {temperature:.2f}, fitted on {len(held_out)} images; measured on {len(test)} others")
    print("              accuracy    NLL   ECE")
    for name, value in (("as trained", 1.0), ("calibrated", temperature)):
        seen = reliability(polylogit.softmax(test, temperature=value), labels)
        accuracy = (seen.count * seen.accuracy).sum() / seen.count.sum()
        print(f"{name:12} {accuracy:9.1%} {nll(test, labels, value):6.3f} {seen.ece:5.1%}")


if __name__ == "__main__":
    main()
