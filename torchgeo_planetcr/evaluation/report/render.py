# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""The whole report, put together from its parts."""

import base64
import hashlib
import math
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ..summary import Summary
from .charts import method_styles
from .context import MIN_AREAS_OF_SOUND_INTERVAL, Context, group_by
from .pictures import LARGEST_ERROR, error_scale
from .sections.examples import Example, example_section
from .sections.landcover import landcover_section
from .sections.overview import caution, overview_table
from .sections.pairs import comparison_table, judge, verdict_sentences
from .sections.strata import KINDS, strata_section

#: Folder of the template, the style sheet and the script.
FOLDER = Path(__file__).parent


def render_report(summary: Summary, examples: Sequence[Example]) -> str:
    """Write the report of an evaluation.

    Args:
        summary: What was evaluated, how, and all figures; see
            :func:`~torchgeo_planetcr.evaluation.summary.from_json` for that of an
            earlier evaluation.
        examples: Patches to show, with what each method makes of them.

    Returns:
        An HTML page that shows in a browser without a network.
    """
    context = Context(
        summary,
        method_styles(
            (name, method.kind == 'copy') for name, method in summary.methods.items()
        ),
    )
    figures = group_by(summary.figures, 'kind')
    judged = group_by(
        [judge(context, comparison) for comparison in summary.comparisons],
        'comparison.kind',
    )
    script = (FOLDER / 'report.js').read_text('utf-8')
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template('report.html.jinja').render(
        style=Markup((FOLDER / 'report.css').read_text('utf-8')),
        script=Markup(script),
        script_digest=digest,
        summary=summary,
        context=context,
        created=f'{datetime.fromisoformat(summary.created):%d %B %Y, %H:%M %Z}',
        has_intervals=any(not math.isnan(figure.low) for figure in figures['all']),
        alpha=f'{1 - summary.bootstrap.level:.2g}',
        few_areas=MIN_AREAS_OF_SOUND_INTERVAL,
        caution=caution(context),
        overview=overview_table(context, figures['all']),
        verdicts=verdict_sentences(context, judged.get('all', [])),
        comparisons=comparison_table(context, judged.get('all', [])),
        sections=[
            strata_section(context, kind, figures[kind], judged.get(kind, []))
            for kind in KINDS
            if kind in figures
        ],
        landcover=landcover_section(context),
        examples=[example_section(context, example) for example in examples],
        error_scale=error_scale(),
        largest_error=LARGEST_ERROR,
    )
    # A name of a file may hold what UTF-8 does not
    return page.encode('utf-8', 'backslashreplace').decode('utf-8')
