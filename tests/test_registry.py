"""The registry: which backend owns a type, found without importing anything, by any number of threads at once."""

from __future__ import annotations

import importlib
import subprocess
import sys
import textwrap
from typing import Any

import numpy as np
import pytest

import polylogit
from frameworks import FRAMEWORKS
from polylogit import _registry as registry
from polylogit import errors
from polylogit._backends.numpy import NumpyBackend
from polylogit._operations import OPERATIONS, Operation

HEAVY = (*FRAMEWORKS, "jaxlib", "ml_dtypes", "keras", "scipy", "mpmath", "click", "rich")


def run_python(code: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


BLOCKER = f"""
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {HEAVY!r}:
            raise AssertionError(f"{{name}} was imported")

sys.meta_path.insert(0, Blocker())
"""


class TestImport:
    def test_imports_no_framework_not_even_numpy(self) -> None:
        loaded = f"print([m for m in sys.modules if m.partition('.')[0] in {HEAVY!r}])"
        assert run_python(BLOCKER + "import polylogit\n" + loaded).strip() == "[]"

    def test_listing_backends_imports_none_of_them(self) -> None:
        code = BLOCKER.replace('raise AssertionError(f"{name} was imported")', "return None")
        listed = f"print([m for m in sys.modules if m in {HEAVY!r}], len(polylogit.backends()))"
        assert run_python(code + "import polylogit\n" + listed).strip() == "[] 4"

    def test_a_bad_argument_is_refused_without_importing_a_framework(self) -> None:
        code = """
        import polylogit
        try:
            polylogit.softmax(object())
        except TypeError as error:
            print(type(error).__name__, "torch" in sys.modules)
        """
        assert run_python(BLOCKER + textwrap.dedent(code)).strip() == "UnsupportedArrayError False"

    def test_every_public_name_can_be_had(self) -> None:
        for name in polylogit.__all__:
            assert getattr(polylogit, name) is not None
        assert set(polylogit.__all__) <= set(dir(polylogit))

    def test_an_unknown_name_is_an_attribute_error(self) -> None:
        with pytest.raises(AttributeError, match="softmin"):
            _ = polylogit.softmin

    def test_backends_stays_callable_when_its_modules_are_imported(self) -> None:
        polylogit.get_backend("numpy")
        importlib.import_module("polylogit._backends.numpy")

        assert tuple(info.name for info in polylogit.backends())[:4] == FRAMEWORKS


class TestResolution:
    def test_only_the_framework_that_defines_the_type_is_asked(self) -> None:
        code = """
        import sys, types
        import numpy as np
        broken = types.ModuleType("torch")        # half imported: it has nothing in it
        sys.modules["torch"] = broken
        sys.modules["tensorflow"] = None          # import raises
        import polylogit
        print(polylogit.softmax(np.zeros(2)).tolist())
        """
        assert run_python(code).strip() == "[0.5, 0.5]"

    @pytest.mark.contract(29)
    def test_a_broken_framework_is_named_with_its_cause_and_the_command(self) -> None:
        code = """
        import sys, types
        sys.modules["torch"] = types.ModuleType("torch")
        import polylogit
        try:
            polylogit.softmax([1.0], backend="torch")
        except ImportError as error:
            print(type(error).__name__, error)
        print([info.reason for info in polylogit.backends() if info.name == "torch"])
        """
        printed = run_python(code)
        assert "BackendUnavailableError backend 'torch' cannot be used" in printed
        assert 'pip install "torch>=2.6"' in printed
        assert printed.count("ImportError") + printed.count("AttributeError") >= 2  # in the error and in the list

    @pytest.mark.contract(29)
    def test_a_missing_framework_is_named_with_its_command(self) -> None:
        code = """
        import sys
        sys.modules["jax"] = None
        import polylogit
        try:
            polylogit.softmax([1.0], backend="jax")
        except ImportError as error:
            print(error)
        print([(i.installed, i.version is None or True, i.reason) for i in polylogit.backends() if i.name == "jax"])
        print(polylogit.softmax([1.0, 1.0]).tolist())
        """
        printed = run_python(code)
        assert 'pip install "jax>=0.4.36"' in printed
        assert "(False, True, 'jax is not installed')" in printed
        assert "[0.5, 0.5]" in printed

    def test_a_subclass_is_resolved_through_its_inheritance(self) -> None:
        class Logits(np.ndarray):
            pass

        y = polylogit.softmax(np.zeros(2).view(Logits))
        assert type(y) is Logits
        assert registry.TABLES["softmax"][Logits] is not None

    def test_threads_making_their_first_calls_at_once_all_succeed(self) -> None:
        code = """
        import threading
        import numpy as np
        import polylogit

        barrier, results = threading.Barrier(32), []

        def first_call(index):
            operation = (polylogit.softmax, polylogit.log_softmax, polylogit.sigmoid)[index % 3]
            barrier.wait()
            results.append(float(operation(np.zeros(1))[0]))

        threads = [threading.Thread(target=first_call, args=(i,)) for i in range(32)]
        [t.start() for t in threads]
        [t.join() for t in threads]
        print(len(results), sorted(set(results)))
        """
        assert run_python(code).strip() == "32 [0.0, 0.5, 1.0]"

    @pytest.mark.parametrize(
        "value",
        ["abc", b"abc", None, {1: 2}, {1, 2}, object(), lambda: 0, np.array(["a"]), [None], ["a"], [[1], [1, 2]]],
    )
    @pytest.mark.parametrize("operation", registry.OPERATIONS)
    def test_what_is_no_array_is_refused_with_a_remedy(self, value: object, operation: str) -> None:
        with pytest.raises(TypeError) as caught:
            getattr(polylogit, operation)(value)
        assert isinstance(caught.value, errors.PolylogitError)

    @pytest.mark.parametrize("arguments", [{}, {"dtype": "float32"}, {"where": [True]}, {"backend": "numpy"}], ids=str)
    def test_a_string_is_no_logits_be_it_the_name_of_a_backend(self, arguments: dict[str, Any]) -> None:
        with pytest.raises(errors.UnsupportedArrayError, match="of the type str"):
            polylogit.softmax("torch", **arguments)

    def test_a_string_is_not_differentiated_at(self) -> None:
        with pytest.raises(errors.UnsupportedArrayError, match="of the type str"):
            polylogit.vjp(polylogit.softmax, "torch")


class TestChoosingABackend:
    def test_an_unknown_name_lists_the_known_ones(self) -> None:
        with pytest.raises(errors.UnknownBackendError, match="numpy, torch, tensorflow, jax"):
            polylogit.get_backend("theano")

    def test_python_values_go_to_the_backend_in_use(self, backend_name: str) -> None:
        with polylogit.use_backend(backend_name) as chosen:
            y = polylogit.softmax([0.0, 0.0])
            z = polylogit.sigmoid(0)
            assert polylogit.get_backend([1.0]) is chosen
        assert chosen.name == backend_name
        assert polylogit.get_backend(y) is chosen
        assert chosen.to_numpy(y).tolist() == [0.5, 0.5]
        assert float(chosen.to_numpy(z)) == 0.5
        assert polylogit.get_backend([1.0]).name == "numpy"

    def test_use_backend_nests_and_is_restored_after_an_error(self) -> None:
        with pytest.raises(RuntimeError), polylogit.use_backend("numpy"), polylogit.use_backend("numpy"):
            raise RuntimeError
        assert polylogit.get_backend(1.0).name == "numpy"

    @pytest.mark.parametrize("name", [None, 3, np.zeros(2)])
    def test_use_backend_takes_a_name(self, name: object) -> None:
        with pytest.raises(errors.UnknownBackendError, match="pass the name"):
            polylogit.use_backend(name)

    def test_numpy_arrays_are_converted_to_a_named_backend(self, backend_name: str) -> None:
        y = polylogit.softmax(np.array([3.2, 5.1, 2.7]), backend=backend_name)
        assert polylogit.get_backend(y).name == backend_name
        values = polylogit.get_backend(y).to_numpy(y)
        np.testing.assert_allclose(values, [0.12059, 0.80627, 0.07314], atol=5e-6)

    def test_a_numpy_mask_goes_along_with_a_numpy_array(self, backend_name: str) -> None:
        y = polylogit.softmax(np.zeros(3), where=np.array([True, False, True]), backend=backend_name)
        assert polylogit.get_backend(y).to_numpy(y).tolist() == [0.5, 0.0, 0.5]

    def test_a_device_framework_s_array_is_not_moved_silently(self, backend_name: str, make: object) -> None:
        x = make([1.0, 2.0])
        others = [info.name for info in polylogit.backends() if info.installed and info.name != backend_name]
        for other in others if backend_name != "numpy" else []:
            with pytest.raises(errors.MixedBackendsError, match=rf'polylogit.convert\(x, "{other}"\)'):
                polylogit.softmax(x, backend=other)


class TestNames:
    def test_a_name_that_could_be_a_library_is_offered_as_one(self) -> None:
        with pytest.raises(errors.UnknownBackendError, match="write 'array_api:zzzyx'"):
            polylogit.get_backend("zzzyx")
        with pytest.raises(errors.UnknownBackendError) as caught:
            polylogit.get_backend("zzz-yx!")
        assert "array_api:" not in str(caught.value)

    def test_a_library_of_the_array_api_serves_numbers_within_the_block(self) -> None:
        with polylogit.use_backend("array_api:array_api_strict"):
            made = polylogit.softmax([0.0, 0.0])
        assert type(made).__module__.startswith("array_api_strict")
        assert isinstance(polylogit.softmax([0.0, 0.0]), np.ndarray)

    def test_the_quickest_implementation_of_a_type_is_found(self) -> None:
        backend = polylogit.get_backend("numpy")
        served = registry.implementation_of("softmax", backend, np.ndarray)
        assert served == backend.implementation("softmax", np.ndarray)
        assert registry.implementation_of("softmax", backend) == backend.softmax


class TestRegisteringABackend:
    def test_a_target_that_is_no_module_and_class_is_refused(self) -> None:
        with pytest.raises(errors.UnknownBackendError, match="module:Class"):
            polylogit.register_backend("mine", "no_class_here")

    def test_it_is_imported_only_when_asked_for(self) -> None:
        code = """
        import sys
        import polylogit
        polylogit.register_backend("late", "late_module:Late")
        import numpy as np
        polylogit.softmax(np.zeros(2))
        print("late_module" in sys.modules)
        try:
            polylogit.get_backend("late")
        except ImportError as error:
            print(error)
        """
        printed = run_python(code)
        assert printed.startswith("False")
        assert "No module named 'late_module'" in printed


class TestABackendOlderThanAnOperation:
    def test_it_serves_what_it_has_and_refuses_the_new_one_by_name(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(OPERATIONS, "cube", Operation("cube", takes_axis=False, masked=0.0, domain="real numbers"))

        class Older(NumpyBackend):
            name = "older"

        assert Older().sigmoid(np.zeros(1)) == [0.5]
        serve = Older().implementation("cube", np.ndarray)
        with pytest.raises(errors.UnknownOperationError, match=r"'older' does not serve cube; add a method .* Older"):
            serve(np.zeros(1))


class TestRegisteringAnImplementation:
    def test_it_serves_until_it_is_removed(self) -> None:
        handle = polylogit.register_implementation("softmax", "numpy", lambda x, axis=-1: x * 0 + axis)
        assert polylogit.softmax(np.ones(2), 0).tolist() == [0.0, 0.0]
        assert polylogit.softmax([1.0, 1.0]).tolist() == [-1.0, -1.0]
        handle.remove()
        handle.remove()
        assert polylogit.softmax(np.ones(2)).tolist() == [0.5, 0.5]

    def test_the_last_one_registered_serves_and_leaves_the_one_before(self) -> None:
        with polylogit.register_implementation("sigmoid", "numpy", lambda x: x + 1):
            with polylogit.register_implementation("sigmoid", "numpy", lambda x: x + 2):
                assert polylogit.sigmoid(np.zeros(1)).tolist() == [2.0]
            assert polylogit.sigmoid(np.zeros(1)).tolist() == [1.0]
        assert polylogit.sigmoid(np.zeros(1)).tolist() == [0.5]

    def test_what_its_signature_lacks_is_served_by_the_backend(self) -> None:
        with polylogit.register_implementation("softmax", "numpy", lambda x, axis=-1: x * 0):
            y = polylogit.softmax(np.zeros(2), where=np.array([True, False]))
        assert y.tolist() == [1.0, 0.0]

    def test_what_its_signature_has_is_passed_to_it(self) -> None:
        def masked(x: np.ndarray, axis: int = -1, where: object = None) -> np.ndarray:
            return np.where(where, 7.0, 8.0)

        with polylogit.register_implementation("softmax", "numpy", masked):
            y = polylogit.softmax(np.zeros(2), where=np.array([True, False]))
        assert y.tolist() == [7.0, 8.0]

    def test_other_backends_and_operations_are_left_alone(self, backend_name: str, make: object) -> None:
        with polylogit.register_implementation("softmax", "numpy", lambda x, axis=-1: x * 0):
            if backend_name != "numpy":
                assert float(polylogit.get_backend(backend_name).to_numpy(polylogit.softmax(make([0.0])))[0]) == 1.0
            assert polylogit.log_softmax(np.zeros(1)).tolist() == [0.0]

    def test_an_operation_or_backend_that_does_not_exist_is_refused(self) -> None:
        with pytest.raises(errors.UnknownOperationError, match="softmax, log_softmax, sigmoid"):
            polylogit.register_implementation("softmin", "numpy", abs)
        with pytest.raises(errors.UnknownBackendError, match="theano"):
            polylogit.register_implementation("softmax", "theano", abs)


class TestWhatIsNoArrayItself:
    """A stand-in for an array, and what holds one."""

    def test_a_symbolic_tensor_is_refused_with_the_layer_to_call_in(self) -> None:
        # By its names: Keras's tensors are refused where nothing of Keras but the object is at hand.
        members = {"__module__": "keras.src.symbolic", "__array_namespace__": None, "__jax_array__": None}
        for cls in (symbolic := type("KerasTensor", (), members), type("Derived", (symbolic,), {})):
            with pytest.raises(
                errors.UnsupportedArrayError, match=r"keras.layers.Activation\(polylogit.softmax\)\(x\)"
            ):
                polylogit.softmax(cls())

    @pytest.mark.contract(26)
    @pytest.mark.requires("jax")
    def test_what_holds_an_array_of_jax_is_served_as_that_array(self) -> None:
        import jax
        import jax.numpy as jnp

        class Held:
            def __init__(self, array: object) -> None:
                self.array = array

            def __jax_array__(self) -> object:
                return self.array

        x, mask = jnp.asarray([0.0, 1.0, 2.0]), jnp.asarray([True, False, True])
        for function in (polylogit.softmax, polylogit.log_softmax, polylogit.sigmoid):
            assert jnp.array_equal(function(Held(x)), function(x))
            assert function(Held(x), dtype="float16").dtype == jnp.float16
            assert jnp.array_equal(jax.jit(lambda x, function=function: function(Held(x)))(x), jax.jit(function)(x))
        assert jnp.array_equal(polylogit.softmax(Held(x), where=mask), polylogit.softmax(x, where=mask))
