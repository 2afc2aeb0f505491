# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Damaged inputs give what others read of them, or an error that names the file."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import strategies as st
from systems import needs_linux

from torchgeo_planetcr.datasets.modalities import ModalityName

from . import edits, mutations, oracles
from .campaign import Campaign
from .child import planetcr, run
from .inputs import NETWORK, file_of, read
from .mutations import UNDAMAGED, Damage

pytestmark = [needs_linux, pytest.mark.slow]

INDEX = 'planetcr_index.parquet'


@pytest.mark.parametrize(
    ('modality', 'share'),
    [
        ('cloudy', 0.15),
        ('clear', 0.1),
        ('sentinel1', 0.1),
        ('worldcover', 0.1),
        ('cloud_mask', 0.1),
    ],
)
def test_patch(
    campaign: Campaign, base: Path, modality: ModalityName, share: float
) -> None:
    path = file_of(base / 'tree', modality)
    if modality == 'cloud_mask':
        damages = mutations.arrays(path, campaign.folder / 'canary')
        original, _, _ = oracles.oracle(path) or (None, None, None)
    else:
        damages, original = mutations.geotiffs(path), read(path)[0]

    def try_one(case: tuple[Damage, bool]) -> tuple[str, str]:
        damage, indexed = case
        root = campaign.clone(base / 'tree')
        if not indexed:
            (root / INDEX).unlink()
        damage.put(file_of(root, modality))
        return campaign.judge(oracles.check_patch, root, modality, original)

    kind = 'masks' if modality == 'cloud_mask' else 'rasters'
    cases = st.tuples(damages, st.booleans())
    campaign.search(kind, share, cases, try_one, (UNDAMAGED, True))


def test_list(campaign: Campaign, base: Path) -> None:
    train, test = (
        (base / f'listed/{name}.csv').read_text() for name in ('train', 'test')
    )
    damages = mutations.list_lines(train, test) | mutations.anything(train.encode())

    def try_one(case: tuple[str, Damage]) -> tuple[str, str]:
        split, damage = case
        root = campaign.clone(base / 'listed')
        if split == 'val':
            shutil.copy(root / 'train.csv', root / 'val.csv')
        damage.put(root / f'{split}.csv')
        return campaign.judge(oracles.check_list, root, split)

    splits = st.sampled_from(['train', 'val'])
    control = 'train', UNDAMAGED
    campaign.search('lists', 0.09, st.tuples(splits, damages), try_one, control)


def test_index(campaign: Campaign, base: Path) -> None:
    def try_one(damage: Damage) -> tuple[str, str]:
        root = campaign.clone(base / 'tree')
        damage.put(root / INDEX)
        return campaign.judge(oracles.check_index, root)

    data = (base / 'tree' / INDEX).read_bytes()
    campaign.search('kept indexes', 0.13, edits.indexes(data), try_one)
    campaign.search('kept indexes', 0.01, st.just(edits.index_bomb(data)), try_one)


def test_checkpoint(campaign: Campaign, base: Path) -> None:
    path = campaign.folder / 'damaged.ckpt'
    damages = edits.checkpoints(base / 'small.ckpt', campaign.folder / 'canary')
    scene = base / 'scene'
    data = ['--data.root', base / 'tree', '--trainer.accelerator', 'cpu']
    data += ['--trainer.logger', 'false', '--trainer.enable_progress_bar', 'false']
    data += ['--model.model_kwargs', NETWORK, '--ckpt_path', path]
    data += ['--data.patch_size', '32', '--data.eval_size', '32']
    commands: dict[str, list[str | Path]] = {
        'evaluate': ['evaluate', base / 'tree', path, '--size', '16'],
        'remove-clouds': [
            *('remove-clouds', scene / 'scene.tif', '--s1', scene / 's1.tif'),
            *('--checkpoint', path, '--quicklook', 'false'),
        ],
        'test': ['test', *data],
        'predict': ['predict', *data],
        'fit': ['fit', *data, '--trainer.max_epochs', '1', '--data.length', '2'],
    }

    def try_one(case: tuple[str, Damage]) -> tuple[str, str]:
        name, damage = case
        shutil.copy(base / 'small.ckpt', path)
        damage.put(path)
        out = campaign.fresh('out')
        try:
            if name == 'load':
                return campaign.judge(oracles.check_checkpoint, path)
            command = commands[name]
            if name in ('evaluate', 'remove-clouds', 'predict'):
                command = [*command, '--out', out / 'out.tif']
            if name == 'fit':
                command = [*command, '--trainer.default_root_dir', out]
            return campaign.judge(oracles.check_checkpoint_command, path, *command)
        finally:
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink(
                True
            )

    names = st.sampled_from(['load', 'load', 'load', *commands])
    cases = st.tuples(names, damages)
    control = 'load', UNDAMAGED
    campaign.search('checkpoints', 0.15, cases, try_one, control)
    bomb = edits.checkpoint_bomb((base / 'small.ckpt').read_bytes())
    campaign.search('checkpoints', 0.01, st.just(('load', bomb)), try_one, control)


@pytest.mark.parametrize('suffix', ['.tif', '.npy'])
def test_prediction(campaign: Campaign, base: Path, suffix: str) -> None:
    path = base / 'predictions/fall_3_p_1.tif'
    if suffix == '.npy':
        array, _ = read(path)
        path = campaign.folder / 'array.npy'
        np.save(path, array)

    def try_one(damage: Damage) -> tuple[str, str]:
        folder = campaign.clone(base / 'predictions')
        damaged = folder / f'fall_3_p_1{suffix}'
        (folder / 'fall_3_p_1.tif').unlink()
        shutil.copy(path, damaged)
        damage.put(damaged)
        return campaign.judge(oracles.check_prediction, base / 'tree', folder)

    damages = (
        mutations.geotiffs(path)
        if suffix == '.tif'
        else mutations.arrays(path, campaign.folder / 'canary')
    )
    campaign.search('predictions', 0.05, damages, try_one)


@pytest.mark.parametrize('part', ['scene.tif', 's1.tif', 'scene_udm2.tif', 'mask.tif'])
def test_scene(campaign: Campaign, base: Path, part: str) -> None:
    def try_one(damage: Damage) -> tuple[str, str]:
        folder = campaign.clone(base / 'scene')
        damage.put(folder / part)
        return campaign.judge(oracles.check_scene, folder, part, base / 'copy.ckpt')

    campaign.search('scenes', 0.025, mutations.geotiffs(base / 'scene' / part), try_one)


@pytest.mark.parametrize('part', ['landcover.tif', 's1.tif', 'clear.tif'])
def test_source(campaign: Campaign, base: Path, part: str) -> None:
    folder = campaign.clone(base / 'large')

    def try_one(damage: Damage) -> tuple[str, str]:
        path = folder / part
        damage.put(path)
        try:
            return campaign.judge(
                oracles.check_source, folder, part, campaign.fresh('made')
            )
        finally:
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink(
                True
            )
            shutil.copy(base / 'large' / part, path)

    campaign.search(
        'sources of patches', 0.02, mutations.geotiffs(base / 'large' / part), try_one
    )


def _simulation(folder: Path, base: Path) -> tuple[Path, list[str | Path]]:
    """A simulation that is to go on."""
    args = ['simulate', folder, '--areas', '2', '--patches', '1', '--num_workers', '1']
    return folder / 'simulation.json', args


def _area(folder: Path, base: Path) -> tuple[Path, list[str | Path]]:
    """Patches of an area that are to go on."""
    args: list[str | Path] = ['make-patches', folder, 'summer_1', '--cloudy']
    args += [base / 'large/scene.tif', '--clear', base / 'large/clear.tif', '--s1']
    args += [base / 'large/s1.tif', '--landcover', base / 'large/landcover.tif']
    return folder / 'areas/summer_1.json', args


@pytest.mark.parametrize('make', [_simulation, _area])
def test_record(
    campaign: Campaign,
    base: Path,
    make: Callable[[Path, Path], tuple[Path, list[str | Path]]],
) -> None:
    made = campaign.fresh('made')
    path, args = make(made, base)
    ended = run(campaign.folder, planetcr, *args)
    assert ended.status == 0, ended.text
    original = path.read_text()
    (path.parent / 'before.json').write_text(json.dumps(json.loads(original)))
    kept = shutil.copytree(made, campaign.folder / 'kept')

    def try_one(damage: Damage) -> tuple[str, str]:
        shutil.rmtree(made)
        shutil.copytree(kept, made)
        damage.put(path)
        return campaign.judge(oracles.check_record, path, *args)

    damages = mutations.texts(original, campaign.folder / 'canary')
    damages |= mutations.anything(original.encode())
    campaign.search('records', 0.02, damages, try_one)


def _table(folder: Path, base: Path) -> tuple[Path, list[str | Path]]:
    """A table of scenes."""
    path = folder / 'scenes.csv'
    path.write_text('cloudy,s1\nscene/scene.tif,scene/s1.tif\n')
    args: list[str | Path] = ['remove-clouds', path, '--checkpoint', base / 'copy.ckpt']
    return path, [*args, '--quicklook', 'false', '--out', folder / 'out']


def _config(folder: Path, base: Path) -> tuple[Path, list[str | Path]]:
    """A configuration of a command."""
    path = folder / 'config.yaml'
    path.write_text(
        f'root: {base / "tree"}\nmethods: [copy]\nsize: 16\nout: {folder / "out"}\n'
    )
    return path, ['evaluate', '--config', path]


@pytest.mark.parametrize(
    ('make', 'check'), [(_table, oracles.check_table), (_config, oracles.check_config)]
)
def test_text(
    campaign: Campaign,
    base: Path,
    make: Callable[[Path, Path], tuple[Path, list[str | Path]]],
    check: Callable[..., str],
) -> None:
    folder = campaign.fresh('made')
    path, args = make(folder, base)
    text = path.read_text()
    damages = mutations.texts(text, campaign.folder / 'canary')

    def try_one(damage: Damage) -> tuple[str, str]:
        campaign.fresh('made')
        shutil.copytree(base / 'scene', folder / 'scene')
        make(folder, base)
        damage.put(path)
        return campaign.judge(check, path, *args)

    kind = 'tables' if check is oracles.check_table else 'configurations'
    campaign.search(kind, 0.03, damages | mutations.anything(text.encode()), try_one)
