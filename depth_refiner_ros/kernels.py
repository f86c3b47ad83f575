"""Compiles the loops of the filters for the processor at hand, and keeps what was compiled.

A kernel is a plain Python function of loops over arrays. numba compiles it once; its machine code
goes into the cache folder, from where later processes load it with llvmlite alone, in
milliseconds. Neither numba nor the third of a second of its import is needed then.

A kernel raises nothing and allocates nothing: its caller passes arrays that fit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
import ctypes
from functools import cache
import hashlib
import importlib
import os
import re
import threading
import time
import types
from typing import Annotated, Any, NamedTuple, get_type_hints

import numpy as np
import numpy.typing as npt

from .disk_cache import CacheError, DiskCache

# What a kernel takes: element type, number of dimensions, and whether it writes there.
FloatRow = Annotated[npt.NDArray[np.float32], np.float32, 1, False]
FloatRowOut = Annotated[npt.NDArray[np.float32], np.float32, 1, True]
FloatImage = Annotated[npt.NDArray[np.float32], np.float32, 2, False]
FloatImageOut = Annotated[npt.NDArray[np.float32], np.float32, 2, True]
FloatImages = Annotated[npt.NDArray[np.float32], np.float32, 3, False]
FloatImagesOut = Annotated[npt.NDArray[np.float32], np.float32, 3, True]
ByteRow = Annotated[npt.NDArray[np.uint8], np.uint8, 1, False]
ByteRowOut = Annotated[npt.NDArray[np.uint8], np.uint8, 1, True]
ByteImage = Annotated[npt.NDArray[np.uint8], np.uint8, 2, False]
ByteImageOut = Annotated[npt.NDArray[np.uint8], np.uint8, 2, True]
ByteImages = Annotated[npt.NDArray[np.uint8], np.uint8, 3, False]
MaskRow = Annotated[npt.NDArray[np.bool_], np.bool_, 1, False]
MaskRowOut = Annotated[npt.NDArray[np.bool_], np.bool_, 1, True]
Mask = Annotated[npt.NDArray[np.bool_], np.bool_, 2, False]
MaskOut = Annotated[npt.NDArray[np.bool_], np.bool_, 2, True]
IntRow = Annotated[npt.NDArray[np.int32], np.int32, 1, False]
IntImage = Annotated[npt.NDArray[np.int32], np.int32, 2, False]
# Coordinates and indices: numba need not ask whether one counts from the end.
PlaceRow = Annotated[npt.NDArray[np.uint32], np.uint32, 1, False]
PlaceRowOut = Annotated[npt.NDArray[np.uint32], np.uint32, 1, True]
PlaceImage = Annotated[npt.NDArray[np.uint32], np.uint32, 2, False]
PlaceImageOut = Annotated[npt.NDArray[np.uint32], np.uint32, 2, True]
IndexRow = Annotated[npt.NDArray[np.int64], np.int64, 1, False]
CountRow = Annotated[npt.NDArray[np.uint16], np.uint16, 1, False]
CountRowOut = Annotated[npt.NDArray[np.uint16], np.uint16, 1, True]
IndexRowOut = Annotated[npt.NDArray[np.int64], np.int64, 1, True]
IntRowOut = Annotated[npt.NDArray[np.int32], np.int32, 1, True]
IntImageOut = Annotated[npt.NDArray[np.int32], np.int32, 2, True]

_SCALARS: Mapping[type, Any] = {
    np.float32: ctypes.c_float,
    np.float64: ctypes.c_double,
    np.int64: ctypes.c_int64,
}
_SYMBOL = 'kernel'
# What numba would call to raise an exception or to free an array, which no kernel does.
_RUNTIME = re.compile(r'^declare (.*@(?:numba_|NRT_|_?Py)\w+\(.*)$', re.MULTILINE)


class Compilation(NamedTuple):
    """What it took to have all kernels ready.

    Attributes:
        compiled: How many were compiled.
        loaded: How many came from the cache.
        seconds: What both took.
        trouble: Why the cache does not serve, if so.
    """

    compiled: int
    loaded: int
    seconds: float
    trouble: str


class _Parameter(NamedTuple):
    """A parameter of a kernel: an array, or without dimensions a number."""

    name: str
    dtype: np.dtype[Any]
    dimensions: int
    written: bool


class Kernel:
    """A function of loops over arrays; it is compiled when it is first called.

    Its parameters are annotated with the aliases of this module, np.float32, int or float. The
    functions that it calls are compiled along with it. While it runs, on one thread, the
    interpreter is free for others.
    """

    def __init__(self, function: Callable[..., None]) -> None:
        self.function: Any = function
        self.name = f'{function.__module__.rpartition(".")[2]}.{function.__name__.strip("_")}'
        self._parameters: tuple[_Parameter, ...] = ()
        self._engine: Any = None  # owns the code
        self._call: Any = None
        _KERNELS.append(self)

    def __call__(self, *arguments: Any) -> None:
        """Run; arrays that are only read may have any memory layout.

        Raises:
            TypeError: If an array has another type or number of dimensions, or cannot be written.
            ValueError: If numba or llvmlite is not installed.
        """
        if self._call is None:
            compile_kernels([self])
        passed, kept = [], []
        for parameter, value in zip(self._parameters, arguments, strict=True):
            if not parameter.dimensions:
                passed.append(value)
                continue
            array = value if parameter.written else np.ascontiguousarray(value)
            flags = array.flags
            fits = array.dtype == parameter.dtype and array.ndim == parameter.dimensions
            if not (fits and flags.c_contiguous and flags.writeable >= parameter.written):
                raise TypeError(
                    f'{self.name}: {parameter.name} must be an array of {parameter.dimensions} '
                    f'dimensions of {parameter.dtype}, got {array.shape} {array.dtype}, {flags}'
                )
            kept.append(array)
            passed += (array.__array_interface__['data'][0], *array.shape)
        self._call(*passed)

    def facts(self) -> dict[str, Any]:
        """Return what its machine code depends on."""
        cpu, features = _target()
        fingerprint = repr(_fingerprint(self.function)).encode()
        return {
            'kind': 'kernel',
            'model': self.name,
            'function': hashlib.sha256(fingerprint).hexdigest(),
            'compiler': f'llvmlite {_imported("llvmlite").__version__}',
            'cpu': cpu,
            'cpu_features': features,
        }

    def machine_code(self) -> bytes:
        """Compile it."""
        numba, llvm = _imported('numba'), _imported('llvmlite.binding')
        _vectorize_boldly()
        given, passed, kinds = [], [], []
        for parameter in _parameters(self.function):
            kind, name = numba.from_dtype(parameter.dtype), parameter.name
            sizes = [f'{name}_{axis}' for axis in range(parameter.dimensions)]
            given += [name, *sizes]
            if sizes:
                passed.append(f'carray({name}, ({", ".join(sizes)},))')
                kinds += [numba.types.CPointer(kind), *[numba.int64] * len(sizes)]
            else:
                passed.append(name)
                kinds.append(kind)
        scope = {'carray': numba.carray, 'kernel': _jitted(self.function, numba.njit)}
        exec(f'def entry({", ".join(given)}): kernel({", ".join(passed)})', scope)
        entry = numba.cfunc(numba.void(*kinds), error_model='numpy')(scope['entry'])
        text = entry.inspect_llvm().replace(entry.native_name, _SYMBOL)
        if 'NRT_MemInfo_alloc' in text:
            raise ValueError(
                f'the kernel {self.name} allocates memory, which kernels cannot; give it work '
                'arrays, and copy rows in a loop'
            )
        module = llvm.parse_assembly(_RUNTIME.sub(r'define internal \1 { unreachable }', text))
        code: bytes = _target_machine().emit_object(module)
        return code

    def link(self, machine_code: bytes) -> None:
        """Take its machine code, made by `machine_code` here or in an earlier process."""
        llvm = _imported('llvmlite.binding')
        engine = llvm.create_mcjit_compiler(llvm.parse_assembly(''), _target_machine())
        engine.add_object_file(llvm.ObjectFileRef.from_data(machine_code))
        engine.finalize_object()
        self._parameters = tuple(_parameters(self.function))
        kinds: list[Any] = []
        for parameter in self._parameters:
            if parameter.dimensions:
                kinds += [ctypes.c_void_p, *[ctypes.c_int64] * parameter.dimensions]
            else:
                kinds.append(_SCALARS[parameter.dtype.type])
        self._engine = engine
        self._call = ctypes.CFUNCTYPE(None, *kinds)(engine.get_function_address(_SYMBOL))

    @property
    def is_ready(self) -> bool:
        """Whether it runs without being compiled or loaded."""
        return self._call is not None


_KERNELS: list[Kernel] = []
_LOCK = threading.Lock()

kernel = Kernel
"""Make a kernel of a function."""


def compile_kernels(
    kernels: list[Kernel] | None = None, *, say: Callable[[str], None] = lambda text: None
) -> Compilation:
    """Have kernels ready to run, from the cache or else by compiling them.

    Args:
        kernels: Which; None for those of all modules imported so far.
        say: Called with a sentence before something takes long, and with why the cache does not
            serve.

    Raises:
        ValueError: If numba or llvmlite is not installed.
    """
    start_s = time.perf_counter()
    kept, compiled, loaded, trouble = DiskCache(), 0, 0, ''
    with _LOCK:
        for item in _KERNELS if kernels is None else kernels:
            if item.is_ready:
                continue
            facts, code = item.facts(), None
            try:
                code = kept.get(facts)
            except CacheError as error:
                trouble = str(error)
            if code is None:
                if not compiled:
                    say('compiling the filters for this processor, once: some ten seconds')
                compiled += 1
                code = item.machine_code()
                try:
                    kept.put(facts, code)
                except (OSError, CacheError) as error:
                    trouble = f'they cannot be kept in {kept.folder}: {error}'
            else:
                loaded += 1
            item.link(code)
    if trouble:
        say(f'the filters are compiled at every start: {trouble}')
    return Compilation(compiled, loaded, time.perf_counter() - start_s, trouble)


def _imported(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ValueError(
            f'the filters need numba ({error}): pip install numba, or under ROS '
            'sudo apt install python3-numba (the rosdep key is python3-numba)'
        ) from error


@cache
def _vectorize_boldly() -> None:
    """Have all loops vectorised that can be.

    Loops over many arrays too, for which LLVM up to 14 shuns the checks that none overlap another,
    and on processors with vectors of four, whose gain it holds for too small. Once in a process:
    an option that is given twice ends it.
    """
    llvm = _imported('llvmlite.binding')
    llvm.set_option('', '-runtime-memory-check-threshold=128')
    llvm.set_option('', '-force-target-instruction-cost=1')


def _target() -> tuple[str, str]:
    """Return the processor that is compiled for and its features: this one, or numba's choice."""
    llvm = _imported('llvmlite.binding')
    given = os.environ.get('NUMBA_CPU_NAME'), os.environ.get('NUMBA_CPU_FEATURES')
    if any(given):
        return given[0] or llvm.get_host_cpu_name(), given[1] or ''
    return llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()


def _target_machine() -> Any:
    llvm = _imported('llvmlite.binding')
    cpu, features = _target()
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=cpu,
        features=features,
        opt=3,
        codemodel='jitdefault',
        jit=True,
    )


def _parameters(function: Any) -> Iterator[_Parameter]:
    hints = get_type_hints(function, include_extras=True)
    for name in function.__code__.co_varnames[: function.__code__.co_argcount]:
        hint = hints[name]
        element, dimensions, written = getattr(hint, '__metadata__', (hint, 0, False))
        yield _Parameter(name, np.dtype(element), dimensions, written)


def _globals(function: Any) -> dict[str, Any]:
    code = function.__code__
    known = function.__globals__
    return {name: known[name] for name in code.co_names if name in known}


def _jitted(function: Any, njit: Any) -> Any:
    """Return what numba makes of a function and those it calls."""
    helpers = {
        name: _jitted(value, njit)
        for name, value in _globals(function).items()
        if isinstance(value, types.FunctionType)
    }
    scope = {**function.__globals__, **helpers}
    copy = types.FunctionType(function.__code__, scope, function.__name__)
    # Nobody calls it but the kernel.
    alone = {'no_cpython_wrapper': True, 'no_cfunc_wrapper': True}
    return njit(error_model='numpy', **alone)(copy)


def _fingerprint(function: Any) -> tuple[Any, ...]:
    """Return what a function does: code and constants, its own and of those that it calls."""
    code = function.__code__
    known = [
        (name, _fingerprint(value) if isinstance(value, types.FunctionType) else repr(value))
        for name, value in _globals(function).items()
        if not isinstance(value, types.ModuleType)
    ]
    return code.co_code, code.co_consts, code.co_varnames, function.__annotations__, known
