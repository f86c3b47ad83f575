"""Networks with the interfaces of published models, whose answers are known in closed form.

Each sees how far everything is in the red of a picture, `z = NEAR_M + red / LEVELS_PER_M`, and
says it as its convention has it.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

NEAR_M, LEVELS_PER_M = 0.5, 50.0

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALVES = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
PLAIN = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))

TYPES = {
    'float32': TensorProto.FLOAT,
    'float16': TensorProto.FLOAT16,
    'uint8': TensorProto.UINT8,
    'int64': TensorProto.INT64,
}


def picture(depth_m):
    """A picture that shows how far everything is; depths that whole levels stand for."""
    levels = np.rint((np.asarray(depth_m) - NEAR_M) * LEVELS_PER_M)
    rgb = np.zeros((*levels.shape, 3), np.uint8)
    rgb[..., 0] = levels
    rgb[..., 1], rgb[..., 2] = 7, 250  # so that exchanged channels are seen
    return rgb


def shown_m(rgb):
    """The depth that a picture shows."""
    return (NEAR_M + rgb[..., 0] / LEVELS_PER_M).astype(np.float32)


class Speaker:
    """Builds a graph node by node.

    Args:
        size: Height and width, px, or names of free dimensions.
    """

    def __init__(self, size=('height', 'width')):
        self.size = list(size)
        self.nodes, self.constants, self.inputs, self.outputs = [], [], [], []

    def constant(self, value, dtype=np.float32):
        name = f'constant{len(self.constants)}'
        self.constants.append(numpy_helper.from_array(np.array(value, dtype), name))
        return name

    def node(self, operator, *names, **attributes):
        name = f'{operator.lower()}{len(self.nodes)}'
        self.nodes.append(helper.make_node(operator, list(names), [name], **attributes))
        return name

    def arrives(self, name, shape, dtype='float32'):
        self.inputs.append(helper.make_tensor_value_info(name, TYPES[dtype], shape))
        return name if dtype == 'float32' else self.node('Cast', name, to=TensorProto.FLOAT)

    def leaves(self, name, value, shape):
        self.nodes.append(helper.make_node('Identity', [value], [name]))
        self.outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))

    def channel(self, image, number, axis=1):
        index = self.constant([number], np.int64)
        return self.node('Gather', image, index, axis=axis)

    def depth(
        self, name, *, norm=IMAGENET, layout='NCHW', range_=1.0, order='rgb', dtype='float32'
    ):
        """Take a picture in; return its depth, (1, 1, H, W), metres."""
        lengths = {'N': 1, 'C': 3, 'H': self.size[0], 'W': self.size[1]}
        image = self.arrives(name, [lengths[letter] for letter in layout], dtype)
        red = self.channel(image, 'rgb'.index('r') if order == 'rgb' else 2, layout.index('C'))
        if layout == 'NHWC':
            red = self.node('Transpose', red, perm=[0, 3, 1, 2])
        mean, std = norm[0][0], norm[1][0]
        level = self.node(
            'Mul',
            self.node('Add', self.node('Mul', red, self.constant(std)), self.constant(mean)),
            self.constant(255.0 / range_),
        )
        metres = self.node('Mul', level, self.constant(1 / LEVELS_PER_M))
        return self.node('Add', metres, self.constant(NEAR_M))

    def times(self, value, factor):
        return self.node('Mul', value, self.constant(factor))

    def plus(self, value, amount):
        return self.node('Add', value, self.constant(amount))

    def image(self, name, value, rank=3):
        """Put out an image of (1, 1, H, W) with so many dimensions."""
        shape = [1] * (rank - 2) + self.size
        axes = self.constant(list(range(4 - rank)), np.int64)
        self.leaves(name, self.node('Squeeze', value, axes) if rank < 4 else value, shape)

    def save(self, path):
        graph = helper.make_graph(self.nodes, 'speaker', self.inputs, self.outputs, self.constants)
        opset = [helper.make_opsetid('', 18)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=9)
        onnx.checker.check_model(model)
        path.write_bytes(model.SerializeToString())
        return path


def depth_anything_v2(path, size=('height', 'width'), names=('image', 'depth')):
    speaker = Speaker(size)
    z = speaker.depth(names[0])
    said = speaker.plus(speaker.times(speaker.node('Reciprocal', z), 7.0), 1.5)
    speaker.image(names[1], said)
    return speaker.save(path)


def depth_anything_v2_metric(path, size=('height', 'width')):
    speaker = Speaker(size)
    speaker.image('predicted_depth', speaker.depth('pixel_values'))
    return speaker.save(path)


def depth_anything_3_metric(path, focal_px, size=(280, 504), sky_beyond_m=4.0):
    """Says z 300 / f, and sky beyond a distance."""
    speaker = Speaker(size)
    z = speaker.depth('image')
    far = speaker.node('Greater', z, speaker.constant(sky_beyond_m))
    speaker.image('depth', speaker.times(z, 300 / focal_px), rank=4)
    speaker.image('sky', speaker.node('Cast', far, to=TensorProto.FLOAT), rank=4)
    return speaker.save(path)


def metric3d(path, focal_px, size=(616, 1064)):
    """Says z 1000 / f of colours from 0 to 255."""
    speaker = Speaker(size)
    z = speaker.depth('image', norm=PLAIN, range_=255.0)
    speaker.image('pred_depth', speaker.times(z, 1000 / focal_px), rank=4)
    speaker.image('normal_confidence', z, rank=4)
    return speaker.save(path)


def unidepth(path, size=(462, 630), rays=False):
    """Says points: here (0, 0, z), or rays over their z, times z; and its error, z / 100."""
    speaker = Speaker(size)
    z = speaker.depth('rgbs')
    if rays:
        given = speaker.arrives('rays', [1, 3, *size])
        over = speaker.node('Div', given, speaker.channel(given, 2))
        points = speaker.node('Mul', over, z)
    else:
        zero = speaker.times(z, 0.0)
        points = speaker.node('Concat', zero, zero, z, axis=1)
    speaker.leaves('pts_3d', points, [1, 3, *size])
    speaker.image('confidence', speaker.times(z, 0.01), rank=4)
    speaker.leaves('intrinsics', speaker.constant(np.eye(3)[None]), [1, 3, 3])
    return speaker.save(path)


def depth_pro(path, width_over_focal, size=(1536, 1536)):
    """Says f / (z width): its inverse depth of a camera whose focal length is its width."""
    speaker = Speaker(size)
    z = speaker.depth('pixel_values', norm=HALVES)
    said = speaker.times(speaker.node('Reciprocal', z), 1 / width_over_focal)
    speaker.image('predicted_depth', said)
    speaker.leaves('field_of_view', speaker.constant([60.0]), [1])
    return speaker.save(path)


def prompt_depth_anything(path, size=(756, 1008)):
    """Says the depth of colour where the prompt has no holes, else 0."""
    speaker = Speaker(size)
    z = speaker.depth('image', norm=PLAIN)
    prompt = speaker.arrives('prompt_depth', [1, 1, 192, 256])
    least = speaker.node('ReduceMin', prompt, keepdims=1)
    whole = speaker.node('Greater', least, speaker.constant(0.0))
    whole = speaker.node('Cast', whole, to=TensorProto.FLOAT)
    speaker.image('depth', speaker.node('Mul', z, whole), rank=4)
    return speaker.save(path)


def camera_depth_model(path, size=('height', 'width')):
    """Says the inverse that comes with the colour; where none does, that of the colour's depth."""
    speaker = Speaker(size)
    given = speaker.arrives('input', [1, 4, *size])
    red = speaker.channel(given, 0)
    (mean, std) = IMAGENET[0][0], IMAGENET[1][0]
    level = speaker.times(speaker.plus(speaker.times(red, std), mean), 255.0)
    z = speaker.plus(speaker.times(level, 1 / LEVELS_PER_M), NEAR_M)
    inverse = speaker.channel(given, 3)
    measured = speaker.node('Greater', inverse, speaker.constant(0.0))
    said = speaker.node('Where', measured, inverse, speaker.node('Reciprocal', z))
    speaker.image('depth', said, rank=3)
    return speaker.save(path)
