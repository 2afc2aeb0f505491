# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import shutil
from pathlib import Path

from torchgeo_planetcr import info


def rows(text: str) -> dict[str, list[str]]:
    """Numbers of each split."""
    lines = [line.split() for line in text.splitlines()]
    return {
        line[0]: line[1:3]
        for line in lines
        if line and line[0] in ('train', 'val', 'test')
    }


def test_modality_missing_as_a_whole(own_root: Path) -> None:
    """It is said once for all splits, and patches are counted all the same."""
    expected = rows(info(own_root))
    assert expected == {'train': ['12', '9'], 'val': ['1', '1'], 'test': ['3', '2']}
    for path in own_root.glob('*/cloudmask_*'):
        shutil.rmtree(path)
    text = info(own_root)
    assert rows(text) == expected
    (line,) = [line for line in text.splitlines() if "'cloud_mask'" in line]
    assert line.startswith('train, val, test: ')

    # Of one split alone
    for path in own_root.glob('test/S1_*'):
        shutil.rmtree(path)
    text = info(own_root)
    assert rows(text) == expected
    (line,) = [line for line in text.splitlines() if "'sentinel1'" in line]
    assert line.startswith('test: ')


def test_no_patch_can_be_used(own_root: Path) -> None:
    """There is no table, and the reasons are there."""
    first, *others = sorted(own_root.glob('*/cloudmask_*/*/*.npy'))
    for path in others:
        path.unlink()
    for path in first.parent.glob('*'):
        path.unlink()
    for path in own_root.glob('*/*/*/*.tif'):
        if 'planet' not in path.name:
            path.write_text('no image')
    text = info(own_root)
    assert 'DataFrame' not in text
    assert rows(text) == {}
    assert all(f'{split}: ' in text for split in ('train', 'val', 'test'))
