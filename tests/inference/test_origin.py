# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import os
from pathlib import Path

import pytest
import rasterio
import torch
from rasters import make_array, write
from small_scene import Constant, Darker
from torch import nn

from torchgeo_planetcr.inference.origin import (
    Origin,
    describe,
    file_stamp,
    read_origin,
    say_difference,
    write_origin,
)


def save(path: Path, origin: Origin | None) -> Path:
    write(path, make_array(1, 20, 30))
    with rasterio.open(path, 'r+') as dataset:
        write_origin(dataset, origin)
    return path


class TestOrigin:
    def test_notes_do_not_decide(self, tmp_path: Path) -> None:
        facts = {'size': '2', 'place': 'a, b'}
        path = save(tmp_path / 'a.tif', Origin(facts, {'checkpoint': 'x.ckpt'}))
        same = Origin(dict(reversed(facts.items())), {'checkpoint': 'y.ckpt'})
        assert read_origin(path) == same.name
        assert not say_difference(path, same)
        with rasterio.open(path) as dataset:
            tags = dataset.tags()
        assert tags['PLANETCR_CHECKPOINT'] == 'x.ckpt'
        assert tags['PLANETCR_PLACE'] == 'a, b'

    def test_difference(self, tmp_path: Path) -> None:
        """All that differs, and nothing that is the same."""
        path = save(tmp_path / 'a.tif', Origin({'size': '2', 'kind': 'b'}, {'of': 'x'}))
        other = Origin({'size': '3', 'kind': 'b', 'new': '4'}, {'of': 'y'})
        assert say_difference(path, other) == (
            f'{path} exists, and was made with of=x instead of y, size=2 instead of 3, '
            'new=unknown instead of 4'
        )

    def test_unknown(self, tmp_path: Path) -> None:
        path = save(tmp_path / 'a.tif', None)
        assert read_origin(path) == ''
        for place in (path, tmp_path / 'none.tif', tmp_path):
            assert 'does not say' in say_difference(place, Origin({}))


class TestDescribe:
    def test_models(self) -> None:
        """Of other layers, weights or plain attributes."""
        torch.manual_seed(0)
        models: list[nn.Module] = [
            nn.Conv2d(1, 1, 3),
            nn.Conv2d(1, 1, 3),
            nn.Conv2d(1, 1, 5),
        ]
        models += [nn.Sequential(Constant(value)) for value in (0.1, 0.2)]
        described = [describe(model, {}) for model in [*models, Darker()]]
        assert len({facts['weights'] for facts in described}) == len(described)
        assert describe(models[0].eval(), {}) == described[0]
        assert describe(nn.Sequential(Constant(0.1)), {}) == described[3]

    def test_settings(self) -> None:
        facts = describe(Darker(), {'a': 1, 'b': 'text', 'c': [1, 2], 'd': None})
        del facts['weights']
        assert facts == {'a': '1', 'b': 'text', 'c': '[1, 2]', 'd': 'null'}


class TestFileStamp:
    def test_file(self, tmp_path: Path) -> None:
        path = tmp_path / 'folder' / 'a.tif'
        path.parent.mkdir()
        path.write_bytes(b'123')
        os.utime(path, ns=(5, 1_700_000_000_123_456_789))
        assert file_stamp(path) == (
            'folder/a.tif (3 bytes, 2023-11-14 22:13:20.123456789 UTC)'
        )
        path.unlink()
        assert file_stamp(path) == 'folder/a.tif'

    @pytest.mark.parametrize('scheme', ['/vsicurl/https://', 'https://'])
    def test_signed_address(self, scheme: str) -> None:
        """What is secret about it does not get into a file that is passed on."""
        assert file_stamp(f'{scheme}x.org/s1/vv.tif?sig=a/b%3D') == 's1/vv.tif'

    def test_characters(self, tmp_path: Path) -> None:
        """Names of any bytes can be told, and umlauts stay."""
        name = os.fsdecode(b'gr\xc3\xbcn\n\xff.tif')
        text = file_stamp(tmp_path / name)
        assert text == f'{tmp_path.name}/grün\\n\\udcff.tif'
        path = save(tmp_path / 'a.tif', Origin({'cloudy': text}))
        with rasterio.open(path) as dataset:
            assert dataset.tags()['PLANETCR_CLOUDY'] == text
