# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Each page of the documentation does what it says, if it is followed as printed."""

import importlib
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from inspect import signature
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from rasterio.transform import from_origin
from rasters import write
from systems import needs_posix
from torch.distributed.run import get_args_parser
from torchgeo.main import main as torchgeo

from torchgeo_planetcr.main import COMMANDS, main
from torchgeo_planetcr.models import dsen2cr

ROOT = Path(__file__).parents[1]
DOCS = ROOT / 'docs'
PAGES = [ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', *sorted(DOCS.rglob('*.md'))]
API = sorted((ROOT / 'torchgeo_planetcr').glob('*/__init__.py'))

#: Blocks that hold no code.
OTHER_BLOCKS = {'text', '{glossary}', '{include}', '{toctree}'}

#: Commands that are not run, by how they look, and why. Those of this package must at
#: least accept their arguments.
NOT_RUN = {
    r'make ': 'it sets up an environment, and runs these tests',
    r'pip install ': 'there is no network',
    r'planetcr download-sample ': 'there is no network',
    r'planetcr info sample$': 'the sample is not there without a network',
    r'PLANETCR_SAMPLE=sample make ': 'it runs these tests',
    r'planetcr fit .*_reference\.yaml': 'a large network trains for days',
    r'planetcr evaluate .*authors\.pth': 'a large network takes minutes for a patch',
    r'planetcr \S+ .*devices 4': 'there are not enough cores',
    r'torchrun --nnodes 2 ': 'there is only one machine',
    r'sbatch ': 'there is no SLURM',
}

#: What makes a command short.
SHORT = {
    'fit': (
        '--trainer.max_epochs=1',
        '--trainer.num_sanity_val_steps=0',
        '--trainer.enable_progress_bar=false',
        '--data.init_args.length=2',
        '--data.init_args.patch_size=64',
        '--data.init_args.eval_size=64',
    ),
    'evaluate': ('--size=64',),
}

#: Programs that run in this process, which has imported what they take seconds to import.
PROGRAMS: dict[str, Callable[[list[str]], Any]] = {
    'planetcr': main,
    'torchgeo': torchgeo,
}


def find_blocks(page: Path) -> list[tuple[str, str]]:
    """Language and content of the blocks of a page."""
    return re.findall(
        r'^```(\S+)[^\n]*\n(.*?)^```$', page.read_text(), re.DOTALL | re.MULTILINE
    )


def find_commands(block: str) -> list[str]:
    """Commands of a console."""
    lines = block.replace('\\\n', ' ').splitlines()
    return [line.removeprefix('$ ') for line in lines if line.startswith('$ ')]


def reason_not_to_run(command: str) -> str | None:
    """Why a command is not run."""
    return next((why for look, why in NOT_RUN.items() if re.match(look, command)), None)


def expand(command: str) -> list[str]:
    """Words of a command, as the shell makes them."""
    script = f"printf '%s\\0' {command}"
    words = subprocess.run(['bash', '-c', script], check=True, capture_output=True)
    return words.stdout.decode().split('\0')[:-1]


def run(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a command in the current folder."""
    is_simple = not re.search(r'[|;&<>$]', command)
    program, *args = expand(command) if is_simple else ['bash']
    if program in PROGRAMS:
        # TorchGeo's command sets variables of GDAL
        with mock.patch.dict(os.environ):
            PROGRAMS[program]([*args, *SHORT.get(args[0], ())])
    elif program == 'python':
        with monkeypatch.context() as patch:
            patch.setattr(sys, 'argv', args)
            runpy.run_path(args[0], run_name='__main__')
    else:
        path = f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}'
        script = ['bash', '-euo', 'pipefail', '-c', command]
        subprocess.run(script, check=True, env={**os.environ, 'PATH': path})


def check_arguments(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """See that a command of this package, whatever starts it, accepts its arguments."""
    words = shlex.split(command)
    if words[0] == 'torchrun':
        words = get_args_parser().parse_args(words[1:]).training_script_args
        words = ['planetcr', *words]
    if 'planetcr' not in words:
        return
    name, *args = words[words.index('planetcr') + 1 :]
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        main([name, *args, '--print_config'])
    printed, errors = capsys.readouterr()
    assert caught.value.code in (0, None), errors
    function = COMMANDS.get(name, lambda: None)
    for argument in signature(function).parameters.values():
        if argument.kind != argument.VAR_KEYWORD and argument.default is argument.empty:
            assert re.search(rf'^{argument.name}:(?! null)', printed, re.MULTILINE), (
                command
            )


@pytest.fixture(scope='module')
def one_thread() -> Iterator[None]:
    """Several would wait for each other, if something else wants the cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope='module')
def things(
    one_thread: None, root: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder with what pages take for granted."""
    folder = tmp_path_factory.mktemp('things')
    (folder / 'data').symlink_to(root)
    (folder / 'examples').symlink_to(ROOT / 'examples')

    scene = np.full((4, 560, 540), 3000, np.uint16)
    place: dict[str, Any] = {
        'crs': 'EPSG:32633',
        'transform': from_origin(499998, 5400000, 3, 3),
    }
    # The same place in the next zone
    next_zone: dict[str, Any] = {
        'crs': 'EPSG:32632',
        'transform': from_origin(936000, 5422000, 10, 10),
    }
    write(folder / 'scene.tif', scene, **place)
    usable = np.ones((8, 560, 540), np.uint8)
    usable[0, :200, :100] = 0
    write(folder / 'scene_udm2.tif', usable, **place)
    write(folder / 'cloudy.tif', scene[:, :300, :300], **place)
    radar = np.full((2, 1500, 1500), -10, np.float32)
    write(folder / 'sentinel1.tif', radar, **next_zone)
    for name in ('scenes', 'radar', 'runs', 'theirs'):
        (folder / name).mkdir()
    write(folder / 'scenes' / 'one.tif', scene[:, :256, :256], **place)
    write(folder / 'scenes' / 'two_AnalyticMS_SR.tif', scene, **place)
    (folder / 'radar' / 'sentinel1.tif').symlink_to(folder / 'sentinel1.tif')
    (folder / 'scenes.csv').write_text('cloudy,s1\nscene.tif,sentinel1.tif\n')
    for path in root.glob('test/planet_cloudfree_*/*/*.tif'):
        name = path.name.removeprefix('planet_cloudfree_')
        (folder / 'theirs' / name).symlink_to(path)

    network = {f'module.{key}': value for key, value in dsen2cr().state_dict().items()}
    torch.save({'network': network}, folder / 'authors.pth')
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for config, *options in (
            ('dsen2cr', '--model.init_args.model_kwargs={features: 8, num_blocks: 1}'),
            ('landcover',),
        ):
            config = f'--config=examples/{config}_one_minute.yaml'
            main(['fit', config, '--data.root=data', *options, *SHORT['fit']])
    for version, name in enumerate(('checkpoint', 'landcover')):
        (checkpoint,) = folder.glob(
            f'lightning_logs/version_{version}/checkpoints/epoch*'
        )
        checkpoint.rename(folder / f'{name}.ckpt')
    (folder / 'lightning_logs/version_0/config.yaml').rename(folder / 'config.yaml')
    shutil.rmtree(folder / 'lightning_logs')
    for name in ('a', 'b'):
        (folder / 'runs' / f'{name}.ckpt').symlink_to(folder / 'checkpoint.ckpt')
    return folder


@pytest.fixture
def folder(things: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with these things in it."""
    for path in things.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@needs_posix
@pytest.mark.parametrize(
    'page',
    [
        # It trains, evaluates and exports
        pytest.param(page, marks=[pytest.mark.slow] * (page.name == 'README.md'))
        for page in filter(find_blocks, PAGES)
    ],
    ids=name_of,
)
def test_page(
    page: Path,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """All blocks run, one after the other."""
    names: dict[str, Any] = {}
    for language, block in find_blocks(page):
        if language == 'python':
            exec(block, names)  # noqa: S102
        elif language == 'console':
            commands = find_commands(block)
            assert commands
            for command in commands:
                if reason_not_to_run(command):
                    check_arguments(command, capsys)
                else:
                    run(command, monkeypatch)
        elif language == 'bash':
            subprocess.run(['bash', '-n'], check=True, input=block, text=True)
            for command in block.replace('\\\n', ' ').splitlines():
                check_arguments(command.partition('#')[0] or ':', capsys)
        else:
            assert language in OTHER_BLOCKS


@pytest.mark.parametrize('page', PAGES, ids=name_of)
def test_blocks_are_found(page: Path) -> None:
    """No fence is left that is not one of a block."""
    assert page.read_text().count('```') == 2 * len(find_blocks(page))


def test_not_run() -> None:
    """What is not run does occur."""
    commands = [
        command
        for page in PAGES
        for language, block in find_blocks(page)
        if language == 'console'
        for command in find_commands(block)
    ]
    for look in NOT_RUN:
        assert any(re.match(look, command) for command in commands), look


@pytest.mark.parametrize('page', [*PAGES[:2], ROOT / 'CHANGELOG.md'], ids=name_of)
def test_links(page: Path) -> None:
    """What a page outside of the documentation links to is there, as Sphinx sees within."""
    for path in re.findall(r'\]\(([\w/.-]+)\)', page.read_text()):
        assert (page.parent / path).is_file(), path


def home_of(module: ModuleType, name: str) -> str:
    """Module that defines an object, or the one that exports it if it is a constant."""
    home = getattr(getattr(module, name), '__module__', '')
    return home if home.startswith('torchgeo_planetcr') else module.__name__


@pytest.mark.parametrize('package', API, ids=lambda path: path.parent.name)
def test_api(package: Path) -> None:
    """Each public name is on the page of its package."""
    name = package.parent.name
    module = importlib.import_module(f'torchgeo_planetcr.{name}')
    # Names of a package below are on the page of that package
    public = {
        key
        for key in getattr(module, '__all__', ())
        if home_of(module, key).startswith(module.__name__)
    }
    if not public:
        return
    text = (DOCS / 'api' / f'{name}.rst').read_text()
    shown = re.findall(
        r'^\.\. auto\w+:: (?:torchgeo_planetcr\.\S+\.)?(\w+)$', text, re.MULTILINE
    )
    assert public <= set(shown)
    assert f'{name}\n' in (DOCS / 'api' / 'index.md').read_text()
