"""What imports what in this repository, read from the source, imports in functions too."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]


def modules_of(top: str) -> dict[str, Path]:
    """Return the file of every module below a package, by dotted name."""
    return {
        '.'.join(path.relative_to(ROOT).with_suffix('').parts).removesuffix('.__init__'): path
        for path in sorted((ROOT / top).rglob('*.py'))
    }


def imported(module: str, modules: dict[str, Path]) -> set[str]:
    """Return which of some modules a module imports."""
    path = modules[module]
    package = module if path.name == '__init__.py' else module.rpartition('.')[0]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parts = package.split('.')[: len(package.split('.')) - node.level + 1]
            base = '.'.join([*(parts if node.level else []), *filter(None, [node.module])])
            names = {f'{base}.{alias.name}' for alias in node.names}
            found |= names & modules.keys() or {base}
    return found & modules.keys()


def with_packages(module: str, names: set[str], modules: dict[str, Path]) -> set[str]:
    """Add the packages that are run on the way: those of other folders than the module's own."""
    found = set(names)
    for name in names:
        while '.' in name:
            name = name.rpartition('.')[0]
            if name in modules and not f'{module}.'.startswith(f'{name}.'):
                found.add(name)
    return found


def circle(modules: dict[str, Path]) -> list[str]:
    """Return modules that import each other in a circle; the first stands at the end, too."""
    edges = {
        module: with_packages(module, imported(module, modules), modules) for module in modules
    }
    done: set[str] = set()
    path: list[str] = []

    def found(module: str) -> list[str]:
        if module in path:
            return [*path[path.index(module) :], module]
        if module in done:
            return []
        path.append(module)
        for name in sorted(edges[module]):
            if name != module and (ring := found(name)):
                return ring
        path.pop()
        done.add(module)
        return []

    return next((ring for module in modules if (ring := found(module))), [])
