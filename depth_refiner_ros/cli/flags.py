"""Command line flags made from declared parameters."""

from __future__ import annotations

from dataclasses import field, fields, is_dataclass, make_dataclass
from typing import Annotated, Any, Optional

import tyro

from ..config import HostParameters
from ..hosts.realsense import RealSenseParameters
from ..parameters import Declared, declared_parameters
from ..stages import STAGES


def _flag(declared: Declared) -> tuple[str, Any, Any]:
    help_text = declared.description
    if declared.range:
        low, high = declared.range
        help_text += f' {low:g} to {high:g} {declared.unit}'.rstrip() + '.'
    default = str(declared.default).lower() if declared.type is bool else declared.default
    help_text += f' (default: {default})'
    words = declared.choices or (('true', 'false') if declared.type is bool else ())
    metavar = f'{{{",".join(words)}}}' if words else declared.type.__name__.upper()
    kind: Any = str if words else declared.type
    argument = tyro.conf.arg(help=help_text, help_behavior_hint='', metavar=metavar)
    return declared.name, Annotated[Optional[kind], argument], field(default=None)  # noqa: UP045


def _flags(name: str, parameters: Any, doc: str) -> type:
    made = make_dataclass(
        name, [_flag(item) for item in declared_parameters(parameters).values()], frozen=True
    )
    made.__doc__ = doc
    return made


RealSenseFlags: Any = _flags(
    'RealSenseFlags', RealSenseParameters, 'Which RealSense, with --source realsense.'
)
"""A dataclass with a field for every parameter of a RealSense: None unless given."""

HostFlags: Any = _flags('HostFlags', HostParameters, 'How messages are paired and written.')
"""A dataclass with a field for every parameter of the host: None unless given."""


def _all_flags() -> type:
    host = Annotated[HostFlags, tyro.conf.arg(name='')]
    groups: list[tuple[str, Any, Any]] = [('host', host, field(default_factory=HostFlags))]
    for name, stage in STAGES.items():
        if declared_parameters(stage.Parameters):
            doc = (stage.__doc__ or '').partition('\n')[0]
            flags = _flags(f'{stage.__name__}Flags', stage.Parameters, doc)
            groups.append((name, flags, field(default_factory=flags)))
    return make_dataclass('ParameterFlags', groups, frozen=True)


ParameterFlags: Any = _all_flags()
"""A dataclass with a field for every parameter of every host and stage: None unless given."""


def given(flags: Any) -> dict[str, Any]:
    """Return the parameters that were given, under the names of a parameter file."""
    values: dict[str, Any] = {}
    for item in fields(flags):
        value = getattr(flags, item.name)
        if is_dataclass(value):
            prefix = '' if item.name == 'host' else f'{item.name}.'
            values.update((f'{prefix}{name}', v) for name, v in given(value).items())
        elif value is not None:
            values[item.name] = value
    return values
