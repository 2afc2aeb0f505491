# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""The commands that write, and what lies in the folders that they write to."""

import contextlib
import hashlib
import json
import os
import pickle
import re
import shutil
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import rasterio
import torch
import yaml
from PIL import Image
from rasterio.errors import RasterioError

from .inputs import NETWORK

type Arguments = list[str | Path]

#: What reading a file that is not whole raises.
BROKEN = (
    *(
        OSError,
        ValueError,
        EOFError,
        KeyError,
        RuntimeError,
        SyntaxError,
        AssertionError,
    ),
    *(zipfile.BadZipFile, pickle.UnpicklingError, RasterioError, yaml.YAMLError),
)

#: What is not compared: logs of times and places.
LOGS = ('events.out', 'hparams.yaml', 'config.yaml', 'metrics.csv')


@dataclass(frozen=True)
class Writer:
    """A command that writes."""

    #: Its arguments, of the folder of inputs and that of what it writes.
    arguments: Callable[[Path, Path], Arguments]
    #: Whether it refuses to replace what it has written, but for --overwrite.
    refuses: bool = False
    #: Folder of inputs that must be in the folder that it writes to.
    within: str | None = None
    #: The only file that must be the same after interruptions, if it is not all of them.
    only: str | None = None

    def prepare(self, base: Path, out: Path) -> None:
        """Put its inputs where it needs them."""
        out.mkdir(exist_ok=True)
        if self.within:
            shutil.copytree(base / self.within, out, dirs_exist_ok=True)

    def again(self, base: Path, out: Path) -> Arguments:
        """What a user types after the command was interrupted."""
        arguments = self.arguments(base, out)
        last = out / 'last.ckpt'
        if arguments[0] == 'fit' and last.exists():
            return [*arguments, '--ckpt_path', last]
        written = any(not path.name.startswith('.') for path in out.iterdir())
        return [*arguments, '--overwrite'] if self.refuses and written else arguments

    def differences(self, a: dict[str, Any], b: dict[str, Any]) -> list[str]:
        """Names of files that should be the same in two folders, and are not."""
        names = a.keys() | b.keys() if self.only is None else {self.only}
        return sorted(name for name in names if a.get(name) != b.get(name))


def _sources(base: Path) -> Arguments:
    large = base / 'large'
    found: Arguments = ['--cloudy', large / 'scene.tif', '--clear', large / 'clear.tif']
    found += ['--s1', large / 's1.tif', '--landcover', large / 'landcover.tif']
    return [*found, '--cloud_mask', large / 'scene_udm2.tif']


def _remove(base: Path, scenes: str, out: Path) -> Arguments:
    found: Arguments = ['remove-clouds', base / scenes, '--s1', base / 'scene/s1.tif']
    found += ['--checkpoint', base / 'small.ckpt', '--out', out]
    return [*found, '--tile_size', '64', '--overlap', '16']


def _trainer(name: str, base: Path) -> Arguments:
    found: Arguments = [
        name,
        '--data.root',
        base / 'tree',
        '--trainer.accelerator',
        'cpu',
    ]
    found += ['--model.model_kwargs', NETWORK, '--trainer.logger', 'false']
    return [*found, '--trainer.enable_progress_bar', 'false']


def _predict(base: Path, out: Path) -> Arguments:
    found = [
        *_trainer('predict', base),
        '--ckpt_path',
        base / 'small.ckpt',
        '--out',
        out,
    ]
    return [*found, '--data.predict_split', 'train', '--mosaic', out / 'areas']


def _fit(base: Path, out: Path) -> Arguments:
    found = [*_trainer('fit', base), '--data.patch_size', '32', '--data.length', '4']
    found += ['--trainer.max_epochs', '3', '--trainer.default_root_dir', out]
    found += [
        '--trainer.log_every_n_steps',
        '1',
        '--trainer.callbacks',
        'ModelCheckpoint',
    ]
    found += [
        '--trainer.callbacks.dirpath',
        out,
        '--trainer.callbacks.save_last',
        'true',
    ]
    return found


WRITERS = {
    'simulate': Writer(
        lambda base, out: [
            'simulate',
            out,
            '--areas',
            '2',
            '--patches',
            '1',
            '--num_workers',
            '2',
        ]
    ),
    'simulate-scene': Writer(
        lambda base, out: ['simulate-scene', out, '--size', '300'], refuses=True
    ),
    'make-patches': Writer(
        lambda base, out: ['make-patches', out, 'summer_1', *_sources(base)]
    ),
    'index': Writer(lambda base, out: ['index', out], within='many'),
    'evaluate': Writer(
        lambda base, out: [
            'evaluate',
            base / 'tree',
            base / 'small.ckpt',
            '--out',
            out,
        ],
        refuses=True,
    ),
    'remove-clouds': Writer(
        lambda base, out: _remove(base, 'scene/scene.tif', out / 'clear.tif'),
        refuses=True,
    ),
    'remove-clouds of many': Writer(lambda base, out: _remove(base, 'scenes', out)),
    'predict': Writer(_predict),
    # Which checkpoint is the best one changes when a run goes on
    'fit': Writer(_fit, only='last.ckpt'),
}


def _content(path: Path) -> Any:
    """What a file holds, apart from times and places; raises if it is not whole."""
    if path.suffix == '.tif':
        with rasterio.open(path) as dataset:
            small = [
                dataset.read(out_shape=(dataset.count, 7, 7))
                for _ in dataset.overviews(1)
            ]
            return _digest(dataset.read(), *small), dataset.transform, dataset.crs
    if path.suffix == '.npy':
        return _digest(np.load(path, allow_pickle=False))
    if path.suffix == '.parquet':
        return pq.read_table(path).to_pylist()
    if path.suffix == '.png':
        with Image.open(path) as image:
            return _digest(np.asarray(image))
    if path.suffix == '.ckpt':
        with zipfile.ZipFile(path) as archive:
            assert not archive.testzip()
        state = torch.load(path, weights_only=True)['state_dict']
        return _digest(*(value.numpy() for value in state.values()))
    return _text(path)


def _text(path: Path) -> Any:
    """What a file of text holds, see :func:`_content`."""
    text = path.read_text()
    if path.suffix == '.json':
        content = json.loads(text)
        return content | {'created': ''} if path.name == 'summary.json' else content
    if path.suffix == '.html':
        assert text.rstrip().endswith('</html>')
        return re.sub(
            r'\d+ \w+ \d{4},? \d\d:\d\d(:\d\d)?|\d{4}-\d\d-\d\d[T ][\d:.+]+', '', text
        )
    if path.suffix == '.yaml':
        assert yaml.safe_load(text)
    assert text.endswith('\n') or path.suffix not in ('.csv', '.yaml')
    return text


def _digest(*arrays: Any) -> str:
    """Digest of arrays."""
    digest = hashlib.blake2b()
    for array in arrays:
        digest.update(f'{array.shape}{array.dtype}'.encode() + array.tobytes())
    return digest.hexdigest()


def results(folder: Path) -> tuple[dict[str, Any], list[str]]:
    """What lies in a folder.

    Returns:
        What each file under a final name holds, and what is not whole or has no such name.
    """
    found, odd = {}, []
    for path in sorted(folder.rglob('*')):
        name = str(path.relative_to(folder))
        # A file in a hidden folder counts with this
        if any(part.startswith('.') for part in Path(name).parts[:-1]):
            continue
        if path.name.startswith('.') or re.search(
            r'\.[0-9a-f]{32}$|^tmp\w{8}$', path.name
        ):
            odd.append(f'left: {name}')
        elif path.is_file() and not path.name.startswith(LOGS):
            try:
                found[name] = _content(path)
            except BROKEN as error:
                odd.append(f'half: {name}: {type(error).__name__} {error}')
    return found, odd


def half_written(odd: list[str]) -> str:
    """What of the second result of :func:`results` is not whole."""
    return ', '.join(text for text in odd if text.startswith('half'))


@contextlib.contextmanager
def file_system(folder: Path, size: int) -> Iterator[bool]:
    """Mount a small file system in memory, which root can do; yields whether it is there.

    Args:
        folder: Folder to mount it at.
        size: Its size in bytes.
    """
    there = os.geteuid() == 0 and mount(folder, f'size={size}')
    try:
        yield there
    finally:
        if there:
            subprocess.run(['umount', '--lazy', folder], check=True)


def mount(folder: Path, options: str) -> bool:
    """Mount a file system in memory, or change its options; False if that is not possible."""
    command = ['mount', '-t', 'tmpfs', '-o', options, 'tmpfs', folder]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0
