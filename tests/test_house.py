# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""The package is a house: each room knows those below it, and none above."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

import torchgeo_planetcr

PACKAGE = Path(torchgeo_planetcr.__file__).parent

#: From the ground up. A room may import itself, and the rooms before it.
ROOMS = (
    'checkpoint',
    'memory',
    'processes',
    'raster',
    'datasets',
    'losses',
    'models',
    'transforms',
    'samplers',
    'metrics',
    'scenes',
    'tasks',
    'datamodules',
    'inference',
    'evaluation',
    'preparation',
    'simulation',
    'companions',
    'demo',
    'summary',
    'terminal',
    'main',
)

#: What opens a raster. Some take a mode, by which they write.
OPENERS = ('rasterio.open', 'DatasetReader')

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


class Module(NamedTuple):
    """A module of the package."""

    #: Name within the package, e.g. 'datasets.index'; '' is the package itself.
    name: str
    path: Path
    tree: ast.Module

    @property
    def room(self) -> str:
        """The room that the module is in."""
        return self.name.partition('.')[0]

    @property
    def parents(self) -> set[str]:
        """The module itself, and the packages that are imported before it."""
        return set(ancestors(self.name))


class Import(NamedTuple):
    """An import of something of the package by a module of the package."""

    module: Module
    target: str
    line: int
    #: Whether it takes place when the module itself is imported.
    at_once: bool

    def __str__(self) -> str:
        """Where the import is."""
        return f'{self.module.path.name}:{self.line}'


def ancestors(name: str) -> list[str]:
    """Names from the room to the module: 'a.b.c' gives 'a', 'a.b' and 'a.b.c'."""
    parts = name.split('.')
    return ['.'.join(parts[: i + 1]) for i in range(len(parts))]


def modules_of(package: Path) -> dict[str, Module]:
    """Parse all modules of a package."""
    modules = {}
    for path in sorted(package.rglob('*.py')):
        parts = path.relative_to(package).with_suffix('').parts
        name = '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)
        tree = ast.parse(path.read_text(encoding='utf-8'), str(path))
        modules[name] = Module(name, path, tree)
    return modules


def statements(
    node: ast.AST, at_once: bool = True, types: bool = True
) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    """Yield all imports below a node, and whether they are outside of functions.

    Args:
        node: Node of a syntax tree.
        at_once: Whether the node is outside of functions.
        types: Whether to look into ``if TYPE_CHECKING``, too.
    """
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, at_once
        elif types or not (
            isinstance(child, ast.If) and ast.unparse(child.test) == 'TYPE_CHECKING'
        ):
            yield from statements(
                child, at_once and not isinstance(child, FUNCTIONS), types
            )


def full_names(
    statement: ast.Import | ast.ImportFrom, module: Module, package: str
) -> Iterator[str]:
    """Yield the full names of what a statement imports, e.g. 'package.datasets.x'."""
    if isinstance(statement, ast.Import):
        yield from (alias.name for alias in statement.names)
        return
    base = [statement.module] if statement.module else []
    if statement.level:
        here = [package, *module.name.split('.')] if module.name else [package]
        up = statement.level - (module.path.name == '__init__.py')
        base = here[: len(here) - up] + base
    yield from ('.'.join([*base, alias.name]) for alias in statement.names)


def imports_of(package: Path) -> list[Import]:
    """Find all imports between the modules of a package."""
    modules = modules_of(package)
    found = []
    for module in modules.values():
        # Type checkers read there what the package gives at the first use of a name
        types = bool(module.name)
        for statement, at_once in statements(module.tree, types=types):
            for full in full_names(statement, module, package.name):
                first, _, target = full.partition('.')
                if first != package.name or target.startswith('__'):
                    continue
                if target not in modules:
                    target = target.rpartition('.')[0]
                found.append(Import(module, target, statement.lineno, at_once))
    return found


def arrows_up(package: Path) -> list[str]:
    """Say which imports lead to a room that is above, or in no list."""
    arrows = []
    for item in imports_of(package):
        room, other = item.module.room, item.target.partition('.')[0]
        if not {room, other} <= {'', *ROOMS}:
            arrows.append(f'{item}: {room} or {other} is not in ROOMS')
        elif not room:
            arrows.append(f'{item}: the package imports {other} at once')
        elif not other:
            arrows.append(f'{item}: {room} imports the package: name its module')
        elif ROOMS.index(room) < ROOMS.index(other):
            arrows.append(f'{item}: {item.module.name} imports {item.target}')
    return arrows


def circles(package: Path) -> list[str]:
    """Name the modules of a room that import each other at once."""
    rooms: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for item in imports_of(package):
        if item.at_once and item.target.partition('.')[0] == item.module.room:
            # A module can only be imported after the packages that it is in
            needed = {item.target, *ancestors(item.target)} - item.module.parents
            if item.target in item.module.parents:
                needed.add(item.target)
            rooms[item.module.room][item.module.name] |= needed
    found = []
    for graph in rooms.values():
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as error:
            found.append(' > '.join(error.args[1]))
    return found


def opened_to_read(package: Path) -> list[str]:
    """Find each call that opens a raster to read it."""
    found = []
    for module in modules_of(package).values():
        for node in ast.walk(module.tree):
            name = ast.unparse(node.func) if isinstance(node, ast.Call) else ''
            if isinstance(node, ast.Call) and name in OPENERS:
                modes = [word.value for word in node.keywords if word.arg == 'mode']
                modes += node.args[1:2]
                if not modes or ast.unparse(modes[0]) not in ("'w'", "'r+'", "'w+'"):
                    found.append(f'{module.name}:{node.lineno}')
    return found


def glued_messages(package: Path) -> list[str]:
    """Find each message that is made of several pieces."""
    return [
        f'{module.name}:{node.lineno}'
        for module in modules_of(package).values()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.AugAssign) and ast.unparse(node.target) == 'msg'
    ]


def build(package: Path, files: dict[str, str]) -> Path:
    """Make a package of files."""
    for name, text in files.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        for folder in path.relative_to(package).parents:
            (package / folder / '__init__.py').touch()
    return package


def test_rooms_know_only_those_below() -> None:
    assert arrows_up(PACKAGE) == []


def test_no_circles() -> None:
    assert circles(PACKAGE) == []


def test_rasters_are_opened_in_one_place() -> None:
    places = opened_to_read(PACKAGE)
    assert len(places) == 1
    assert places[0].startswith('raster.')


def test_errors_are_raised_directly() -> None:
    assert glued_messages(PACKAGE) == []


@pytest.mark.parametrize(
    'text',
    [
        'from ..datasets import PlanetCR',
        'from .. import datasets',
        'from ..datasets.index import read',
        'from house.datasets import PlanetCR',
        'from house import datasets',
        'import house.datasets.index',
        'import os\nimport house.datasets as d',
        'def later():\n    from ..datasets import PlanetCR',
        'if TYPE_CHECKING:\n    from ..datasets import PlanetCR',
        'try:\n    import house.datasets\nexcept ImportError:\n    pass',
    ],
)
def test_finds_arrows_up(text: str, tmp_path: Path) -> None:
    house = build(
        tmp_path / 'house', {'datasets/index.py': '', 'raster/read.py': text + '\n'}
    )
    [arrow] = arrows_up(house)
    assert arrow.startswith('read.py:')
    assert 'raster.read imports datasets' in arrow


def test_finds_arrows_from_nested_packages(tmp_path: Path) -> None:
    text = 'from ...main import main\nfrom ..measure import measure\n'
    house = build(
        tmp_path / 'house',
        {
            'evaluation/report/__init__.py': text,
            'evaluation/measure.py': 'from ..raster.read import read\n',
            'raster/read.py': '',
            'main.py': 'from .evaluation import report\n',
        },
    )
    [arrow] = arrows_up(house)
    assert 'evaluation.report imports main' in arrow


def test_finds_what_is_in_no_room(tmp_path: Path) -> None:
    house = build(tmp_path / 'house', {'attic/x.py': 'from ..raster import read\n'})
    [arrow] = arrows_up(house)
    assert 'attic' in arrow


def test_package_imports_its_rooms_only_for_types(tmp_path: Path) -> None:
    types = 'if TYPE_CHECKING:\n    from .datasets import PlanetCR\n'
    user = 'from .. import __version__\n'
    house = build(
        tmp_path / 'house',
        {'__init__.py': types, 'tasks/x.py': user, 'datasets/x.py': ''},
    )
    assert arrows_up(house) == []
    build(house, {'__init__.py': 'from .datasets import PlanetCR\n'})
    assert len(arrows_up(house)) == 1
    build(house, {'__init__.py': types, 'tasks/x.py': 'from .. import PlanetCR\n'})
    assert len(arrows_up(house)) == 1


@pytest.mark.parametrize(
    'files',
    [
        {'a.py': 'from .b import x', 'b.py': 'from .a import y'},
        {'a.py': 'from . import b', 'b.py': 'import house.datasets.a'},
        {'__init__.py': 'from .a import x', 'a.py': 'from . import y'},
        {'__init__.py': 'from .a import x', 'a.py': 'from house.datasets import y'},
        # To import sub.d is to import sub first, which imports a
        {
            'sub/__init__.py': 'from ..a import x',
            'sub/d.py': '',
            'a.py': 'import house.datasets.sub.d',
        },
    ],
)
def test_finds_circles(files: dict[str, str], tmp_path: Path) -> None:
    house = build(
        tmp_path / 'house', {f'datasets/{name}': text for name, text in files.items()}
    )
    [circle] = circles(house)
    assert 'datasets.a' in circle


def test_order_within_a_room_is_no_circle(tmp_path: Path) -> None:
    house = build(
        tmp_path / 'house',
        {
            'datasets/__init__.py': 'from .a import x\nfrom .sub import z\n',
            'datasets/a.py': 'from .b import x\nfrom . import c\nimport rasterio\n',
            'datasets/b.py': 'def later():\n    from .a import x\n',
            'datasets/c.py': '',
            'datasets/sub/__init__.py': 'from .d import z\n',
            'datasets/sub/d.py': 'from ..a import x\nfrom . import e\n',
            'datasets/sub/e.py': '',
        },
    )
    assert circles(house) == []
    assert arrows_up(house) == []


def test_finds_where_files_are_opened(tmp_path: Path) -> None:
    text = """
with rasterio.open(path) as a, rasterio.open(path, 'w') as b:
    c = rasterio.open(path, mode='r+', driver=driver)
    d = rasterio.open(path, 'r')
    e = DatasetReader(path, driver=driver)
"""
    house = build(tmp_path / 'house', {'raster/read.py': text})
    assert opened_to_read(house) == ['raster.read:2', 'raster.read:4', 'raster.read:5']


def test_finds_messages_of_pieces(tmp_path: Path) -> None:
    house = build(tmp_path / 'house', {'main.py': "msg = 'a'\nmsg += 'b'\nn += 1\n"})
    assert glued_messages(house) == ['main:2']
