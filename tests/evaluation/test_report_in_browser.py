# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import io
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, Request
from report_summary import make_examples, make_summary, render

from torchgeo_planetcr.evaluation.report.pictures import LARGEST_ERROR

pytestmark = pytest.mark.slow

METHODS = ('copy', 'dsen2cr', 'glfcr')

PHONE: dict[str, Any] = {
    'viewport': {'width': 360, 'height': 740},
    'has_touch': True,
    'is_mobile': True,
}

HOSTILE = '<script>alert(1)</script>'

Open = Callable[..., Page]


@pytest.fixture(scope='module')
def html() -> str:
    """A report with all sections."""
    return render(make_summary(METHODS), make_examples(METHODS))


@pytest.fixture(scope='module')
def short() -> str:
    """A report that opens more quickly."""
    summary = make_summary(METHODS, only=['cloud cover', 'class level 2'])
    return render(summary, make_examples(METHODS, count=3))


@pytest.fixture(scope='module')
def problems() -> list[str]:
    """What pages asked for from outside, or complained of."""
    return []


@pytest.fixture(autouse=True)
def no_problems(problems: list[str]) -> Iterator[None]:
    yield
    assert not problems


@pytest.fixture(scope='module')
def open_page(
    browser: Browser, problems: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Open]:
    """Opens a report."""
    contexts = []

    def on_request(request: Request) -> None:
        if not request.url.startswith(('data:', 'blob:')):
            problems.append(request.url)

    def on_console(message: ConsoleMessage) -> None:
        if message.type in ('error', 'warning'):
            problems.append(message.text)

    def open_page(html: str, **kwargs: Any) -> Page:
        path = tmp_path_factory.mktemp('report') / 'report.html'
        path.write_text(html, 'utf-8')
        context = browser.new_context(**kwargs)
        contexts.append(context)
        page = context.new_page()
        page.on('request', on_request)
        page.on('console', on_console)
        page.on('pageerror', lambda error: problems.append(str(error)))
        page.on('dialog', lambda dialog: problems.append(dialog.message))
        page.goto(path.as_uri())
        # The file itself
        assert problems.pop(0) == path.as_uri()
        return page

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture(scope='module')
def page(open_page: Open, short: str) -> Page:
    """A page that tests share: each viewer is changed by one test alone."""
    return open_page(short)


def pixels(stage: Locator) -> NDArray[np.int16]:
    # A new picture shows once it is decoded.
    stage.evaluate('e => Promise.all([...e.children].map(c => c.decode?.()))')
    image = Image.open(io.BytesIO(stage.screenshot())).convert('RGB')
    return np.asarray(image, dtype=np.int16)


def same(one: NDArray[np.int16], other: NDArray[np.int16]) -> bool:
    """Whether two stages are equal but for the divider, and for a row on an edge."""
    return (one == other)[:, 9:-9].mean() > 0.98


def column(table: Locator, number: int) -> list[str]:
    """What a column is sorted by."""
    script = (
        'table => [...table.tBodies[0].rows].map(row => row.cells[%d].dataset.value)'
    )
    return table.evaluate(script % number)


def fits(page: Page) -> bool:
    return page.evaluate('document.scrollingElement.scrollWidth <= innerWidth')


def test_sort(page: Page) -> None:
    """By click and by key, by number, both ways, and what is empty stays last."""
    table = page.locator('section', has_text='eleven classes of ESA').locator('table')
    table = table.first
    header = table.locator('th', has_text='PSNR')
    before = column(table, 2)
    button = header.get_by_role('button')
    for act, direction in (
        (button.click, 'ascending'),
        (button.click, 'descending'),
        (lambda: button.press('Enter'), 'ascending'),
        (lambda: button.press('Enter'), 'descending'),
    ):
        act()
        assert header.get_attribute('aria-sort') == direction
        after = column(table, 2)
        assert sorted(after) == sorted(before)
        empty = before.count('')
        assert after[-empty:] == [''] * empty
        values = [float(value) for value in after[:-empty]]
        assert values == sorted(values, reverse=direction == 'descending')
    # Strata go back to their own order, and one column alone is the sorted one.
    table.locator('th', has_text='Class').get_by_role('button').click()
    assert column(table, 0) == sorted(column(table, 0), key=int)
    assert table.locator('[aria-sort]').count() == 1


def test_slider_by_keyboard(page: Page) -> None:
    viewer = page.locator('.viewer').first
    stage, slider = viewer.locator('.stage'), viewer.locator('input')
    slider.focus()
    start = pixels(stage)
    shots = {}
    for key, clip in (
        ('ArrowRight', 49),
        ('End', 0),
        ('Home', 100),
        ('ArrowRight', 99),
    ):
        page.keyboard.press(key)
        style = stage.locator('.left').evaluate('e => getComputedStyle(e).clipPath')
        assert f'{clip}%' in style
        shots[key] = pixels(stage)
    # The cloudy half above is bright on the left image alone.
    middle = start.shape[1] // 2
    top = slice(20, 100)
    left, right = start[top, : middle - 9], start[top, middle + 9 :]
    assert left.mean() > right.mean() + 5
    assert shots['End'][top].mean() > start[top].mean() > shots['Home'][top].mean()
    assert '99 % dsen2cr' in (slider.get_attribute('aria-valuetext') or '')


def test_slider_by_mouse(page: Page) -> None:
    viewer = page.locator('.viewer').nth(1)
    stage, slider = viewer.locator('.stage'), viewer.locator('input')
    stage.scroll_into_view_if_needed()
    start = pixels(stage)
    box = stage.bounding_box()
    assert box
    y = box['y'] + box['height'] / 4
    page.mouse.move(box['x'] + box['width'] / 2, y)
    page.mouse.down()
    page.mouse.move(box['x'] + box['width'] / 5, y, steps=3)
    page.mouse.up()
    page.mouse.move(box['x'] + box['width'] * 0.9, y)
    assert slider.input_value() == '20'
    changed = np.abs(pixels(stage) - start).max(axis=-1) > 20
    # Only what lies between the two positions, in the cloudy half
    share = changed[20:100].mean(axis=0)
    width = len(share)
    assert share[int(0.25 * width) : int(0.45 * width)].mean() > 0.5
    assert share[: int(0.15 * width)].max() == 0
    assert share[int(0.55 * width) :].max() == 0


def test_choice_of_images(page: Page) -> None:
    viewer = page.locator('.viewer').last
    stage = viewer.locator('.stage')
    right = viewer.locator('select.right')
    assert right.locator('option').all_inner_texts() == [
        'Cloudy',
        'copy',
        'dsen2cr',
        'glfcr',
        'Clear',
    ]
    assert right.locator('option:checked').inner_text() == 'dsen2cr'
    viewer.locator('input').press('Home')
    shots = []
    for name in ('dsen2cr', 'glfcr', 'Clear', 'copy', 'Cloudy'):
        right.select_option(name)
        assert name in (stage.locator('.right').get_attribute('alt') or '')
        shots.append(pixels(stage))
    means = [shot.mean() for shot in shots]
    assert means[2] < means[1] < means[0] < means[3]
    assert same(shots[3], shots[4])
    # The left one by its own select
    viewer.locator('input').press('End')
    assert same(pixels(stage), shots[4])
    viewer.locator('select.left').select_option('Clear')
    assert same(pixels(stage), shots[2])
    assert not same(shots[2], shots[1])


def test_phone(open_page: Open, html: str) -> None:
    page = open_page(html, **PHONE)
    assert fits(page)
    page.evaluate(
        'document.querySelectorAll("details").forEach(e => { e.open = true; })'
    )
    assert fits(page)
    # A table moves inside its frame.
    frame = page.locator('#summary .scroll').first
    assert frame.evaluate('e => e.scrollWidth > e.clientWidth')
    # The slider follows a finger.
    stage = page.locator('.stage').first
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    assert box
    page.touchscreen.tap(box['x'] + box['width'] * 0.7, box['y'] + 20)
    assert page.locator('.viewer input').first.input_value() == '70'


def test_color_schemes(page: Page) -> None:
    script = """
        (({backgroundColor, color}) => [backgroundColor, color])
        (getComputedStyle(document.body))
    """
    for scheme, expected in (('dark', [True, False]), ('light', [False, True])):
        page.emulate_media(color_scheme=scheme)
        colors = [re.findall(r'\d+', color) for color in page.evaluate(script)]
        assert [sum(map(int, color[:3])) < 384 for color in colors] == expected


def test_keyboard_alone(open_page: Open, short: str) -> None:
    """The first stop skips to the numbers, and each stop can be seen."""
    page = open_page(short)
    page.keyboard.press('Tab')
    assert page.evaluate('document.activeElement.hash') == '#main'
    for _ in range(15):
        page.keyboard.press('Tab')
        style = page.evaluate('getComputedStyle(document.activeElement).outlineStyle')
        assert style == 'solid'


def test_without_script(open_page: Open, short: str) -> None:
    page = open_page(short, java_script_enabled=False)
    assert '18.79' in page.locator('#summary').inner_text()
    assert page.get_by_role('button').count() == 0
    assert not page.locator('.viewer').first.is_visible()
    pictures = page.locator('.example').first.locator('.picture img')
    # Cloudy, clear, radar, clouds, land cover, and two of each method
    assert pictures.count() == 11
    assert pictures.first.is_visible()
    assert pictures.last.is_visible()


def test_pictures_decode(page: Page) -> None:
    """Each is a picture of the right size and has a description."""
    # A lazy one is not decoded until it comes into view.
    script = """Promise.all([...document.querySelectorAll('.picture img')].map(async e => {
        e.loading = 'eager';
        await e.decode();
        return [e.naturalWidth, e.alt !== ''];
    }))"""
    pictures = page.evaluate(script)
    assert pictures == [[60, True]] * 33
    legend = page.locator('.tiles .legend').first.inner_text().split('\n')
    assert [name.strip() for name in legend] == [
        'Tree cover',
        'Cropland',
        'Permanent water bodies',
        'No land cover',
    ]


def test_error_maps(page: Page) -> None:
    """On one scale: no error is dark, and the largest is the bright end."""
    example = page.locator('.example').first
    bright = example.get_by_alt_text('Error of copy').screenshot()
    gray = np.asarray(Image.open(io.BytesIO(bright)).convert('L'))[10:-10, 10:-10]
    half = len(gray) // 2
    assert gray[: half - 10].min() > 200
    assert gray[half + 10 :].max() < 30
    assert f'{LARGEST_ERROR} or more' in example.locator('.scale').inner_text()


@pytest.mark.parametrize('width', [360, 800, 1200, 1600])
def test_charts_are_readable(open_page: Open, short: str, width: int) -> None:
    page = open_page(short, viewport={'width': width, 'height': 900})
    widths = page.locator('.chart svg').evaluate_all(
        'charts => charts.map(chart => chart.getBoundingClientRect().width)'
    )
    assert widths
    assert min(widths) >= 260
    assert fits(page)


def test_many_areas(open_page: Open) -> None:
    """As many as the archive has, and the page stays small."""
    summary = make_summary(['mine'], areas=780, landcover=False, only=['area'])
    html = render(summary, [])
    assert len(html) < 1_500_000
    page = open_page(html, **PHONE)
    table = page.locator('details table')
    assert not table.is_visible()
    page.get_by_text('Table of areas').click()
    assert table.is_visible()
    assert fits(page)
    table.get_by_role('button', name='PSNR').click()
    values = [float(value) for value in column(table, 2)]
    assert len(values) == 780
    assert values == sorted(values)


def test_hostile_names(open_page: Open) -> None:
    names = ['copy', HOSTILE, '" onload="alert(2)', '$x_1$ & {{ 7 * 7 }}', 'items']
    summary = make_summary(names, areas=2, only=['season', 'area'], notes=[HOSTILE])
    summary['methods'][HOSTILE]['source'] = f'{HOSTILE}/{"long" * 50}.ckpt'
    summary['data']['root'] = HOSTILE
    summary['figures'] = [
        figure
        | {'stratum': HOSTILE if figure['kind'] == 'season' else figure['stratum']}
        for figure in summary['figures']
    ]
    (example,) = make_examples(names)
    example = example._replace(patch=HOSTILE, reasons=[f'Best of {HOSTILE}'])
    page = open_page(render(summary, [example]), **PHONE)
    assert page.locator('script').count() == 1
    assert fits(page)
    body = page.locator('body').inner_text()
    for name in [*names, 'alert(1)']:
        assert name in body
    assert page.locator('select.right option').all_inner_texts()[1:-1] == names
    assert page.locator('h3', has_text=HOSTILE).count() == 1


def test_policy_forbids_what_is_outside(browser: Browser, short: str) -> None:
    """Should something get past the escaping, it would neither run nor call home."""
    page = browser.new_page()
    failures = []
    page.on('requestfailed', lambda request: failures.append(request.failure))
    evil = '<img src="http://127.0.0.1:9/x.png" onerror="window.evil = 1">'
    evil += '<script>window.evil = 1</script>'
    page.set_content(short.replace('</main>', f'{evil}</main>'))
    page.wait_for_function('() => document.images[document.images.length - 1].complete')
    assert page.evaluate('window.evil === undefined')
    assert failures == ['csp']
    page.close()
