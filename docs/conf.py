# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Configuration of Sphinx, which builds the documentation."""

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
    # Reads pages in Markdown, and notebooks, whose text is the same Markdown. nbsphinx would
    # need pandoc for it, and would run all notebooks each time
    'myst_nb',
    'sphinx.ext.autodoc',
    'sphinx.ext.mathjax',
    'sphinx.ext.napoleon',
    'sphinx.ext.viewcode',
]
exclude_patterns = ['_build']
needs_sphinx = '9.0'

# A reference to a missing page of ours is an error. Other packages have no pages here.
nitpicky = True
OTHER_PACKAGES = (
    'abc affine collections datetime geopandas jsonargparse kornia lightning matplotlib '
    'numpy os pandas pathlib pyarrow pyproj rasterio shapely torch torchgeo torchmetrics '
    'torchvision'
)
nitpick_ignore_regex = [
    ('py:.*', rf'({"|".join(OTHER_PACKAGES.split())})\..*'),
    # Errors of TorchGeo and Lightning, which docstrings name without their modules
    ('py:exc', 'DatasetNotFoundError|SIGTERMException'),
]

if os.environ.get('READTHEDOCS'):
    # Without a network, each inventory would be a warning
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
    # The version would not fit on a phone
    'logo': {'text': project},
    'navigation_depth': 3,
    'navbar_align': 'left',
    'navbar_end': ['theme-switcher'],
    'show_toc_level': 2,
}

# -- API reference -----------------------------------------------------------

autodoc_default_options = {
    'members': True,
    # Only those that a reader calls, as named tuples have many more
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
# Formulas between dollar signs, as in notebooks
myst_enable_extensions = ['dollarmath']


def _digest() -> str:
    """Digest of the package: notebooks run again when the package has changed."""
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
# Removes progress bars, and messages of Lightning
nb_output_stderr = 'remove'


# -- Names of the package ----------------------------------------------------


def _public_names() -> dict[str, str]:
    """Names that the pages document, by all names of the same objects."""
    names = {}
    for path in sorted(PACKAGE.glob('*/__init__.py')):
        module = importlib.import_module(f'{PACKAGE.name}.{path.parent.name}')
        for name in getattr(module, '__all__', ()):
            value = getattr(module, name)
            home = getattr(value, '__module__', '')
            if not home.startswith(PACKAGE.name):
                home = module.__name__
            # A package may also export objects of the packages below it
            owner = '.'.join(home.split('.')[:2])
            public = f'{owner}.{getattr(value, "__name__", name)}'
            names[f'{home}.{name}'] = names[f'{module.__name__}.{name}'] = public
    return names


def find_public(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.TextElement
) -> nodes.reference | None:
    """Find the page of an object by another name of it, such as that in a type hint.

    Args:
        app: Sphinx.
        env: Environment of Sphinx, which knows the pages.
        node: Reference to a name that no page documents.
        content: Text of the reference.

    Returns:
        Reference to the public name, or None if there is none.
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
    """Document a constant with the comment above it in the module that defines it.

    Args:
        app: Sphinx.
        what: Kind of object.
        name: Public name of the object.
        value: The object.
        options: Options of the directive.
        lines: Documentation of the object, which is changed in place.
    """
    package, _, constant = name.rpartition('.')
    if what == 'data' and name in PUBLIC_NAMES.values():
        for path in (DOCS.parent / package.replace('.', '/')).glob('[!_]*.py'):
            module = ModuleAnalyzer.for_module(f'{package}.{path.stem}')
            lines[:] = module.find_attr_docs().get(('', constant), lines)


PUBLIC_NAMES = _public_names()


def setup(app: Sphinx) -> None:
    """Register the functions of this file.

    Args:
        app: Sphinx.
    """
    app.connect('missing-reference', find_public)
    app.connect('autodoc-process-docstring', read_comment)
