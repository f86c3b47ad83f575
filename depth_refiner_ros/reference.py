"""Writes the tables of topics and parameters into docs/ros.md and docs/parameters.md.

The tables come from the declarations that hosts run on; a test holds the files to them. Run
`make docs` after changing a declaration.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
import re

from .config import HostParameters
from .messages import MESSAGE_TYPE
from .parameters import Declared, declared_parameters
from .stage import Topic
from .stages import STAGES


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ['---'] * len(head), *rows]
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def topics_table() -> str:
    """Return a Markdown table of what every stage subscribes to and publishes."""
    rows = []
    for name, stage in STAGES.items():
        inputs = [t for t in stage.inputs.values() if isinstance(t, Topic)]
        rows.append(
            [
                f'`{name}`',
                ', '.join(f'[`{t.name}`]' if t.optional else f'`{t.name}`' for t in inputs),
                ', '.join(f'`{t.name}`' for t in stage.outputs.values()),
            ]
        )
    return _table(['stage', 'subscribes ([optional])', 'publishes'], rows)


def types_table() -> str:
    """Return a Markdown table of the published topics and their message types."""
    topics = {
        t.name: MESSAGE_TYPE[t.type] for stage in STAGES.values() for t in stage.outputs.values()
    }
    return _table(['topic', 'type'], [[f'`{n}`', f'`{kind}`'] for n, kind in topics.items()])


def _row(declared: Declared) -> list[str]:
    default = str(declared.default).lower() if declared.type is bool else str(declared.default)
    allowed = ', '.join(f'`{choice}`' for choice in declared.choices)
    if declared.range:
        allowed = f'{declared.range[0]:g} to {declared.range[1]:g}'
    return [
        f'`{declared.name}`',
        f'`{default}`' if default else '',
        allowed,
        declared.unit,
        'yes' if declared.live else '',
        declared.description,
    ]


def parameters_table(prefix: str, parameters: type) -> str:
    """Return a Markdown table of declared parameters, their names under a prefix."""
    declared = [
        item._replace(name=f'{prefix}{item.name}')
        for item in declared_parameters(parameters).values()
    ]
    return _table(
        ['parameter', 'default', 'allowed', 'unit', 'live', 'what it does'], map(_row, declared)
    )


def parameters_page() -> str:
    """Return docs/parameters.md."""
    parts = [
        '# Parameters',
        'Made from the declarations by `make docs`. One file serves every host '
        '(`--params FILE`, `params_file:=FILE`); *live* parameters can be changed while a node '
        'runs (`ros2 param set`). `topics.<port>` names the topic of an input where it is not '
        "the stage's own.",
        '## Every host',
        parameters_table('', HostParameters),
    ]
    for name, stage in STAGES.items():
        parts.append(f'## {name}')
        parts.append((stage.__doc__ or '').partition('\n')[0])
        if declared_parameters(stage.Parameters):
            parts.append(parameters_table(f'{name}.', stage.Parameters))
        else:
            parts.append('No parameters.')
    return '\n\n'.join(parts) + '\n'


def updated_topics(text: str) -> str:
    """Return docs/ros.md with its generated tables renewed."""
    for name, table in (('topics', topics_table()), ('types', types_table())):
        pattern = rf'(<!-- {name} -->\n).*?(<!-- /{name} -->)'
        text = re.sub(pattern, rf'\1{table}\n\2', text, flags=re.DOTALL)
    return text


def main() -> None:
    """Renew the files of a checkout."""
    docs = Path(__file__).resolve().parent.parent / 'docs'
    page = docs / 'ros.md'
    page.write_text(updated_topics(page.read_text(encoding='utf-8')), encoding='utf-8')
    (docs / 'parameters.md').write_text(parameters_page(), encoding='utf-8')


if __name__ == '__main__':
    main()
