import cv2
import numpy as np
import pytest


@pytest.fixture
def write_image():
    """Return a function that writes an image in OpenCV's order of channels."""

    def write(path, image):
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), image)
        return path

    return write


@pytest.fixture
def write_hdf5():
    """Return a function that writes named arrays."""
    h5py = pytest.importorskip('h5py', reason='this dataset needs h5py: pip install h5py')

    def write(path, **arrays):
        path.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(path, 'w') as file:
            for name, array in arrays.items():
                file[name] = array
        return path

    return write


@pytest.fixture
def write_exr():
    """Return a function that writes one channel, R, of 32-bit floats."""
    library = pytest.importorskip('OpenEXR', reason='this dataset needs it: pip install openexr')

    def write(path, depth_m):
        path.parent.mkdir(parents=True, exist_ok=True)
        header = {'compression': library.ZIP_COMPRESSION, 'type': library.scanlineimage}
        library.File(header, {'R': np.asarray(depth_m, np.float32)}).write(str(path))
        return path

    return write


@pytest.fixture
def counts():
    """Counts of 1234 but for (0, 1) none, (0, 2) the largest and (5, 7) 40."""
    image = np.full((6, 8), 1234, np.uint16)
    image[0, 1], image[0, 2], image[5, 7] = 0, 65535, 40
    return image


@pytest.fixture
def bgr():
    """Return black but for red 10, green 20, blue 30 in the corner."""
    image = np.zeros((6, 8, 3), np.uint8)
    image[0, 0] = 30, 20, 10
    return image
