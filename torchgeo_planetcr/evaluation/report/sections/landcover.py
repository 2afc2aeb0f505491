# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Part of the report on land cover that a network maps from each image."""

from collections.abc import Mapping
from typing import NamedTuple

from ...landcover import LandCoverFigure, LandCoverGap, PixelsName
from ...summary import LandCoverModel, LandCoverSummary
from ..charts import CLEAR, CLOUDY, Style, strata_chart
from ..context import Context, group_by
from ..tables import NO_FIGURE, Cell, Column, Table, count_cell, text_cell, value_cell
from .strata import Chart, interval_caption, make_point

#: Which pixels are counted, in words.
PIXELS: Mapping[PixelsName, str] = {
    'all': 'all pixels',
    'cloudy': 'cloudy pixels',
    'clear': 'clear pixels',
}

#: Digits after the point of an IoU.
DIGITS = 3


class LandCoverSection(NamedTuple):
    """Part of the report on land cover."""

    model: LandCoverModel

    #: Style of each image.
    styles: Mapping[str, Style]

    #: Means over classes, and their differences.
    table: Table
    comparisons: Table | None

    charts: list[Chart]

    #: What the charts show beside values.
    caption: str

    #: Each class.
    classes: Table


def landcover_section(context: Context) -> LandCoverSection | None:
    """Show how well land cover is mapped from each image.

    Args:
        context: What all parts of the report share.

    Returns:
        The part of the report, None if no land cover was mapped.
    """
    landcover = context.summary.landcover
    if landcover is None:
        return None
    images = list(group_by(landcover.figures, 'image'))
    all_styles = {'clear': CLEAR, 'cloudy': CLOUDY, **context.styles}
    styles = {image: all_styles[image] for image in images}
    present = group_by(landcover.figures, 'pixels')
    pixels = [name for name in PIXELS if name in present]
    scores = Scores(context, landcover, pixels)
    return LandCoverSection(
        model=landcover.model,
        styles=styles,
        table=_mean_table(scores, styles),
        comparisons=_comparison_table(scores, styles),
        charts=[_chart(scores, styles, name) for name in pixels],
        caption=interval_caption(context, landcover.figures),
        classes=_class_table(scores, styles),
    )


class Scores:
    """Figures and gaps of images, pixels and classes, to look up."""

    def __init__(
        self, context: Context, landcover: LandCoverSummary, pixels: list[PixelsName]
    ) -> None:
        """Initialize a new Scores instance.

        Args:
            context: What all parts of the report share.
            landcover: Summary of the land cover.
            pixels: Which pixels are shown.
        """
        self.context = context
        self.landcover = landcover
        self.pixels = pixels
        #: The mean over classes, and each class.
        self.labels: list[str] = list(group_by(landcover.figures, 'label'))
        self.figures: dict[tuple[str, PixelsName, str], LandCoverFigure] = {
            (row.image, row.pixels, row.label): row for row in landcover.figures
        }
        self.gaps: dict[tuple[str, PixelsName, str], LandCoverGap] = {
            (row.image, row.pixels, row.label): row for row in landcover.gaps
        }

    def value_cells(self, image: str, label: str) -> list[Cell]:
        """Show the IoU on an image and its gap, for all, cloudy and clear pixels."""
        cells = []
        for pixels in self.pixels:
            figure = self.figures.get((image, pixels, label))
            gap = self.gaps.get((image, pixels, label))
            cells += [
                value_cell(self.context, figure.iou, figure, DIGITS, figure.count)
                if figure
                else NO_FIGURE,
                value_cell(self.context, gap.gap, gap, DIGITS) if gap else NO_FIGURE,
            ]
        return cells

    def value_columns(self, label: str) -> list[Column]:
        """Name the columns of :meth:`value_cells`."""
        return [
            Column(title, PIXELS[pixels])
            for pixels in self.pixels
            for title in (label, 'Gap to clear')
        ]

    def count_cells(self, image: str, label: str) -> list[Cell]:
        """Show the number of labeled pixels, for all, cloudy and clear ones."""
        figures = (self.figures.get((image, name, label)) for name in self.pixels)
        return [count_cell(figure.count if figure else 0) for figure in figures]


def _mean_table(scores: Scores, styles: Mapping[str, Style]) -> Table:
    """Tabulate means over classes by image."""
    rows = [
        [text_cell(image, style), *scores.value_cells(image, 'mean')]
        for image, style in styles.items()
    ]
    columns = [Column('Image', is_number=False), *scores.value_columns('mIoU')]
    return Table('Mean over classes', columns, rows)


def _class_table(scores: Scores, styles: Mapping[str, Style]) -> Table:
    """Tabulate classes and images."""
    rows = [
        [
            Cell(label, number),
            text_cell(image, style),
            *scores.value_cells(image, label),
            *scores.count_cells(image, label),
        ]
        for number, label in enumerate(scores.labels)
        for image, style in styles.items()
        if label != 'mean'
    ]
    columns = [
        Column('Class', is_number=False),
        Column('Image', is_number=False),
        *scores.value_columns('IoU'),
        *(Column('Pixels', PIXELS[pixels]) for pixels in scores.pixels),
    ]
    return Table('Each class', columns, rows)


def _chart(scores: Scores, styles: Mapping[str, Style], pixels: PixelsName) -> Chart:
    """Draw the IoU of each class on each image."""
    points = {
        image: [
            make_point(scores.context, figure.iou, figure)
            if (figure := scores.figures.get((image, pixels, label)))
            else None
            for label in scores.labels
        ]
        for image in styles
    }
    labels = ['Mean' if label == 'mean' else label for label in scores.labels]
    text = (
        f'Chart of the IoU of {", ".join(styles)}, {PIXELS[pixels]}, by class. Its '
        'numbers are in the table.'
    )
    return Chart(
        f'IoU, {PIXELS[pixels]}',
        'higher is better',
        text,
        strata_chart(f'landcover {pixels}', labels, points, styles),
    )


def _comparison_table(scores: Scores, styles: Mapping[str, Style]) -> Table | None:
    """Tabulate differences of the mean over classes between pairs of images."""
    pairs: dict[tuple[str, str], dict[PixelsName, Cell]] = {}
    for row in scores.landcover.comparisons:
        if row.label == 'mean':
            cells = pairs.setdefault((row.image, row.baseline), {})
            cells[row.pixels] = value_cell(
                scores.context, row.difference, row, DIGITS, with_sign=True
            )
    if not pairs:
        return None
    rows = [
        [
            text_cell(image, styles[image]),
            text_cell(baseline, styles[baseline]),
            *(cells.get(pixels, NO_FIGURE) for pixels in scores.pixels),
        ]
        for (image, baseline), cells in pairs.items()
    ]
    columns = [
        Column('Image', is_number=False),
        Column('Compared with', is_number=False),
        *(Column('Difference of mIoU', PIXELS[pixels]) for pixels in scores.pixels),
    ]
    return Table('Differences in pairs', columns, rows)
