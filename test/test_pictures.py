from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from depth_refiner_ros import pictures
from depth_refiner_ros.data import Provenance
from depth_refiner_ros.pictures import NO_VALUE, Panel, Picture, Section, Table

SCALES = [
    pictures.depth_scale(0.5, 4.0),
    pictures.stddev_scale(20),
    pictures.error_scale(50),
]


@pytest.mark.parametrize('scale', SCALES)
def test_values_take_the_colours_of_the_scale(scale: pictures.Scale) -> None:
    fifth = scale.low + (scale.high - scale.low) / 5
    values = np.array([[scale.low, scale.high], [scale.low - 9, scale.high + 9], [fifth, np.nan]])

    picture = scale.paint(values)

    assert picture.dtype == np.uint8
    assert picture.shape == (3, 2, 3)
    np.testing.assert_array_equal(picture[0, 0], scale.colors[0])
    np.testing.assert_array_equal(picture[0, 1], scale.colors[255])
    np.testing.assert_array_equal(picture[1], picture[0])
    np.testing.assert_array_equal(picture[2, 0], scale.colors[51])
    np.testing.assert_array_equal(picture[2, 1], NO_VALUE)


@pytest.mark.parametrize('scale', SCALES)
def test_no_value_cannot_be_mistaken_for_a_value(scale: pictures.Scale) -> None:
    distance = np.linalg.norm(scale.colors.astype(float) - NO_VALUE, axis=1)

    assert distance.min() > 25


def test_near_is_red_and_far_is_blue() -> None:
    near, far = pictures.depth_scale(1, 4).paint(np.array([[1.2, 3.8]]))[0].astype(int)

    assert near[0] > near[2] + 50
    assert far[2] > far[0] + 30


def test_no_error_is_white_too_near_blue_and_too_far_red() -> None:
    near, right, far = pictures.error_scale(50).paint(np.array([[-30.0, 0, 30]]))[0].astype(int)

    assert right.min() >= 253
    assert near[2] > near[0] + 50
    assert far[0] > far[2] + 50


def test_provenance_is_told_apart_by_brightness_alone() -> None:
    kinds = np.array([list(Provenance)], np.uint8)

    picture = pictures.paint_provenance(kinds)

    np.testing.assert_array_equal(picture[0, Provenance.INPAINTED], (213, 94, 0))
    grey = np.sort(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[0].astype(int))
    assert (np.diff(grey) >= 35).all()


# ------------------------------------------------------------------------------------- sheets


def test_a_sheet_holds_its_panels_where_they_belong() -> None:
    red, green = np.zeros((2, 60, 80, 3), np.uint8)
    red[..., 0], green[..., 1] = 200, 100
    scale = pictures.depth_scale(1, 2)

    sheet = pictures.sheet([[Panel('red', red), Panel('green', green, scale)]], panel_width_px=160)

    # Margins of 10; a title of 30 below one of 5, the picture of 120, a legend of 34 and 5.
    assert sheet.shape == (5 + 30 + 120 + 34 + 5, 10 + 160 + 10 + 160 + 10, 3)
    assert (sheet[35:155, 10:170] == (200, 0, 0)).all()
    assert (sheet[35:155, 180:340] == (0, 100, 0)).all()
    assert (sheet[:, :10] == 255).all()
    assert (sheet[5:35, 10:170] < 128).any()  # a title
    np.testing.assert_array_equal(sheet[35 + 120 + 10, 180], scale.colors[0])
    np.testing.assert_array_equal(sheet[35 + 120 + 10, 339], NO_VALUE)


def test_a_headline_and_a_second_row_make_a_sheet_taller() -> None:
    panel = Panel('', np.zeros((10, 10, 3), np.uint8))

    one = pictures.sheet([[panel]], panel_width_px=10)
    two = pictures.sheet([[panel], [panel]], panel_width_px=10)
    headed = pictures.sheet([[panel]], panel_width_px=10, title='x')

    assert len(two) - len(one) == 30 + 10 + 34 + 5
    assert len(headed) - len(one) == 42


def test_pictures_are_enlarged_by_repeating_pixels() -> None:
    checks = np.zeros((2, 2, 3), np.uint8)
    checks[0, 0] = checks[1, 1] = 255

    sheet = pictures.sheet([[Panel('', checks)]], panel_width_px=20)

    assert set(np.unique(sheet[35:55, 10:30])) == {0, 255}


def test_the_names_of_classes_stand_beside_their_colours() -> None:
    usual = pictures.provenance_legend(np.zeros((2, 2), np.uint8))
    panel = Panel('', np.zeros((10, 400, 3), np.uint8), usual)

    sheet = pictures.sheet([[panel]], panel_width_px=400)

    swatches = sheet[35 + 10 + 10, [10, 110, 210, 310]]
    np.testing.assert_array_equal(swatches, list(pictures.PROVENANCE_COLORS.values())[:4])
    rare = pictures.provenance_legend(np.full((2, 2), Provenance.ALIGNED, np.uint8))
    assert list(rare) == [*usual, 'aligned']


def test_a_sheet_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match='at least one panel'):
        pictures.sheet([[]])


@pytest.mark.parametrize('align', ['left', 'center', 'right'])
def test_text_stays_within_its_width(align: str) -> None:
    strip = np.full((30, 400, 3), 255, np.uint8)
    at = {'left': 100, 'center': 200, 'right': 300}[align]

    pictures.draw_text(
        strip,
        'a title that is much too long for this width',
        (at, 20),
        14,
        align=align,  # type: ignore[arg-type]
        width_px=200,
    )

    inked = np.flatnonzero((strip < 200).any(axis=(0, 2)))
    assert inked[0] >= 98
    assert 180 < inked[-1] - inked[0] <= 204
    assert inked[-1] <= 302


# -------------------------------------------------------------------------------------- files


def test_a_png_reads_back_as_it_was(tmp_path: Path) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (7, 9, 3), np.uint8)

    pictures.write_png(tmp_path / 'new' / 'a.png', rgb)

    read = cv2.imread(str(tmp_path / 'new' / 'a.png'), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(read[..., ::-1], rgb)


def test_a_picture_that_cannot_be_written_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match='directory'):
        pictures.write_png(tmp_path, np.zeros((1, 1, 3), np.uint8))


class Outline(HTMLParser):
    """Collects tags with their attributes and text, and checks that tags are closed in order."""

    void = ('meta', 'img')

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_a_page_needs_nothing_else(tmp_path: Path) -> None:
    rgb = np.zeros((4, 6, 3), np.uint8)
    blocks = [
        'Errors < 5 mm & more.',
        Table(('', 'before'), [('holes', '9.1 %'), ('a <b>', '2.0 mm')], 'The figures.'),
        Picture(rgb, 'What it "looks" like'),
        Picture(rgb, lossless=True),
    ]

    pictures.write_page(tmp_path / 'out' / 'page.html', 'A & B', [Section('First', blocks)])

    page = (tmp_path / 'out' / 'page.html').read_text(encoding='utf-8')
    outline = Outline(page)
    assert 'http' not in page
    assert 'url(' not in page
    assert not {'script', 'link', 'iframe'} & {tag for tag, _ in outline.tags}
    images = [attributes for tag, attributes in outline.tags if tag == 'img']
    assert [str(image['src']).partition(',')[0] for image in images] == [
        'data:image/jpeg;base64',
        'data:image/png;base64',
    ]
    assert images[0]['alt'] == 'What it "looks" like'
    assert (images[0]['width'], images[0]['height']) == ('6', '4')
    for text in ('A & B', 'First', 'Errors < 5 mm & more.', 'a <b>', '9.1 %', 'The figures.'):
        assert text in outline.text
    assert 'prefers' in page or 'color-scheme: light dark' in page
