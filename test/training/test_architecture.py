"""The training code: rooms build on lower ones, scripts on modules, nothing on itself."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TRAINING = ROOT / 'training'
# What stands on a floor imports from the floors below it, and from its own room.
FLOORS = (
    {'running', 'onnx_export', 'shards', 'photometric', 'render', 'datasets'},
    {'sensors', 'networks'},
    {'examples', 'refiners'},
    {'pairs'},
    {'depth', 'mono', 'color_to_depth', 'hands', 'synth2real', 'gaze'},
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
MODULES = {
    '.'.join(path.relative_to(ROOT).with_suffix('').parts).removesuffix('.__init__'): path
    for path in sorted(TRAINING.rglob('*.py'))
}


def imported(module):
    """Return the modules of the training that a module imports, in functions too."""
    path = MODULES[module]
    package = module if path.name == '__init__.py' else module.rpartition('.')[0]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parts = package.split('.')[: len(package.split('.')) - node.level + 1]
            base = '.'.join([*(parts if node.level else []), *filter(None, [node.module])])
            names = {f'{base}.{alias.name}' for alias in node.names}
            found |= names & MODULES.keys() or {base}
    return sorted(name for name in found if name in MODULES)


def room(module):
    return module.split('.')[1]


@pytest.mark.parametrize('module', [name for name in MODULES if name != 'training'])
def test_nothing_climbs(module):
    for name in imported(module):
        assert room(name) == room(module) or FLOOR[room(name)] < FLOOR[room(module)], (
            f'{module} imports {name}, which does not stand below it'
        )


def test_no_module_imports_itself_by_way_of_others():
    edges = {module: imported(module) for module in MODULES}
    # A package runs before its modules, and may import them.
    done, path = set(), []

    def visit(module):
        assert module not in path, ' -> '.join([*path[path.index(module) :], module])
        if module in done:
            return
        path.append(module)
        for name in edges[module]:
            visit(name)
        path.pop()
        done.add(module)

    for module in MODULES:
        visit(module)


def test_scripts_are_not_imported():
    scripts = {
        module
        for module, path in MODULES.items()
        if "if __name__ == '__main__'" in path.read_text(encoding='utf-8')
    }
    assert len(scripts) > 20
    for module in MODULES:
        assert not scripts & set(imported(module)), f'{module} imports a script'
