"""Arrays stay on their device, and none is read back: on a second CPU device, in processes that are told of two."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

IN_JAX = """
    import itertools
    import jax, jax.numpy as jnp, numpy as np, polylogit

    def calls(x, mask):
        for operation in ("softmax", "log_softmax", "sigmoid"):
            function = getattr(polylogit, operation)
            rows = operation != "sigmoid"
            for given in ({}, {"dtype": "float32"}, *({"axis": (0, 1)}, {"axis": None}, {"where": mask}) * rows):
                yield operation, given, lambda function=function, given=given: function(x, **given)
            if jnp.issubdtype(x.dtype, jnp.floating):
                yield operation, "vjp", lambda function=function: polylogit.vjp(function, x)[1](x)
                yield operation, "jvp", lambda function=function: polylogit.jvp(function, x, x)[1]

    second = jax.devices()[1]
    for dtype in ("float32", "bfloat16", "int32"):
        x = jax.device_put(np.ones((3, 600)), second).astype(dtype)
        mask = jax.device_put(np.ones((3, 600), bool), second)
        for operation, given, call in calls(x, mask):
            # Nothing but what is asked for crosses between the host and a device, or between two devices.
            with jax.transfer_guard("disallow"):
                y = call()
            assert y.devices() == {second}, (operation, given, y.devices())
    try:
        with jax.transfer_guard("disallow"):
            jnp.ones(3) + np.ones(3)
    except Exception as error:
        print("noticed:", "Disallowed host-to-device transfer" in str(error))
"""

IN_TENSORFLOW = """
    import tensorflow as tf, polylogit

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    tf.config.experimental.set_synchronous_execution(True)
    with tf.device("/CPU:1"):
        for dtype in (tf.float64, tf.float32, tf.float16, tf.bfloat16, tf.int32):
            x = tf.cast(tf.ones((3, 600)), dtype)
            assert x.device.endswith("CPU:1")
            for operation in ("softmax", "log_softmax", "sigmoid"):
                function = getattr(polylogit, operation)
                rows = operation != "sigmoid"
                for given in ({}, {"dtype": "float32"}, *({"axis": (0, 1)}, {"axis": None}, {"where": x > 0}) * rows):
                    y = function(x, **given)
                    assert y.device == x.device, (operation, given, y.device)
    print("noticed:", tf.ones(3).device.endswith("CPU:0"))
"""


def run(program: str, **environment: str) -> str:
    told = {**os.environ, "CUDA_VISIBLE_DEVICES": "", **environment}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], env=told, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_jax_results_lie_where_the_logits_do_and_nothing_is_transferred() -> None:
    two = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    assert "noticed: True" in run(IN_JAX, **two)


def test_tensorflow_results_lie_where_the_logits_do() -> None:
    assert "noticed: True" in run(IN_TENSORFLOW, TF_CPP_MIN_LOG_LEVEL="3")
