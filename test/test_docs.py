"""Links of the documentation lead somewhere, and its index has every page."""

from pathlib import Path
import re

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [
        ROOT / 'README.md',
        ROOT / 'CONTRIBUTING.md',
        ROOT / 'CHANGELOG.md',
        ROOT / 'training' / 'README.md',
        *(ROOT / 'docs').glob('*.md'),
        *(ROOT / 'depth_refiner_ros' / 'models').glob('*.md'),
    ]
)
LINK = re.compile(r'\[[^\]]*\]\((?!https?:)([^)#\s]*)(?:#([^)\s]*))?\)')
SCRIPT = re.compile(r'(?<![\w/])(?:tools|examples)/\w+\.py')
HEADING = re.compile(r'^#+ (.*)$', re.MULTILINE)


def without_code(text):
    return re.sub(r'^\s*```.*?^\s*```', '', text, flags=re.DOTALL | re.MULTILINE)


def anchors(page):
    """Return the anchors that a forge makes of a page's headings."""
    headings = HEADING.findall(without_code(page.read_text(encoding='utf-8')))
    return {re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-') for heading in headings}


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    text = page.read_text(encoding='utf-8')
    for target, anchor in LINK.findall(without_code(text)):
        linked = (page.parent / target).resolve() if target else page
        assert linked.exists(), f'{target} is linked, but is not there'
        if anchor:
            assert anchor in anchors(linked), f'{linked.name} has no heading #{anchor}'
    for script in SCRIPT.findall(text):
        assert (ROOT / script).is_file(), f'{script} is named, but is not there'


def test_the_index_has_every_page():
    index = (ROOT / 'docs' / 'README.md').read_text(encoding='utf-8')
    linked = {target for target, _ in LINK.findall(index)}
    pages = {page.name for page in (ROOT / 'docs').glob('*.md')} - {'README.md'}
    assert pages <= linked


def test_the_readme_fits_a_screen_or_two():
    lines = (ROOT / 'README.md').read_text(encoding='utf-8').splitlines()
    assert len(lines) < 100
