"""scikit-learn: polylogit in ``predict_proba``, on NumPy's arrays and, by array API dispatch, on PyTorch's.

The dispatch wants SCIPY_ARRAY_API set before SciPy is imported, so what needs it is a process of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import cross_val_score

import polylogit

DISPATCHED = """
import numpy as np
import sklearn
import torch
from sklearn.datasets import load_iris
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

import polylogit

x, y = load_iris(return_X_y=True)
x = x.astype("float32")


class Probable(LinearDiscriminantAnalysis):
    def predict_proba(self, X):
        return polylogit.softmax(self.decision_function(X), axis=1)


with sklearn.config_context(array_api_dispatch=True):
    by_torch = Probable().fit(torch.asarray(x), torch.asarray(y))
    p = by_torch.predict_proba(torch.asarray(x))
    assert type(p) is torch.Tensor and p.dtype is torch.float32
    # Its own is softmax of the same scores, by its own operations. Both of them are right to 4 + 2d + 2 log2(3) units
    # of the result, d being at most 110 where it is not 0.
    own = LinearDiscriminantAnalysis.predict_proba(by_torch, torch.asarray(x))
    assert torch.allclose(p, own, rtol=2 * 230 * torch.finfo(torch.float32).eps, atol=1e-35)
    assert (p.argmax(1) == by_torch.predict(torch.asarray(x))).all()

p = Probable().fit(x, y).predict_proba(x)
assert type(p) is np.ndarray and p.dtype == np.float32
"""


class Probable(RidgeClassifier):
    """A classifier with scores and no probabilities."""

    def predict_proba(self, X: np.ndarray) -> np.ndarray:  # noqa: N803  scikit-learn's name
        return polylogit.softmax(self.decision_function(X), axis=1)


def test_scores_become_probabilities_that_a_scorer_takes() -> None:
    x, y = load_digits(return_X_y=True)
    p = Probable().fit(x, y).predict_proba(x)
    assert (p.argmax(1) == Probable().fit(x, y).predict(x)).all()
    losses = -cross_val_score(Probable(), x[:300], y[:300], scoring="neg_log_loss", cv=3)
    assert (losses < np.log(10)).all()  # better than saying nothing


def test_array_api_dispatch_keeps_tensors_tensors() -> None:
    environment = {**os.environ, "SCIPY_ARRAY_API": "1"}
    done = subprocess.run(
        [sys.executable, "-c", DISPATCHED], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
