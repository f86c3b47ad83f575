from __future__ import annotations

from dataclasses import FrozenInstanceError, dataclass
import re

import numpy as np
import pytest

from depth_refiner_ros.parameters import (
    Parameters,
    declared_parameters,
    parameter,
    parameter_values,
    updated_parameters,
)


@dataclass(frozen=True, kw_only=True)
class SmoothParameters(Parameters):
    """Every kind of parameter there is."""

    enabled: bool = parameter(True, 'Whether to smooth at all.')
    radius_px: int = parameter(3, 'Radius of the window.', unit='px', range=(1, 15))
    sigma_m: float = parameter(0.01, 'Width in depth.', unit='m', range=(0, 0.5))
    gain: float = parameter(1.0, 'Strength.')
    mode: str = parameter('fast', 'Which method.', choices=('fast', 'exact'))
    model: str = parameter('', 'Path of a model.', live=False)


def refused(message):
    return pytest.raises(ValueError, match=f'^{re.escape(message)}$')


def test_declarations_carry_everything_hosts_show():
    declared = declared_parameters(SmoothParameters)
    assert list(declared) == ['enabled', 'radius_px', 'sigma_m', 'gain', 'mode', 'model']
    assert declared['radius_px']._asdict() == {
        'name': 'radius_px',
        'type': int,
        'default': 3,
        'description': 'Radius of the window.',
        'unit': 'px',
        'range': (1, 15),
        'choices': (),
        'live': True,
    }
    types = [declaration.type for declaration in declared.values()]
    assert types == [bool, int, float, float, str, str]
    assert declared['mode'].choices == ('fast', 'exact')
    assert not declared['model'].live


@pytest.mark.parametrize(
    ('name', 'value', 'message'),
    [
        ('enabled', 1, 'parameter enabled must be a bool, got 1 (int)'),
        ('enabled', 'maybe', "parameter enabled must be a bool, got 'maybe' (str)"),
        ('radius_px', True, 'parameter radius_px must be an int, got True (bool)'),
        ('radius_px', 3.0, 'parameter radius_px must be an int, got 3.0 (float)'),
        ('radius_px', '3', "parameter radius_px must be an int, got '3' (str)"),
        ('radius_px', None, 'parameter radius_px has no value'),
        ('radius_px', [3], 'parameter radius_px must be an int, got [3] (list)'),
        ('radius_px', 0, 'parameter radius_px must be between 1 and 15 px, got 0 px'),
        ('radius_px', 16, 'parameter radius_px must be between 1 and 15 px, got 16 px'),
        ('sigma_m', -0.1, 'parameter sigma_m must be between 0 and 0.5 m, got -0.1 m'),
        ('sigma_m', 1, 'parameter sigma_m must be between 0 and 0.5 m, got 1 m'),
        ('sigma_m', False, 'parameter sigma_m must be a float, got False (bool)'),
        ('sigma_m', float('nan'), 'parameter sigma_m must be a finite number, got nan'),
        ('gain', float('nan'), 'parameter gain must be a finite number, got nan'),
        ('gain', float('-inf'), 'parameter gain must be a finite number, got -inf'),
        ('gain', 'high', "parameter gain must be a float, got 'high' (str)"),
        ('mode', 'slow', "parameter mode must be one of fast, exact, got 'slow'"),
        ('mode', 3, 'parameter mode must be a str, got 3 (int)'),
    ],
)
def test_a_value_that_does_not_fit_is_refused(name, value, message):
    with refused(message):
        SmoothParameters(**{name: value})
    with refused(message):
        updated_parameters(SmoothParameters(), {name: value})


def test_a_numpy_number_is_refused_rather_than_guessed():
    with pytest.raises(ValueError, match=r'^parameter gain must be a float, got .* \(float64\)$'):
        SmoothParameters(gain=np.float64(1.0))


@pytest.mark.parametrize('radius_px', [1, 15])
def test_both_ends_of_a_range_are_allowed(radius_px):
    assert SmoothParameters(radius_px=radius_px).radius_px == radius_px


def test_an_int_given_for_a_float_becomes_one():
    parameters = SmoothParameters(gain=2)
    assert type(parameters.gain) is float
    assert type(updated_parameters(parameters, {'sigma_m': 0}).sigma_m) is float


def test_parameters_are_frozen():
    with pytest.raises(FrozenInstanceError):
        SmoothParameters().gain = 2.0
    with pytest.raises(TypeError):
        SmoothParameters(True)  # names only


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('radius', 'unknown parameter radius; did you mean radius_px?'),
        ('sigma', 'unknown parameter sigma; did you mean sigma_m?'),
        (
            'zzz',
            'unknown parameter zzz; known: enabled, radius_px, sigma_m, gain, mode, model',
        ),
        ('', 'unknown parameter ; known: enabled, radius_px, sigma_m, gain, mode, model'),
    ],
)
def test_an_unknown_parameter_is_refused_with_a_hint(name, message):
    with refused(message):
        updated_parameters(SmoothParameters(), {name: 1})


def test_updating_leaves_the_original_as_it_was():
    original = SmoothParameters()
    changed = updated_parameters(original, {'radius_px': 5, 'mode': 'exact'})
    assert (changed.radius_px, changed.mode) == (5, 'exact')
    assert original == SmoothParameters()
    assert updated_parameters(original, {}) == original


def test_one_bad_change_changes_nothing():
    original = SmoothParameters()
    with refused('parameter radius_px must be between 1 and 15 px, got 99 px'):
        updated_parameters(original, {'gain': 3.0, 'radius_px': 99})
    assert original == SmoothParameters()


def test_values_by_name():
    values = parameter_values(SmoothParameters(gain=2))
    assert values == {
        'enabled': True,
        'radius_px': 3,
        'sigma_m': 0.01,
        'gain': 2.0,
        'mode': 'fast',
        'model': '',
    }
    assert updated_parameters(SmoothParameters(), values) == SmoothParameters(gain=2)
