"""What each cause is called, means and is mended with: text only, one entry a cause.

``explanation`` is one sentence and ``fixes`` one line of code for each framework, both with the found parameters in
braces; ``"*"`` serves the frameworks that have no line of their own. In the code, ``x`` stands for the logits and
``p`` for the candidate's output.
"""

from __future__ import annotations

import dataclasses
from typing import Any

__all__ = ["CAUSES", "Cause"]


@dataclasses.dataclass(frozen=True)
class Cause:
    """One named fault."""

    explanation: str
    fixes: dict[str, str]

    def explain(self, parameters: dict[str, Any]) -> str:
        """The explanation with what was found."""
        return self.explanation.format(**parameters)

    def fix(self, framework: str, parameters: dict[str, Any]) -> str:
        """The line of code for a framework."""
        return self.fixes.get(framework, self.fixes.get("*", "")).format(**parameters)


def _softmax(axis: str) -> dict[str, str]:
    return {
        "torch": f"torch.softmax(x, dim={axis})",
        "tensorflow": f"tf.nn.softmax(x, axis={axis})",
        "jax": f"jax.nn.softmax(x, axis={axis})",
        "*": f"polylogit.softmax(x, axis={axis})",
    }


def _prefixed(torch: str, tensorflow: str, jax: str, other: str) -> dict[str, str]:
    return {"torch": torch, "tensorflow": tensorflow, "jax": jax, "*": other}


_ANY_AXES = "polylogit.softmax(x, axis={right_axes})"
_HALF = _prefixed(
    "x = x.float()", "x = tf.cast(x, tf.float32)", "x = x.astype(jnp.float32)", "x = x.astype(np.float32)"
)

CAUSES: dict[str, Cause] = {
    "wrong-axis": Cause(
        "The candidate is normalised over axis {axes}, the reference over axis {right_axes}.",
        {**_softmax("{right_axes}")},
    ),
    "all-axes": Cause(
        "The candidate is normalised over all elements at once, the reference over axis {right_axes} only.",
        {**_softmax("{right_axes}")},
    ),
    "flattened-axes": Cause(
        "The candidate is normalised over the axes {axes} together, the reference over {right_axes}.",
        {"*": _ANY_AXES},
    ),
    "double-softmax": Cause(
        "Softmax is applied twice: the candidate is the softmax of the reference's probabilities.",
        _prefixed(
            "return x  # nn.Softmax follows already; nn.CrossEntropyLoss takes logits",
            "keras.losses.CategoricalCrossentropy(from_logits=True)  # and no softmax in the last layer",
            "return x  # optax.softmax_cross_entropy takes logits",
            "p = x  # it has been through softmax already",
        ),
    ),
    "double-sigmoid": Cause(
        "Sigmoid is applied twice: the candidate is the sigmoid of the reference.",
        _prefixed(
            "torch.nn.functional.binary_cross_entropy_with_logits(x, y)  # and no sigmoid before it",
            "keras.losses.BinaryCrossentropy(from_logits=True)  # and no sigmoid in the last layer",
            "optax.sigmoid_binary_cross_entropy(x, y)  # and no sigmoid before it",
            "p = x  # it has been through sigmoid already",
        ),
    ),
    "log-of-reference": Cause(
        "The candidate is the logarithm of the reference: log-probabilities where probabilities are expected.",
        _prefixed("torch.exp(p)", "tf.exp(p)", "jnp.exp(p)", "np.exp(p)"),
    ),
    "exp-of-reference": Cause(
        "The candidate is the exponential of the reference.",
        _prefixed("torch.log(p)", "tf.math.log(p)", "jnp.log(p)", "np.log(p)"),
    ),
    "missing-log": Cause(
        "The candidate holds probabilities where the reference holds their logarithm: the log is missing.",
        _prefixed(
            "torch.log_softmax(x, dim=-1)",
            "tf.nn.log_softmax(x, axis=-1)",
            "jax.nn.log_softmax(x, axis=-1)",
            "polylogit.log_softmax(x, axis=-1)",
        ),
    ),
    "missing-softmax": Cause(
        "The candidate holds logits: applying softmax to it gives the reference.",
        {**_softmax("-1")},
    ),
    "missing-sigmoid": Cause(
        "The candidate holds logits: applying sigmoid to it gives the reference.",
        _prefixed("torch.sigmoid(x)", "tf.sigmoid(x)", "jax.nn.sigmoid(x)", "polylogit.sigmoid(x)"),
    ),
    "sigmoid-for-softmax": Cause(
        "The candidate applies a sigmoid to each logit by itself, where the reference has a softmax over the classes.",
        {**_softmax("-1")},
    ),
    "binary-sigmoid": Cause(
        "One side has one sigmoid (of column {column}) where the other has a softmax over two classes; softmax over "
        "two classes is the sigmoid of the difference of their logits.",
        {
            "torch": "torch.softmax(torch.stack([torch.zeros_like(x), x], dim=-1), dim=-1)",
            "tensorflow": "tf.nn.softmax(tf.stack([tf.zeros_like(x), x], axis=-1))",
            "jax": "jax.nn.softmax(jnp.stack([jnp.zeros_like(x), x], axis=-1))",
            "*": "polylogit.softmax(np.stack([np.zeros_like(x), x], axis=-1))",
        },
    ),
    "one-class-softmax": Cause(
        "The candidate is a softmax over a single class, which is 1 whatever the logit.",
        _prefixed("torch.sigmoid(x)", "tf.sigmoid(x)", "jax.nn.sigmoid(x)", "polylogit.sigmoid(x)"),
    ),
    "scaled-logits": Cause(
        "The candidate's logits are {factor:.6g} times the reference's{recognized}.",
        {"*": "x = x / {factor:.6g}"},
    ),
    "base-2-exponential": Cause(
        "The candidate uses 2**x for exp(x): its logits are ln 2 = 0.693 times what they should be.",
        _prefixed(
            "torch.exp2(x * 1.4426950408889634)",
            "tf.pow(2.0, x * 1.4426950408889634)",
            "jnp.exp2(x * 1.4426950408889634)",
            "np.exp2(x * 1.4426950408889634)",
        ),
    ),
    "negated-logits": Cause("The candidate's logits have the opposite sign.", {"*": "x = -x"}),
    "class-permutation": Cause(
        "The candidate's classes (axis {axis}) come in another order.",
        _prefixed(
            "p = p.index_select({axis}, torch.tensor({inverse}))",
            "p = tf.gather(p, {inverse}, axis={axis})",
            "p = jnp.take(p, jnp.array({inverse}), axis={axis})",
            "p = np.take(p, {inverse}, axis={axis})",
        ),
    ),
    "batch-permutation": Cause(
        "The candidate's rows (axis {axis}) come in another order: the inputs were shuffled or sorted differently.",
        _prefixed(
            "p = p.index_select({axis}, torch.tensor({inverse}))",
            "p = tf.gather(p, {inverse}, axis={axis})",
            "p = jnp.take(p, jnp.array({inverse}), axis={axis})",
            "p = np.take(p, {inverse}, axis={axis})",
        ),
    ),
    "transposed": Cause(
        "The candidate's axes come in the order {order} of the reference's.",
        _prefixed(
            "x = x.permute({back})",
            "x = tf.transpose(x, {back})",
            "x = jnp.transpose(x, {back})",
            "x = np.transpose(x, {back})",
        ),
    ),
    "float16-rounding": Cause("The candidate's values went through float16, which keeps three digits.", _HALF),
    "bfloat16-rounding": Cause("The candidate's values went through bfloat16, which keeps two digits.", _HALF),
    "epsilon-in-denominator": Cause(
        "The candidate adds {epsilon:.3g} to the sum that it divides by, so that its rows sum to less than one.",
        {**_softmax("-1")},
    ),
    "epsilon-in-log": Cause(
        "The candidate's logarithm is of the probability {how} {epsilon:.3g}, which bends small ones upwards.",
        _prefixed(
            "torch.log_softmax(x, dim=-1)",
            "tf.nn.log_softmax(x, axis=-1)",
            "jax.nn.log_softmax(x, axis=-1)",
            "polylogit.log_softmax(x, axis=-1)",
        ),
    ),
    "underflow-to-log-zero": Cause(
        "The candidate takes the logarithm of a softmax that underflows in {dtype}: -inf below {threshold:.4g}.",
        _prefixed(
            "torch.log_softmax(x, dim=-1)",
            "tf.nn.log_softmax(x, axis=-1)",
            "jax.nn.log_softmax(x, axis=-1)",
            "polylogit.log_softmax(x, axis=-1)",
        ),
    ),
    "dropout-active": Cause(
        "Dropout is active in the candidate, with p = {p:.3g}: a share of {zeros:.3g} is zero and the rest scaled up.",
        _prefixed(
            "model.eval()",
            "model(x, training=False)",
            "model.apply(variables, x, deterministic=True)",
            "p = 0  # no dropout when comparing",
        ),
    ),
    "mask-missing": Cause(
        "The candidate does not apply the mask: without the {entries} entries that the reference masks, it agrees.",
        _prefixed(
            'x = x.masked_fill(~mask, float("-inf"))',
            "x = tf.where(mask, x, -float('inf'))",
            "jax.nn.softmax(x, where=mask, axis=-1)",
            "polylogit.softmax(x, where=mask)",
        ),
    ),
    "mask-inverted": Cause(
        "The candidate's mask is inverted: it keeps exactly the entries that the reference masks.",
        {"*": "mask = ~mask"},
    ),
    "masked-row-policy": Cause(
        "The two differ only in {rows} row(s) without any unmasked entry: {reference} in the reference, {candidate} in "
        "the candidate.",
        {"*": "polylogit.softmax(x, where=mask)  # zeros in such rows, on every framework"},
    ),
    "missing-bias": Cause(
        "The candidate's logits lack a constant for each class, up to {largest:.4g} in size: {shown}.",
        {"*": "x = x + bias  # bias = {shown}"},
    ),
    "hard-argmax": Cause(
        "The candidate holds the largest class alone, where the reference holds probabilities.",
        {**_softmax("-1")},
    ),
    "gradient-scale": Cause(
        "The candidate's gradient is {factor:.6g} times the reference's{recognized}.",
        {"*": "loss = loss / {factor:.6g}"},
    ),
    "gradient-missing": Cause(
        "The candidate's gradient is zero: it is cut off between the output and the input.",
        _prefixed(
            "y = model(x)  # without .detach(), torch.no_grad() and .numpy() on the way",
            "y = model(x)  # without tf.stop_gradient and .numpy() on the way",
            "y = model(x)  # without jax.lax.stop_gradient on the way",
            "y, pullback = polylogit.vjp(polylogit.softmax, x)",
        ),
    ),
    "gradient-masked-nan": Cause(
        "The candidate's gradient is NaN in {entries} place(s), at masked entries, where the reference's is finite.",
        _prefixed(
            "polylogit.softmax(x, where=mask)",
            "polylogit.softmax(x, where=mask)",
            "jax.nn.softmax(x, where=mask, axis=-1)",
            "polylogit.softmax(x, where=mask)",
        ),
    ),
    "wrong-backward": Cause(
        "The candidate's gradient does not belong to its own forward values: its backward pass is wrong{detail}.",
        {"*": "y, pullback = polylogit.vjp({operation}, x)  # instead of the backward pass written by hand"},
    ),
}
