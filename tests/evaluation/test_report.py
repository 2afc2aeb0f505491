# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import io
import itertools
import math
import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, Request
from report_summary import METRICS, make_examples, make_summary

from torchgeo_planetcr.evaluation.pictures import LARGEST_ERROR
from torchgeo_planetcr.evaluation.report import Example, render_report

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
    return render_report(make_summary(METHODS), make_examples(METHODS))


@pytest.fixture(scope='module')
def short() -> str:
    """A report that opens more quickly."""
    summary = make_summary(METHODS, only=['cloud cover', 'class level 2'])
    return render_report(summary, make_examples(METHODS, count=3))


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


class Checker(HTMLParser):
    """Collects the ids and what refers to them, headings, and tags left open."""

    void = ('meta', 'link', 'img', 'input')

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.references: set[str] = set()
        self.headings: list[int] = []
        self.stack: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.void:
            self.stack.append(tag)
        if re.fullmatch('h[1-6]', tag):
            self.headings.append(int(tag[1]))
        for name, value in attrs:
            if name == 'id' and value:
                self.ids.append(value)
            if name in ('href', 'xlink:href') and value and value.startswith('#'):
                self.references.add(value[1:])
            if name == 'clip-path' and value:
                self.references.add(value.removeprefix('url(#').removesuffix(')'))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.void:
            self.stack.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag


def test_document(html: str) -> None:
    """Elements are closed, ids are unique and referred to, no heading is left out."""
    checker = Checker()
    checker.feed(html)
    checker.close()
    assert not checker.stack
    assert len(checker.ids) == len(set(checker.ids))
    assert checker.references <= set(checker.ids)
    levels = checker.headings
    assert levels[0] == 1
    assert 1 not in levels[1:]
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_deterministic() -> None:
    summary, examples = make_summary(only=['season']), make_examples()
    assert render_report(summary, examples) == render_report(summary, examples)


def test_content(open_page: Open, html: str) -> None:
    """Figures, their protocol, and who made them."""
    page = open_page(html)
    body = page.locator('body').inner_text()
    for text in (
        'standard, whole patch',
        'LPIPS was not computed',
        '10,000 times',
        'fedcba9876543210' * 4,
        '0123456789abcdef' * 4,
        'torch 2.15.0',
        'What SAM is, and when not to believe it.',
        'summer_33_p_1',
        'Best of glfcr',
        'dsen2cr has a higher PSNR than copy: +1.70 dB (95\N{NO-BREAK SPACE}% interval',
        '+1.69 to +1.71, p\N{NO-BREAK SPACE}<\N{NO-BREAK SPACE}0.001, higher in 93\N{NO-BREAK SPACE}% of 2,000 patches). ',
        ' Other metrics: better in SSIM, SAM, MAE; no clear difference in RMSE.',
        'AMD EPYC 9B45 (cpu), 1 process, batch size 1, precision 32-true',
        'python 3.12.3, ',
    ):
        assert text in body
    for stamp in page.locator('table.sortable .stamp').all():
        assert stamp.text_content() == 'standard protocol, whole patch, test split'
    # Six charts of each of PSNR, SAM and MAE, and of SSIM those that are not pooled
    titles = page.locator('.chart figcaption b').all_inner_texts()
    counts = [titles.count(name) for name in ('PSNR (dB)', 'SAM (degrees)', 'SSIM')]
    assert counts == [6, 6, 3]
    assert 'MAE (reflectance)' in titles


def test_best_value(page: Page) -> None:
    rows = page.locator('#summary table').first.locator('tbody tr')
    marks = [rows.nth(row).locator('.best').count() for row in range(3)]
    assert marks == [0, 0, 5]
    # All methods have the same values there.
    assert page.locator('.example .best').count() == 0


def test_empty_stratum(page: Page) -> None:
    table = page.locator('section', has_text='by how much of a patch').locator('table')
    row = table.first.locator('tr', has_text='80 - 100 %').first
    values = row.locator('td').all_inner_texts()[1:]
    assert set(values) == {'none'}


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


def test_one_method(open_page: Open) -> None:
    summary = make_summary(['mine'], landcover=False, only=['season'], notes=[])
    page = open_page(render_report(summary, make_examples(['mine'])))
    body = page.locator('body').inner_text()
    for text in ('Pairs', 'Differences', 'Land-cover mapping', '★'):
        assert text not in body
    assert page.locator('.notes').count() == 0
    # Only copies: the clear image is what there is to compare with.
    summary = make_summary(['copy'], landcover=False, only=['season'])
    html = render_report(summary, make_examples(['copy']))
    assert html.count(' selected>') == 2
    assert ' selected>Clear<' in html


@pytest.mark.parametrize(
    ('areas', 'texts'),
    [
        (1, ['There is only one area: too few for intervals (five are needed)']),
        (4, ['There are only 4 areas: too few for intervals', '(six are needed)']),
        (5, ['There are only 5 areas. Intervals from so few', '(six are needed)']),
        (19, ['There are only 19 areas. Intervals from so few']),
        (20, []),
    ],
)
def test_few_areas(open_page: Open, areas: int, texts: list[str]) -> None:
    summary = make_summary(
        areas=areas, landcover=False, only=['season', 'area'], notes=[]
    )
    page = open_page(render_report(summary, []))
    notes = page.locator('.notes')
    assert notes.count() == bool(texts)
    for text in texts:
        assert text in notes.inner_text()
    assert not texts or ('needed)' in notes.inner_text()) == (areas < 6)
    details = page.locator('#summary table').first.locator('td small')
    assert details.count() == (10 if areas >= 5 else 0)
    body = page.locator('#summary').inner_text()
    assert ('Below each value is its' in body) == (areas >= 5)
    verdict = page.locator('.verdicts').inner_text()
    few = 'is on too few areas to tell its PSNR from that of'
    assert (few in verdict) == (areas < 6)
    assert ('has a higher PSNR than' in verdict) == (areas > 5)
    assert ('too few areas in SSIM, SAM, MAE, RMSE' in verdict) == (areas < 6)
    assert 'p\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}0.125' in verdict or areas != 4
    # Its p leaves it open, whatever the interval says.
    assert ('interval' in verdict) == (areas > 5)
    assert page.locator('#examples').count() == 0
    # What is true of the whole page is not said of each value.
    assert (page.locator('abbr').count() > 0) == (areas >= 20)


def test_strata_of_few_areas(open_page: Open) -> None:
    summary = make_summary(landcover=True, only=['season', 'class level 2'])
    page = open_page(render_report(summary, []))
    assert page.locator('#summary abbr').count() == 0
    season = page.locator('section', has_text='Mean over the patches of a season')
    table = season.locator('table').first
    row = table.locator('tr', has_text='spring').first
    assert row.locator('td').last.inner_text() == '10 †'
    assert row.locator('small').first.inner_text().endswith(' †')
    # The table, and differences in pairs
    explained = '† few areas, fewer than 20'
    assert season.locator('.hint', has_text=explained).count() == 2
    assert 'pale ones of fewer than 20 areas' in season.inner_text()
    opacities = (
        'e => [...e.querySelectorAll("svg path")].map(e => e.style.strokeOpacity)'
    )
    assert '0.4' in season.evaluate(opacities)

    classes = page.locator('section', has_text='eleven classes of ESA')
    rows = classes.locator('table').first.locator('tr')
    rare = rows.filter(has_text='wetland').first.locator('td')
    assert rare.nth(1).inner_text().endswith(' †')
    assert rare.last.inner_text() == '3 †'
    assert rows.filter(has_text='Cropland').first.locator('abbr').count() == 0
    # Below five areas there is no line that could be pale.
    assert 'pale' not in classes.locator('.stamp').all_inner_texts()[0]
    assert '0.4' not in classes.evaluate(opacities)


@pytest.mark.parametrize(
    ('metric', 'difference', 'p_value', 'interval', 'phrase', 'details'),
    [
        (
            'PSNR',
            2,
            0.05,
            (1, 3),
            'has a higher PSNR than',
            '+1.00 to +3.00, p = 0.050, higher in 80',
        ),
        (
            'PSNR',
            -2,
            0.04,
            (-3, -1),
            'has a lower PSNR than',
            '−3.00 to −1.00, p = 0.040, lower in 20',
        ),
        (
            'MAE',
            -2,
            0.04,
            (-3, -1),
            'has a lower MAE than',
            '−3.0000 to −1.0000, p = 0.040, lower in 80',
        ),
        (
            'MAE',
            2,
            0.04,
            (1, 3),
            'has a higher MAE than',
            '+1.0000 to +3.0000, p = 0.040, higher in 20',
        ),
        (
            'PSNR',
            2,
            0.06,
            (-1, 5),
            'does not clearly differ in PSNR from',
            '−1.00 to +5.00, p = 0.060, higher in 80',
        ),
        # An interval and p that contradict each other
        (
            'PSNR',
            2,
            0.0501,
            (1, 3),
            'does not clearly differ in PSNR from',
            '+2.00 dB (p = 0.0501, higher in 80',
        ),
        (
            'PSNR',
            2,
            0.01,
            (-1, 5),
            'has a higher PSNR than',
            '+2.00 dB (p = 0.010, higher in 80',
        ),
        (
            'PSNR',
            2,
            None,
            (1, 3),
            'is on too few areas to tell its PSNR from that of',
            '+2.00 dB (higher in 80',
        ),
    ],
)
def test_verdict(
    metric: str,
    difference: float,
    p_value: float | None,
    interval: tuple[float, float],
    phrase: str,
    details: str,
) -> None:
    """It follows from p, and nothing beside it says anything else."""
    summary = make_summary(landcover=False, only=['season'])
    summary['protocol']['metrics'] = {
        name: summary['protocol']['metrics'][name]
        for name in sorted(METRICS, key=lambda name: name != metric)
    }
    (comparison,) = (
        row
        for row in summary['comparisons']
        if row['kind'] == 'all' and row['metric'] == metric
    )
    comparison.update(
        difference=difference,
        p_value=p_value,
        low=interval[0],
        high=interval[1],
        share_better=0.8,
    )
    summary['comparisons'] = [comparison]
    html = render_report(summary, [])
    sentence = re.search('<li><b>dsen2cr</b>.*?</li>', html, re.DOTALL)
    assert sentence
    assert f'</b> {phrase} <b>copy</b>: ' in sentence[0]
    text = sentence[0].replace('\N{NO-BREAK SPACE}', ' ')
    assert f'{details} % of 2,000 patches).' in text
    assert 'Other metrics' not in sentence[0]


def test_comparisons(page: Page) -> None:
    table = page.get_by_role('region', name='Differences in pairs').first
    assert table.locator('thead span').all_inner_texts() == [
        'Method',
        'Compared with',
        'Metric',
        'Difference',
        'The method is',
        'p',
        'Better in',
        'Patches',
        'Areas',
    ]
    cells = table.locator('tr', has_text='RMSE').first.locator('td').all_inner_texts()
    assert cells[3:5] == ['no clear difference', '0.400']
    assert cells[6:] == ['2,000', '40']
    # The interval would contradict p.
    assert re.fullmatch(r'−0\.\d+', cells[2].strip())


def test_landcover(open_page: Open) -> None:
    summary = make_summary(METHODS, only=['season'])
    page = open_page(render_report(summary, []))
    section = page.locator('#landcover')
    means, pairs, classes = section.locator('table').all()
    names = [row.strip() for row in means.locator('tbody th').all_inner_texts()]
    assert [name.split()[-1] for name in names] == [
        'clear',
        'cloudy',
        'dsen2cr',
        'glfcr',
    ]
    rows = pairs.locator('tbody tr')
    assert [re.findall('[a-z0-9]+', row)[:2] for row in rows.all_inner_texts()] == [
        ['dsen2cr', 'cloudy'],
        ['glfcr', 'cloudy'],
        ['glfcr', 'dsen2cr'],
    ]
    assert '+0.140' in rows.first.inner_text()
    assert '+0.120 to +0.160' in rows.first.inner_text()
    section.get_by_text('Table of classes').click()
    row = classes.locator('tr', has_text='Cropland').nth(1).locator('td')
    assert row.nth(1).inner_text().startswith('0.310')
    assert row.nth(2).inner_text().startswith('0.310')
    assert 'Gap to clear' in classes.locator('th').nth(3).inner_text()
    assert classes.locator('tr', has_text='wetland').first.locator('abbr').count() == 3


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
    html = render_report(summary, [])
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
    page = open_page(render_report(summary, [example]), **PHONE)
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


def test_missing_figures(open_page: Open) -> None:
    """What could not be computed is said, not drawn."""
    summary = make_summary(landcover=False, only=['season'])
    for figure in summary['figures']:
        if figure['method'] == 'dsen2cr':
            figure.update(value=None, low=None, high=None)
    for comparison in summary['comparisons']:
        comparison.update(
            difference=None, low=None, high=None, p_value=None, share_better=None
        )
    (example,) = make_examples()
    prediction = torch.full_like(example.predictions['dsen2cr'], math.nan)
    example.predictions['dsen2cr'] = prediction
    example.values['dsen2cr'] = {'PSNR': math.nan}
    page = open_page(render_report(summary, [example]))
    body = page.locator('#summary').inner_text()
    assert 'undefined' in body
    assert 'could not be compared in PSNR with copy' in body
    values = page.locator('.values tr', has_text='dsen2cr').locator('td')
    assert set(values.all_inner_texts()) == {'–'}
    assert 'nan' not in page.locator('body').inner_text().lower().split()


def test_crop(open_page: Open) -> None:
    summary = make_summary(landcover=False, only=['season'])
    summary['protocol'].update(name='reference', size=[160, 160])
    page = open_page(render_report(summary, []))
    stamp = page.locator('#summary .stamp').first.inner_text()
    assert stamp == 'reference protocol, central 160 × 160 pixels, test split'
    assert 'central 160 × 160 pixels' in page.locator('header').inner_text()
    assert 'was changed' not in page.locator('#meaning').inner_text()
    summary['protocol'].update(name='standard (modified)')
    page = open_page(render_report(summary, []))
    stamp = page.locator('#summary .stamp').first.inner_text()
    assert stamp == 'modified standard protocol, central 160 × 160 pixels, test split'
    meaning = ' '.join(page.locator('#meaning').inner_text().split())
    for text in (
        'numbers of the modified standard protocol on the central 160 × 160 pixels, of',
        'alignment (geo). Its window or alignment was changed',
    ):
        assert text in meaning


def test_name_that_is_not_text() -> None:
    """As Python reads a name of a file that is not UTF-8."""
    summary = make_summary(['mine'], landcover=False, only=['season'])
    summary['methods']['mine']['source'] = 'runs/\udcff.ckpt'
    assert rb'runs/\udcff.ckpt' in render_report(summary, []).encode()


def test_predictions_of_a_network() -> None:
    """With its gradient, in half precision and out of range, as it comes."""
    (example,) = make_examples()
    odd = (example.predictions['dsen2cr'] * 3 - 4000).half().requires_grad_()
    odd = Example(*example)._replace(predictions={'dsen2cr': odd})
    assert 'data:image/webp' in render_report(make_summary(only=['season']), [odd])
