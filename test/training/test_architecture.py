"""The training code: rooms build on lower ones, scripts on modules, nothing on itself."""

import pytest

from ..import_graph import circle, imported, modules_of

# What stands on a floor imports from the floors below it, and from its own room.
FLOORS = (
    {'running', 'onnx_export', 'folding', 'shards', 'photometric', 'render', 'datasets'},
    {'sensors', 'networks'},
    {'examples', 'refiners'},
    {'pairs'},
    {'depth', 'mono', 'color_to_depth', 'hands', 'synth2real', 'gaze'},
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
MODULES = modules_of('training')


def room(module):
    return module.split('.')[1]


@pytest.mark.parametrize('module', [name for name in MODULES if name != 'training'])
def test_nothing_climbs(module):
    for name in imported(module, MODULES):
        assert room(name) == room(module) or FLOOR[room(name)] < FLOOR[room(module)], (
            f'{module} imports {name}, which does not stand below it'
        )


def test_no_module_imports_itself_by_way_of_others():
    assert circle(MODULES) == []


def test_scripts_are_not_imported():
    scripts = {
        module
        for module, path in MODULES.items()
        if "if __name__ == '__main__'" in path.read_text(encoding='utf-8')
    }
    assert len(scripts) > 20
    for module in MODULES:
        assert not scripts & imported(module, MODULES), f'{module} imports a script'
