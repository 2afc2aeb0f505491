# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Report of an evaluation, as one HTML file that needs nothing else.

There is a module for each part of the page: ``overview``, ``pairs``, ``strata``,
``landcover`` and ``examples``. To show a new figure, compute it in the module of its
part, and place it in ``report.html.jinja``. :func:`render_report` puts the parts
together; ``context``, ``tables``, ``charts`` and ``pictures`` are what they are made of.
"""

from .render import render_report
from .sections.examples import Example

__all__ = ('Example', 'render_report')
