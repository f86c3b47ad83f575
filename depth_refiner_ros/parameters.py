"""Parameters that are declared once: for ROS, the command line, parameter files and the docs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
import difflib
import math
from typing import Any, NamedTuple, TypeVar, get_type_hints

ParameterValue = bool | int | float | str


def parameter(
    default: Any,
    description: str,
    *,
    unit: str = '',
    range: tuple[float, float] | None = None,  # noqa: A002 - the field's own word
    choices: tuple[str, ...] = (),
    live: bool = True,
) -> Any:
    """Declare a field of a stage's parameters: its command line flag, ROS descriptor and docs.

    Args:
        default: A bool, int, float or str; its type is the parameter's.
        description: One sentence that says what turning it does.
        unit: Unit of the value, as written after a number: 'm', 's', 'px'.
        range: Lowest and highest value allowed, both included.
        choices: The words allowed.
        live: Whether a running stage takes a new value; else it is read when the stage is built.
    """
    metadata = {
        'description': description,
        'unit': unit,
        'range': range,
        'choices': choices,
        'live': live,
    }
    return field(default=default, metadata=metadata)


_BOOLS = dict.fromkeys(('true', 'yes', 'on', 'y'), True)
_BOOLS |= dict.fromkeys(('false', 'no', 'off', 'n'), False)
"""The words for a bool, as ROS reads them; a command line knows nothing but words."""

_ARTICLE: dict[type, str] = {bool: 'a', int: 'an', float: 'a', str: 'a'}


class Declared(NamedTuple):
    """One declared parameter, as hosts, the command line and the docs read it."""

    name: str
    type: type
    default: ParameterValue
    description: str
    unit: str
    range: tuple[float, float] | None
    choices: tuple[str, ...]
    live: bool

    def checked(self, value: Any) -> ParameterValue:
        """Return a value as this parameter's type.

        Raises:
            ValueError: If it is of another type, out of range or not among the choices.
        """
        if self.type is float and type(value) is int:
            value = float(value)
        if value is None:
            empty = "; write '' for an empty text" if self.type is str else ''
            raise ValueError(f'parameter {self.name} has no value{empty}')
        if self.type is bool and isinstance(value, str):
            value = _BOOLS.get(value.lower(), value)
        if self.type is str and isinstance(value, bool):
            raise ValueError(
                f'parameter {self.name} must be a str, and YAML reads on, off, yes and no as true '
                'or false; put it in quotes'
            )
        if not isinstance(value, bool | int | float | str) or type(value) is not self.type:
            raise ValueError(
                f'parameter {self.name} must be {_ARTICLE[self.type]} {self.type.__name__}, '
                f'got {value!r} ({type(value).__name__})'
            )
        unit = f' {self.unit}' if self.unit else ''
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f'parameter {self.name} must be a finite number, got {value}')
        if self.range and not self.range[0] <= float(value) <= self.range[1]:
            low, high = self.range
            raise ValueError(
                f'parameter {self.name} must be between {low:g} and {high:g}{unit}, '
                f'got {value:g}{unit}'
            )
        if self.choices and value not in self.choices:
            raise ValueError(
                f'parameter {self.name} must be one of {", ".join(self.choices)}, got {value!r}'
            )
        return value


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """Parameters of a stage: a frozen dataclass whose fields are made by `parameter`."""

    def __post_init__(self) -> None:
        for declared in _own_declared(type(self)):
            object.__setattr__(self, declared.name, declared.checked(getattr(self, declared.name)))


def _own_declared(cls: type) -> Iterator[Declared]:
    for item in fields(cls):
        if 'description' in item.metadata:
            default: Any = item.default
            yield Declared(item.name, type(default), default, **item.metadata)


def declared_parameters(cls: type[Parameters]) -> dict[str, Declared]:
    """Return the parameters of a stage, or of all stages of a pipeline under dotted names."""
    found = {declared.name: declared for declared in _own_declared(cls)}
    hints = get_type_hints(cls)
    for item in fields(cls):
        if is_dataclass(hints[item.name]):
            for name, declared in declared_parameters(hints[item.name]).items():
                dotted = f'{item.name}.{name}'
                found[dotted] = declared._replace(name=dotted)
    return found


def parameter_values(parameters: Parameters) -> dict[str, ParameterValue]:
    """Return the values of a parameters instance under the names of `declared_parameters`."""
    values = {}
    for name in declared_parameters(type(parameters)):
        value: Any = parameters
        for part in name.split('.'):
            value = getattr(value, part)
        values[name] = value
    return values


_P = TypeVar('_P', bound=Parameters)


def updated_parameters(parameters: _P, changes: Mapping[str, Any]) -> _P:
    """Return parameters with some values changed.

    Args:
        parameters: What to start from.
        changes: New values under the names of `declared_parameters`.

    Raises:
        ValueError: If a name is unknown, or a value has the wrong type or is out of range.
    """
    declared = declared_parameters(type(parameters))
    for name, value in changes.items():
        if name not in declared:
            near = difflib.get_close_matches(name, declared, n=1)
            hint = f'did you mean {near[0]}?' if near else f'known: {", ".join(declared)}'
            raise ValueError(f'unknown parameter {name}; {hint}')
        parameters = _with_value(parameters, name.split('.'), declared[name].checked(value))
    return parameters


def _with_value(parameters: Any, path: list[str], value: ParameterValue) -> Any:
    if len(path) > 1:
        return replace(
            parameters, **{path[0]: _with_value(getattr(parameters, path[0]), path[1:], value)}
        )
    return replace(parameters, **{path[0]: value})
