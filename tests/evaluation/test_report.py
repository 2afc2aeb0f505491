# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import itertools
import math
import re
from html.parser import HTMLParser
from typing import Any

import pytest
import torch
from report_summary import METRICS, make_context, make_examples, make_summary, render

from torchgeo_planetcr.evaluation.report import Example
from torchgeo_planetcr.evaluation.report.context import Context
from torchgeo_planetcr.evaluation.report.sections.examples import example_section
from torchgeo_planetcr.evaluation.report.sections.landcover import landcover_section
from torchgeo_planetcr.evaluation.report.sections.overview import (
    caution,
    overview_table,
)
from torchgeo_planetcr.evaluation.report.sections.pairs import (
    VerdictSentence,
    comparison_table,
    judge,
    verdict_sentences,
)
from torchgeo_planetcr.evaluation.report.sections.strata import (
    StrataSection,
    strata_section,
)
from torchgeo_planetcr.evaluation.report.tables import Table

METHODS = ('copy', 'dsen2cr', 'glfcr')


def show_strata(context: Context, kind: str) -> StrataSection:
    """The part of the report on strata of a kind."""
    figures = [f for f in context.summary.figures if f.kind == kind]
    judged = [judge(context, c) for c in context.summary.comparisons if c.kind == kind]
    return strata_section(context, kind, figures, judged)


def show_all(context: Context) -> Table:
    """The table of all patches."""
    figures = [f for f in context.summary.figures if f.kind == 'all']
    return overview_table(context, figures)


def show_verdicts(context: Context) -> list[VerdictSentence]:
    """The sentences on all patches."""
    judged = [judge(context, c) for c in context.summary.comparisons if c.kind == 'all']
    return verdict_sentences(context, judged)


def column_of(table: Table, label: str, name: str = 'text') -> list[Any]:
    """A column of a table."""
    labels = [column.label for column in table.columns]
    return [getattr(row[labels.index(label)], name) for row in table.rows]


class TextOf(HTMLParser):
    """Collects the text of a page, without that of its style and script."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.parts: list[str] = []
        self.is_hidden = False
        self.feed(html)
        self.close()
        # No-break spaces stay
        self.text = re.sub('[ \n]+', ' ', ''.join(self.parts))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.is_hidden = tag in ('style', 'script')

    def handle_endtag(self, tag: str) -> None:
        self.is_hidden = False

    def handle_data(self, data: str) -> None:
        if not self.is_hidden:
            self.parts.append(data)


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
    summary, examples = make_summary(landcover=False, only=['season']), make_examples()
    assert render(summary, examples) == render(summary, examples)


@pytest.fixture(scope='module')
def html() -> str:
    """A report with all parts."""
    return render(make_summary(METHODS), make_examples(METHODS))


def test_content(html: str) -> None:
    """Figures, their protocol, and who made them."""
    body = TextOf(html).text
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
    stamps = re.findall('</b> <span class="stamp">(.*?)</span>', html)
    assert len(stamps) > 10
    assert set(stamps) == {'standard protocol, whole patch, test split'}
    # Six charts of each of PSNR, SAM and MAE, and of SSIM those that are not pooled
    titles = re.findall('<figcaption><b>(.*?)</b>', html)
    counts = [titles.count(name) for name in ('PSNR (dB)', 'SAM (degrees)', 'SSIM')]
    assert counts == [6, 6, 3]
    assert 'MAE (reflectance)' in titles


def test_best_value(html: str) -> None:
    rows = show_all(make_context(make_summary(METHODS, only=['season']))).rows
    assert [sum(cell.is_best for cell in row) for row in rows] == [0, 0, 5]
    # All methods have the same values of an example, so none is the best
    example = html[html.index('<article class="example">') : html.index('</article>')]
    assert 'class="values"' in example
    assert 'class="best"' not in example


def test_empty_stratum() -> None:
    context = make_context(make_summary(METHODS, only=['cloud cover']))
    table = show_strata(context, 'cloud cover').table
    (row, *_) = (row for row in table.rows if row[0].text == '80 - 100 %')
    assert {cell.text for cell in row[2:]} == {'none'}


def test_one_method() -> None:
    summary = make_summary(['mine'], landcover=False, only=['season'], notes=[])
    html = render(summary, make_examples(['mine']))
    text = TextOf(html).text
    for word in ('Pairs', 'Differences', 'Land-cover mapping', '★'):
        assert word not in text
    assert 'class="notes"' not in html
    # Only copies: the clear image is what there is to compare with
    summary = make_summary(['copy'], landcover=False, only=['season'])
    html = render(summary, make_examples(['copy']))
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
def test_few_areas(areas: int, texts: list[str]) -> None:
    summary = make_summary(areas=areas, landcover=False, only=['season'], notes=[])
    context = make_context(summary)
    note = caution(context)
    assert bool(note) == bool(texts)
    for text in texts:
        assert text in note
    assert ('needed)' in note) == (areas < 6)
    cells = [cell for row in show_all(context).rows for cell in row]
    assert sum(cell.detail != '' for cell in cells) == (10 if areas >= 5 else 0)
    (verdict,) = show_verdicts(context)
    too_few = 'is on too few areas to tell its PSNR from that of'
    assert verdict.phrase == (too_few if areas < 6 else 'has a higher PSNR than')
    assert (verdict.others == 'too few areas in SSIM, SAM, MAE, RMSE') == (areas < 6)
    p_value = 'p\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}0.125'
    assert p_value in verdict.details or areas != 4
    # Its p leaves it open, whatever the interval says
    assert ('interval' in verdict.details) == (areas > 5)
    # What is true of the whole page is not said of each value
    assert show_strata(context, 'season').table.marks_few_areas == (areas >= 20)

    html = render(summary, [])
    assert ('class="notes"' in html) == bool(texts)
    assert ('Below each value is its' in html) == (areas >= 5)
    assert ('<abbr' in html) == (areas >= 20)
    assert 'id="examples"' not in html


def test_strata_of_few_areas() -> None:
    summary = make_summary(landcover=False, only=['season', 'class level 2'])
    context = make_context(summary)
    assert not show_all(context).marks_few_areas
    season = show_strata(context, 'season')
    row = season.table.rows[0]
    assert (row[0].text, row[-1].text) == ('spring', '10')
    assert row[-1].has_few_areas
    assert row[2].detail
    assert row[2].has_few_areas
    assert season.comparisons is not None
    assert season.comparisons.marks_few_areas
    assert season.caption.endswith('pale ones of fewer than 20 areas')
    assert all('opacity: 0.4' in chart.svg for chart in season.charts)
    html = render(summary, [])
    assert '† few areas, fewer than 20' in html
    assert '10 <abbr title="few areas">†</abbr>' in ' '.join(html.split())

    classes = show_strata(context, 'class level 2')
    rows = {row[0].text: row for row in classes.table.rows}
    rare = rows['Herbaceous wetland']
    assert rare[2].has_few_areas
    assert (rare[-1].text, rare[-1].has_few_areas) == ('3', True)
    assert not any(cell.has_few_areas for cell in rows['Cropland'])
    # Below five areas there is no line that could be pale
    assert 'pale' not in classes.caption
    assert not any('opacity: 0.4' in chart.svg for chart in classes.charts)


def test_comparisons() -> None:
    context = make_context(make_summary(METHODS, only=['season']))
    judged = [judge(context, c) for c in context.summary.comparisons if c.kind == 'all']
    table = comparison_table(context, judged)
    assert table is not None
    assert [column.label for column in table.columns] == [
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
    row = next(row for row in table.rows if row[2].text.startswith('RMSE'))
    texts = [cell.text for cell in row]
    assert texts[4:6] == ['no clear difference', '0.400']
    assert texts[7:] == ['2,000', '40']
    assert re.fullmatch(r'−0\.\d+', texts[3])
    # The interval would contradict p
    assert row[3].detail == ''
    assert comparison_table(context, []) is None


def test_landcover() -> None:
    section = landcover_section(make_context(make_summary(METHODS, only=['season'])))
    assert section is not None
    images = ['clear', 'cloudy', 'dsen2cr', 'glfcr']
    assert column_of(section.table, 'Image') == images
    pairs = section.comparisons
    assert pairs is not None
    assert list(zip(column_of(pairs, 'Image'), column_of(pairs, 'Compared with'))) == [
        ('dsen2cr', 'cloudy'),
        ('glfcr', 'cloudy'),
        ('glfcr', 'dsen2cr'),
    ]
    first = pairs.rows[0][2]
    assert (first.text, first.detail) == ('+0.140', '+0.120 to +0.160')
    classes = {(row[0].text, row[1].text): row for row in section.classes.rows}
    cropland = classes['Cropland', 'cloudy']
    assert (cropland[2].text, cropland[3].text) == ('0.310', '0.310')
    assert section.classes.columns[3].label == 'Gap to clear'
    # Of all, cloudy and clear pixels
    wetland = classes['Herbaceous wetland', 'clear']
    assert sum(cell.has_few_areas for cell in wetland) == 3
    assert {cell.text for cell in classes['Mangroves', 'cloudy'][2:]} == {'none'}
    assert [chart.title for chart in section.charts] == [
        'IoU, all pixels',
        'IoU, cloudy pixels',
        'IoU, clear pixels',
    ]
    assert landcover_section(make_context(make_summary(landcover=False))) is None


def test_missing_figures() -> None:
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
    context = make_context(summary)
    assert {cell.text for cell in show_all(context).rows[1][1:]} == {'undefined'}
    (verdict,) = show_verdicts(context)
    assert verdict.phrase == 'could not be compared in PSNR with'
    table = example_section(context, example).table
    assert {cell.text for cell in table.rows[1][1:]} == {'–'}
    text = TextOf(render(summary, [example])).text
    assert 'could not be compared in PSNR with copy' in text
    assert 'nan' not in text.lower().split()


def test_crop() -> None:
    summary = make_summary(landcover=False, only=['all'])
    summary['protocol'].update(name='reference', size=[160, 160])
    text = TextOf(render(summary, [])).text
    assert 'reference protocol, central 160 × 160 pixels, test split' in text
    assert 'reference, central 160 × 160 pixels' in text
    assert 'was changed' not in text
    summary['protocol'].update(name='standard (modified)')
    text = TextOf(render(summary, [])).text
    for part in (
        'modified standard protocol, central 160 × 160 pixels, test split',
        'numbers of the modified standard protocol on the central 160 × 160 pixels, of',
        'alignment (geo). Its window or alignment was changed',
    ):
        assert part in text


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
    summary = make_summary(landcover=False, only=['all'])
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
    html = render(summary, [])
    sentence = re.search('<li><b>dsen2cr</b>.*?</li>', html, re.DOTALL)
    assert sentence
    assert f'</b> {phrase} <b>copy</b>: ' in sentence[0]
    text = sentence[0].replace('\N{NO-BREAK SPACE}', ' ')
    assert f'{details} % of 2,000 patches).' in text
    assert 'Other metrics' not in sentence[0]


def test_name_that_is_not_text() -> None:
    """As Python reads a name of a file that is not UTF-8."""
    summary = make_summary(['mine'], landcover=False, only=['all'])
    summary['methods']['mine']['source'] = 'runs/\udcff.ckpt'
    assert rb'runs/\udcff.ckpt' in render(summary, []).encode()


def test_predictions_of_a_network() -> None:
    """With its gradient, in half precision and out of range, as it comes."""
    (example,) = make_examples()
    odd = (example.predictions['dsen2cr'] * 3 - 4000).half().requires_grad_()
    odd = Example(*example)._replace(predictions={'dsen2cr': odd})
    assert 'data:image/webp' in render(
        make_summary(landcover=False, only=['all']), [odd]
    )
