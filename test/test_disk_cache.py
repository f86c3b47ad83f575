import errno
import json
import os
from pathlib import Path
import subprocess
import sys
import time

import pytest

from depth_refiner_ros.disk_cache import CacheError, DiskCache, cache_folder

FACTS = {'kind': 'engine', 'onnx': 'abc', 'sizes': [[480, 640]]}


@pytest.fixture
def cache(tmp_path):
    return DiskCache(tmp_path / 'cache')


def used(cache, facts, seconds_ago):
    path = cache.put(facts, b'x' * 1000)
    then_s = time.time() - seconds_ago
    os.utime(path, (then_s, then_s))
    return path


def test_what_was_put_is_got_by_the_same_facts_only(cache):
    assert cache.get(FACTS) is None
    assert cache.entries() == []
    cache.put(FACTS, b'engine\nof two lines')
    assert cache.get(FACTS) == b'engine\nof two lines'
    assert cache.get(FACTS | {'sizes': [(480, 640)]}) == b'engine\nof two lines'
    assert cache.get(FACTS | {'driver': 13000}) is None
    (entry,) = cache.entries()
    assert entry.facts == FACTS
    assert entry.size_bytes == entry.path.stat().st_size
    cache.put(FACTS, b'another')
    assert cache.get(FACTS) == b'another'
    assert len(cache.entries()) == 1


def test_the_folder_follows_xdg_and_may_be_chosen(monkeypatch, tmp_path):
    monkeypatch.delenv('DEPTH_REFINER_CACHE', raising=False)
    monkeypatch.setenv('XDG_CACHE_HOME', '/var/cache/me')
    assert str(cache_folder()) == '/var/cache/me/depth_refiner'
    monkeypatch.setenv('XDG_CACHE_HOME', 'relative')
    monkeypatch.setenv('HOME', '/home/me')
    assert str(cache_folder()) == '/home/me/.cache/depth_refiner'
    monkeypatch.setenv('DEPTH_REFINER_CACHE', str(tmp_path))
    assert DiskCache().folder == tmp_path


@pytest.mark.parametrize('at', [0, 5, 60, -1], ids=['head', 'key', 'facts', 'data'])
def test_a_changed_byte_drops_the_entry(cache, at):
    path = cache.put(FACTS, b'engine')
    data = bytearray(path.read_bytes())
    data[at] ^= 0x15
    path.write_bytes(data)
    assert cache.get(FACTS) is None
    assert not path.exists()


@pytest.mark.parametrize('length', [0, 10, -3])
def test_an_entry_cut_short_is_dropped(cache, length):
    path = cache.put(FACTS, b'engine')
    path.write_bytes(path.read_bytes()[:length])
    assert cache.get(FACTS) is None
    assert not path.exists()


def test_an_entry_under_another_name_is_not_believed(cache):
    other = FACTS | {'driver': 1}
    cache.put(FACTS, b'for FACTS').rename(cache._path(other))
    assert cache.get(other) is None


def test_what_is_no_entry_is_not_listed(cache):
    cache.put(FACTS, b'engine')
    (cache.folder / 'a.entry').write_bytes(b'{"format": 2}\n')
    (cache.folder / 'b.entry').write_bytes(b'\x00\xff')
    (cache.folder / 'notes.txt').write_text('mine')
    assert len(cache.entries()) == 1


def test_those_unused_the_longest_go_first(tmp_path):
    cache = DiskCache(tmp_path, largest_bytes=2800)  # two of about 1150 bytes
    old = used(cache, {'n': 1}, 300)
    older = used(cache, {'n': 2}, 200)
    assert cache.get({'n': 1}) is not None  # used again: now the newest
    new = cache.put({'n': 3}, b'x' * 1000)
    assert old.exists()
    assert new.exists()
    assert not older.exists()


def test_what_was_just_written_stays_even_if_it_is_too_large(tmp_path):
    cache = DiskCache(tmp_path, largest_bytes=10)
    first, second = cache.put({'n': 1}, b'x' * 100), cache.put({'n': 2}, b'x' * 100)
    assert (first.exists(), second.exists()) == (False, True)


def test_a_full_disk_leaves_the_old_entry_and_nothing_else(cache, monkeypatch):
    cache.put(FACTS, b'old')

    def full(descriptor):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(os, 'fsync', full)
    with pytest.raises(OSError, match='No space left'):
        cache.put(FACTS, b'new')
    monkeypatch.undo()
    assert cache.get(FACTS) == b'old'
    assert len(list(cache.folder.iterdir())) == 1


def test_clearing_counts_entries_and_leaves_other_files(cache):
    assert cache.clear() == 0
    cache.put(FACTS, b'1')
    cache.put(FACTS | {'n': 2}, b'2')
    (cache.folder / '.abc.part').write_bytes(b'half')
    (cache.folder / 'notes.txt').write_text('mine')
    assert cache.clear() == 2
    assert [path.name for path in cache.folder.iterdir()] == ['notes.txt']


def test_half_written_files_go_after_a_day(cache):
    cache.put(FACTS, b'1')
    fresh, stale = cache.folder / '.a.part', cache.folder / '.b.part'
    for path in (fresh, stale):
        path.write_bytes(b'half')
    os.utime(stale, (time.time() - 90000,) * 2)
    cache.put(FACTS, b'2')
    assert fresh.exists()
    assert not stale.exists()


@pytest.mark.skipif(os.name != 'posix', reason='permissions are those of POSIX')
def test_a_folder_that_others_can_write_is_refused(cache):
    cache.put(FACTS, b'engine')
    assert cache.folder.stat().st_mode & 0o777 == 0o700
    cache.folder.chmod(0o777)
    with pytest.raises(CacheError, match='chmod 700'):
        cache.get(FACTS)
    with pytest.raises(CacheError, match='DEPTH_REFINER_CACHE'):
        cache.put(FACTS, b'engine')


WRITE_OFTEN = """
import sys
from pathlib import Path
from depth_refiner_ros.disk_cache import DiskCache
cache, letter = DiskCache(Path(sys.argv[1])), sys.argv[2].encode()
for _ in range(40):
    cache.put({facts!r}, letter * 5000)
    data = cache.get({facts!r})
    assert data is not None and len(data) == 5000 and len(set(data)) == 1
"""


def test_concurrent_writers_never_show_half_an_entry(tmp_path):
    command = [sys.executable, '-c', WRITE_OFTEN.format(facts=FACTS), str(tmp_path)]
    root = Path(__file__).parents[2]
    writers = [subprocess.Popen([*command, letter], cwd=root) for letter in 'ABC']
    assert [writer.wait(300) for writer in writers] == [0, 0, 0]
    assert [path.suffix for path in tmp_path.iterdir()] == ['.entry']


def test_the_head_is_a_line_of_json(cache):
    path = cache.put(FACTS, b'data')
    assert json.loads(path.read_bytes().partition(b'\n')[0])['facts'] == FACTS
