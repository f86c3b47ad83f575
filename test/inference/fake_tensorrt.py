"""TensorRT and CUDA as far as this package calls them, without a GPU.

A fake that remembers: every call that shapes an engine is kept in `calls`, and an engine is run by
ONNX Runtime on the memory that was given to it. It is as strict as the real one where that is
easy to get wrong (names and signatures: TensorRT on GitHub, python/src; cuda-python's runtime):

- work on a stream is done when the stream is synchronised, not before;
- copies must stay within what was allocated, and say the right direction;
- callbacks of objects whose base was not initialised fail;
- bytes are only taken by a Cast, and float32 and float16 do not mix;
- a profile takes its own shapes only, and forgets addresses when it is chosen.
"""

from __future__ import annotations

import ctypes
import enum
from importlib.machinery import ModuleSpec
import json
import types

import numpy as np
import onnx
import onnxruntime


class Memory:
    """What was allocated, by address."""

    def __init__(self):
        self.blocks = {}

    def allocate(self, size_bytes, kind):
        block = (ctypes.c_ubyte * size_bytes)()
        address = ctypes.addressof(block)
        self.blocks[address] = (block, kind)
        return address

    def free(self, address):
        del self.blocks[address]

    def check(self, address, size_bytes, kind):
        block, found = self.blocks[address]
        assert found == kind, f'{kind} memory expected, this is {found}'
        assert size_bytes <= len(block), 'a copy beyond the end'


class Stream:
    """Work that waits until somebody synchronises."""

    def __init__(self):
        self.waiting = []

    def __int__(self):
        return id(self)


class Fake:
    """Both libraries, and what was asked of them.

    Args:
        version: Of TensorRT.
        gpu: Whether there is one.
        error: Adds this to every float32 output: a miscompiled engine.
    """

    def __init__(self, version='10.3.0', *, gpu=True, error=0.0):
        self.calls = []
        self.memory = Memory()
        self.streams = {}
        self.gpu, self.error = gpu, error
        self.steps = 4
        self.on_step = lambda step: None
        self.cuda = self._cuda()
        self.tensorrt = self._tensorrt(version)

    def called(self, name):
        """Return the arguments of all calls of this name."""
        return [arguments for called, arguments in self.calls if called == name]

    def modules(self):
        """Return what goes into sys.modules."""
        cuda, bindings = types.ModuleType('cuda'), types.ModuleType('cuda.bindings')
        cuda.bindings, bindings.runtime = bindings, self.cuda
        cuda.__path__ = bindings.__path__ = []
        return {
            'tensorrt': self.tensorrt,
            'cuda': cuda,
            'cuda.bindings': bindings,
            'cuda.bindings.runtime': self.cuda,
        }

    # ------------------------------------------------------------------------------------ CUDA

    def _cuda(self):
        fake, memory = self, self.memory
        cuda = types.ModuleType('cuda.bindings.runtime')
        cuda.cudaError_t = enum.Enum(
            'cudaError_t',
            {
                'cudaSuccess': 0,
                'cudaErrorMemoryAllocation': 2,
                'cudaErrorInsufficientDriver': 35,
                'cudaErrorLaunchFailure': 719,
            },
        )
        cuda.cudaMemcpyKind = enum.Enum(
            'cudaMemcpyKind', {'cudaMemcpyHostToDevice': 1, 'cudaMemcpyDeviceToHost': 2}
        )
        good = cuda.cudaError_t.cudaSuccess
        fake.next_error = None

        def answer(*values):
            if not fake.gpu:
                return (cuda.cudaError_t.cudaErrorInsufficientDriver, *[None for _ in values])
            if fake.next_error:
                error, fake.next_error = cuda.cudaError_t[fake.next_error], None
                return (error, *[None for _ in values])
            return (good, *values)

        def create_stream():
            stream = Stream()
            fake.streams[int(stream)] = stream
            return answer(stream)

        def copy(target, source, size_bytes, kind, stream):
            to_device = kind is cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
            memory.check(source, size_bytes, 'host' if to_device else 'device')
            memory.check(target, size_bytes, 'device' if to_device else 'host')
            fake.calls.append(('copy', (kind.name, size_bytes)))
            stream.waiting.append(lambda: ctypes.memmove(target, source, size_bytes))
            return answer()

        def synchronize(stream):
            waiting, stream.waiting = stream.waiting, []
            for work in waiting:
                work()
            return answer()

        properties = types.SimpleNamespace(name=b'Orin', major=8, minor=7)
        cuda.cudaGetDevice = lambda: answer(0)
        cuda.cudaGetDeviceProperties = lambda device: answer(properties)
        cuda.cudaDriverGetVersion = lambda: answer(12060)
        cuda.cudaStreamCreate = create_stream
        cuda.cudaStreamDestroy = lambda stream: answer()
        cuda.cudaStreamSynchronize = synchronize
        cuda.cudaMemcpyAsync = copy
        cuda.cudaMalloc = lambda size_bytes: answer(memory.allocate(size_bytes, 'device'))
        cuda.cudaMallocHost = lambda size_bytes: answer(memory.allocate(size_bytes, 'host'))
        cuda.cudaFree = cuda.cudaFreeHost = lambda address: answer(memory.free(address))
        return cuda

    # -------------------------------------------------------------------------------- TensorRT

    def _tensorrt(self, version):
        fake = self
        trt = types.ModuleType('tensorrt')
        trt.__spec__ = ModuleSpec('tensorrt', None)
        trt.__version__ = version
        trt.TensorIOMode = enum.Enum('TensorIOMode', 'NONE INPUT OUTPUT')
        trt.MemoryPoolType = enum.Enum('MemoryPoolType', 'WORKSPACE')
        trt.NetworkDefinitionCreationFlag = enum.IntEnum(
            'NetworkDefinitionCreationFlag', {'STRONGLY_TYPED': 1}
        )
        numbers = tuple(int(part) for part in version.split('.')[:2])
        flags = 'DEBUG TF32 STRICT_NANS' if numbers >= (10, 6) else 'DEBUG TF32 FP16 INT8'
        trt.BuilderFlag = enum.Enum('BuilderFlag', flags)
        trt.nptype = np.dtype  # in this fake a tensor's type is NumPy's

        class ILogger:
            INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)

            def __init__(self):
                self.initialised = True

        class IProgressMonitor:
            def __init__(self):
                self.initialised = True

        class Builder:
            def __init__(self, logger):
                assert logger.initialised
                self.logger = logger

            def create_network(self, flags=0):
                fake.calls.append(('create_network', flags))
                return types.SimpleNamespace(num_inputs=0)

            def create_builder_config(self):
                return Config()

            def create_optimization_profile(self):
                return Profile()

            def build_serialized_network(self, network, config):
                monitor = config.progress_monitor
                assert monitor.initialised
                monitor.phase_start('Building', None, 2)
                monitor.phase_start('Timing', 'Building', fake.steps)
                for step in range(fake.steps):
                    fake.on_step(step)
                    if not monitor.step_complete('Timing', step):
                        return None
                monitor.phase_finish('Timing')
                if not monitor.step_complete('Building', 0):
                    return None
                monitor.phase_finish('Building')
                config.cache.data += b'+timed'
                profiles = [profile.shapes for profile in config.profiles]
                plan = json.dumps(profiles).encode() + b'\n' + network.onnx
                return memoryview(plan)

        class Profile:
            def __init__(self):
                self.shapes = {}

            def set_shape(self, name, low, best, high):
                fake.calls.append(('set_shape', (name, low, best, high)))
                assert low == best == high
                self.shapes[name] = list(best)

        class Cache:
            def __init__(self, data):
                self.data = bytes(data)

            def serialize(self):
                return memoryview(self.data)

        class Config:
            def __init__(self):
                self.profiles, self.cache = [], None

            def set_memory_pool_limit(self, pool, size_bytes):
                fake.calls.append(('set_memory_pool_limit', (pool.name, size_bytes)))

            def set_flag(self, flag):
                fake.calls.append(('set_flag', flag.name))

            def clear_flag(self, flag):
                fake.calls.append(('clear_flag', flag.name))

            def create_timing_cache(self, data):
                fake.calls.append(('create_timing_cache', bytes(data)))
                return Cache(data)

            def set_timing_cache(self, cache, ignore_mismatch):
                assert ignore_mismatch is False
                if cache.data.startswith(b'of another GPU'):
                    return False
                self.cache = cache
                return True

            def get_timing_cache(self):
                return self.cache

            def add_optimization_profile(self, profile):
                self.profiles.append(profile)
                return len(self.profiles) - 1

        class OnnxParser:
            def __init__(self, network, logger):
                self.network, self.errors = network, []

            def parse(self, data):
                model = onnx.load_from_string(data)
                self.errors = list(complaints(model))
                tensors = [
                    types.SimpleNamespace(name=value.name, shape=shape_of(value))
                    for value in model.graph.input
                ]
                self.network.onnx = data
                self.network.num_inputs = len(tensors)
                self.network.get_input = tensors.__getitem__
                return not self.errors

            @property
            def num_errors(self):
                return len(self.errors)

            def get_error(self, at):
                node, text = self.errors[at]
                return types.SimpleNamespace(
                    node_operator=lambda: node.op_type,
                    node_name=lambda: node.name,
                    desc=lambda: text,
                )

        class Runtime:
            def __init__(self, logger):
                assert logger.initialised
                self.logger = logger

            def deserialize_cuda_engine(self, plan):
                head, _, model = bytes(plan).partition(b'\n')
                try:
                    profiles = json.loads(head)
                except ValueError:
                    self.logger.log(ILogger.WARNING, 'not this one')
                    self.logger.log(ILogger.ERROR, 'Magic tag does not match')
                    return None
                return Engine(profiles, model)

        class Engine:
            def __init__(self, profiles, model):
                self.profiles = profiles
                options = onnxruntime.SessionOptions()
                options.intra_op_num_threads = 1
                self.session = onnxruntime.InferenceSession(
                    model, options, providers=['CPUExecutionProvider']
                )
                self.kinds = {'tensor(float)': np.float32, 'tensor(uint8)': np.uint8}
                self.inputs = {v.name: v for v in self.session.get_inputs()}
                self.outputs = {v.name: v for v in self.session.get_outputs()}
                self.all = self.inputs | self.outputs
                self.num_io_tensors = len(self.all)

            def get_tensor_name(self, at):
                return list(self.all)[at]

            def get_tensor_mode(self, name):
                mode = trt.TensorIOMode
                return mode.INPUT if name in self.inputs else mode.OUTPUT

            def get_tensor_dtype(self, name):
                return self.kinds[self.all[name].type]

            def create_execution_context(self):
                return Context(self)

        class Context:
            def __init__(self, engine):
                self.engine = engine
                self.set_optimization_profile_async(0, 0)

            def set_optimization_profile_async(self, index, stream):
                assert isinstance(stream, int)
                fake.calls.append(('set_optimization_profile_async', index))
                self.profile = self.engine.profiles[index]
                self.shapes, self.addresses = {}, {}

            def set_input_shape(self, name, shape):
                if list(shape) != self.profile[name]:
                    return False
                self.shapes[name] = tuple(shape)
                return True

            def get_tensor_shape(self, name):
                if name in self.engine.inputs:
                    return self.shapes[name]
                zeros = {
                    n: np.zeros(self.shapes[n], self.engine.get_tensor_dtype(n))
                    for n in self.engine.inputs
                }
                return self.engine.session.run([name], zeros)[0].shape

            def set_tensor_address(self, name, address):
                size_bytes = int(np.prod(self.get_tensor_shape(name)))
                fake.memory.check(address, size_bytes, 'device')
                self.addresses[name] = address
                return True

            def execute_async_v3(self, stream):
                assert isinstance(stream, int)
                if set(self.addresses) != set(self.engine.all):
                    return False
                fake.streams[stream].waiting.append(self.run)
                return True

            def array(self, name):
                block, _ = fake.memory.blocks[self.addresses[name]]
                kind = self.engine.get_tensor_dtype(name)
                return np.frombuffer(block, kind).reshape(self.get_tensor_shape(name))

            def run(self):
                inputs = {name: self.array(name).copy() for name in self.engine.inputs}
                names = list(self.engine.outputs)
                for name, values in zip(
                    names, self.engine.session.run(names, inputs), strict=True
                ):
                    self.array(name)[...] = values + np.float32(fake.error)

        trt.ILogger, trt.IProgressMonitor, trt.Builder = ILogger, IProgressMonitor, Builder
        trt.OnnxParser, trt.Runtime = OnnxParser, Runtime
        return trt


def shape_of(value):
    dims = value.type.tensor_type.shape.dim
    return tuple(dim.dim_value if dim.HasField('dim_value') else -1 for dim in dims)


def complaints(model):
    """Yield what TensorRT's parser would refuse: a node, and a sentence."""
    bytes_in = {
        value.name
        for value in model.graph.input
        if value.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    }
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    kinds = {
        value.name: value.type.tensor_type.elem_type
        for value in (*inferred.value_info, *inferred.input, *inferred.output)
    }
    floats = {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16}
    for node in model.graph.node:
        if node.op_type != 'Cast' and bytes_in & set(node.input):
            yield node, 'UINT8 is only supported as network input'
        if len(floats & {kinds.get(name) for name in node.input}) > 1:
            yield node, 'types mixed in a strongly typed network'
