from __future__ import annotations

from types import SimpleNamespace

import pytest
from rosbags.interfaces import QosDurability

from depth_refiner_ros.hosts.bag.connections import encoding, is_latched, offered_qos
from depth_refiner_ros.hosts.bag.writer import _qos

LATCHED, VOLATILE = _qos(QosDurability.TRANSIENT_LOCAL), _qos(QosDurability.VOLATILE)


def topic(name='/depth', **ext):
    return SimpleNamespace(topic=name, ext=SimpleNamespace(**ext))


def test_what_ros1_says_of_a_topic():
    found = topic(callerid=None, latching=1)
    assert (encoding(found), offered_qos(found), is_latched(found)) == ('ros1', [], True)
    assert not is_latched(topic(latching=0))
    assert not is_latched(topic(latching=None))


@pytest.mark.parametrize(('profiles', 'latched'), [([VOLATILE], False), ([LATCHED], True)])
def test_what_ros2_says_of_a_topic(profiles, latched):
    found = topic(serialization_format='cdr', offered_qos_profiles=profiles)
    assert (encoding(found), offered_qos(found)) == ('cdr', profiles)
    assert is_latched(found) is latched


def test_static_transforms_are_always_latched():
    assert is_latched(topic('/tf_static', serialization_format='cdr', offered_qos_profiles=[]))
