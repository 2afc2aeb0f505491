# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Configuration of Sphinx, which makes the documentation."""

import hashlib
import importlib
import os
import sys
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.pycode import ModuleAnalyzer

DOCS = Path(__file__).parent
PACKAGE = DOCS.parent / 'torchgeo_planetcr'

# Extensions of this folder
sys.path.insert(0, str(DOCS / 'extensions'))

# -- Project -----------------------------------------------------------------

project = 'torchgeo-planetcr'
author = 'TorchGeo-PlanetCR Contributors'
copyright = author
release = installed_version(project)
version = '.'.join(release.split('.')[:2])

# -- General -----------------------------------------------------------------

extensions = [
    'command_help',
    # Pages in Markdown by myst_parser, and notebooks, whose text is the same Markdown;
    # nbsphinx would need pandoc for it, and runs notebooks anew each time
    'myst_nb',
    'sphinx.ext.autodoc',
    'sphinx.ext.mathjax',
    'sphinx.ext.napoleon',
    'sphinx.ext.viewcode',
]
exclude_patterns = ['_build']
needs_sphinx = '9.0'

# A name of ours that leads nowhere is an error. Those of other packages have no pages here.
nitpicky = True
OTHER_PACKAGES = (
    'abc affine collections geopandas jsonargparse kornia lightning matplotlib numpy os '
    'pandas pyarrow pyproj rasterio shapely torch torchgeo torchmetrics torchvision'
)
nitpick_ignore_regex = [
    ('py:.*', rf'({"|".join(OTHER_PACKAGES.split())})\..*'),
    # Errors of TorchGeo and Lightning, which docstrings name without their modules
    ('py:exc', 'DatasetNotFoundError|SIGTERMException'),
]

if os.environ.get('READTHEDOCS'):
    # Elsewhere there may be no network, without which each inventory is a warning
    extensions.append('sphinx.ext.intersphinx')
    intersphinx_mapping = {
        'numpy': ('https://numpy.org/doc/stable/', None),
        'pandas': ('https://pandas.pydata.org/docs/', None),
        'pyproj': ('https://pyproj4.github.io/pyproj/stable/', None),
        'python': ('https://docs.python.org/3', None),
        'shapely': ('https://shapely.readthedocs.io/en/stable/', None),
        'torch': ('https://docs.pytorch.org/docs/stable/', None),
        'torchgeo': ('https://docs.torchgeo.org/en/stable/', None),
    }

# -- HTML --------------------------------------------------------------------

html_theme = 'pydata_sphinx_theme'
html_title = f'{project} {release}'
html_static_path = ['_static']
html_css_files = ['custom.css']
html_show_sourcelink = False
html_theme_options = {
    'collapse_navigation': False,
    # Without the version, which does not fit on a phone
    'logo': {'text': project},
    'navigation_depth': 3,
    'navbar_align': 'left',
    'navbar_end': ['theme-switcher'],
    'show_toc_level': 2,
}

# -- API reference -----------------------------------------------------------

autodoc_default_options = {
    'members': True,
    # Those that a reader calls; named tuples have many more
    'special-members': '__init__, __len__, __iter__, __getitem__, __and__, __or__',
    'show-inheritance': True,
}
autodoc_member_order = 'bysource'
autodoc_typehints = 'description'
autodoc_typehints_description_target = 'documented'
autodoc_typehints_format = 'short'

# -- Pages and notebooks -----------------------------------------------------

# Links to headings of another page
myst_heading_anchors = 3
# Formulas as notebooks have them
myst_enable_extensions = ['dollarmath']


def _digest() -> str:
    """Digest of the package: what ran with another one must run again."""
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob('*.py')):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


nb_execution_mode = 'cache'
nb_execution_cache_path = str(DOCS / '_build' / 'notebooks' / _digest())
nb_execution_in_temp = True
# Seconds for each cell
nb_execution_timeout = 120
# A cell that fails is a warning, which fails the build
nb_execution_show_tb = True
nb_merge_streams = True
# Progress, and what Lightning tells
nb_output_stderr = 'remove'


# -- Names of the package ----------------------------------------------------


def _public_names() -> dict[str, str]:
    """Names that objects are imported by, by those of the modules they are written in."""
    names = {}
    for path in sorted(PACKAGE.glob('*/__init__.py')):
        module = importlib.import_module(f'{PACKAGE.name}.{path.parent.name}')
        for name in module.__all__:
            home = getattr(getattr(module, name), '__module__', module.__name__)
            names[f'{home}.{name}'] = f'{module.__name__}.{name}'
    return names


def find_public(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.TextElement
) -> nodes.reference | None:
    """Let type hints, which name the module of an object, find it by its public name.

    Args:
        app: Sphinx.
        env: What Sphinx knows of the pages.
        node: Reference that leads nowhere.
        content: What it shows.

    Returns:
        The reference to the public name, if there is one.
    """
    name = PUBLIC_NAMES.get(node['reftarget'])
    if name is None:
        return None
    return env.domains.python_domain.resolve_xref(
        env, node['refdoc'], app.builder, node['reftype'], name, node, content
    )


def read_comment(
    app: Sphinx, what: str, name: str, value: Any, options: Any, lines: list[str]
) -> None:
    """Give a constant the comment above it, which is in the module that it comes from.

    Args:
        app: Sphinx.
        what: Kind of object.
        name: Its public name.
        value: The object.
        options: Those of the directive.
        lines: Its documentation, which is changed.
    """
    package, _, constant = name.rpartition('.')
    if what == 'data' and name in PUBLIC_NAMES.values():
        for path in (DOCS.parent / package.replace('.', '/')).glob('[!_]*.py'):
            module = ModuleAnalyzer.for_module(f'{package}.{path.stem}')
            lines[:] = module.find_attr_docs().get(('', constant), lines)


PUBLIC_NAMES = _public_names()


def setup(app: Sphinx) -> None:
    """Register what is written here.

    Args:
        app: Sphinx.
    """
    app.connect('missing-reference', find_public)
    app.connect('autodoc-process-docstring', read_comment)
