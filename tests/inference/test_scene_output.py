# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from PIL import Image
from rasterio.enums import ColorInterp, Compression, Interleaving
from rasterio.transform import from_origin
from rasterio.windows import Window
from small_scene import LEFT, TOP, make_image, make_mask, read, write_radar, write_scene

from torchgeo_planetcr.inference import Scene
from torchgeo_planetcr.inference.output import SceneWriter

SHAPE = 700, 600


@pytest.fixture(scope='module')
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A scene with eight bands and Sentinel-1, to be read only."""
    folder = tmp_path_factory.mktemp('scene')
    image = make_image(*SHAPE, count=8, nodata=7)
    cloudy = write_scene(folder / 'cloudy.tif', image, nodata=7)
    return cloudy, write_radar(folder / 's1.tif', 400)


def restore(
    inputs: tuple[Path, Path], out: Path, **options: Any
) -> NDArray[np.float32]:
    """Write known values in parts of different heights."""
    values = np.random.default_rng(0).uniform(0, 1, (4, *SHAPE)).astype(np.float32)
    mask = make_mask(*SHAPE)
    with Scene(*inputs) as scene, SceneWriter(out, scene, **options) as writer:
        for start, stop in ((0, 100), (100, 613), (613, 700)):
            writer.write(start, values[:, start:stop], mask[start:stop])
        writer.finish()
    return values


@pytest.mark.parametrize('dtype', ['uint16', 'float32'])
def test_file(inputs: tuple[Path, Path], tmp_path: Path, dtype: Any) -> None:
    out, mask = tmp_path / 'out.tif', make_mask(*SHAPE)
    values = restore(inputs, out, dtype=dtype)
    with rasterio.open(inputs[0]) as before, rasterio.open(out) as after:
        for name in ('crs', 'transform', 'shape', 'bounds', 'nodata'):
            assert getattr(after, name) == getattr(before, name), name
        assert after.transform == from_origin(LEFT, TOP, 3, 3)
        assert after.nodata == 7
        assert after.descriptions == ('blue', 'green', 'red', 'nir')
        assert after.dtypes == (dtype,) * 4
        actual = after.read()
        assert (after.dataset_mask().astype(bool) == mask).all()
        # No band is taken for transparency
        assert ColorInterp.alpha not in after.colorinterp
    assert (actual[:, ~mask] == 7).all()
    if dtype == 'float32':
        assert (actual == np.where(mask, values, 7)).all()
    else:
        expected = np.rint(10000 * values)
        assert (expected == 7).any()
        # One that would be taken for no data is made brighter
        expected[expected == 7] = 8
        assert (actual == np.where(mask, expected, 7)).all()
    assert {path.name for path in tmp_path.iterdir()} == {'out.tif', 'out.png'}


@pytest.mark.parametrize('dtype', ['uint16', 'float32'])
def test_cog(inputs: tuple[Path, Path], tmp_path: Path, dtype: Any) -> None:
    out = tmp_path / 'out.tif'
    restore(inputs, out, dtype=dtype)
    with rasterio.open(out) as dataset:
        assert dataset.driver == 'GTiff'
        structure = dataset.tags(ns='IMAGE_STRUCTURE')
        assert structure['LAYOUT'] == 'COG'
        assert structure['PREDICTOR'] == ('2' if dtype == 'uint16' else '3')
        assert dataset.compression is Compression.deflate
        assert dataset.interleaving is Interleaving.pixel
        assert dataset.profile['tiled']
        assert set(dataset.block_shapes) == {(512, 512)}
        assert [dataset.overviews(band) for band in dataset.indexes] == [[2]] * 4
        # Headers come first, then the overview, then the pixels
        overview, first = (
            int(dataset.get_tag_item('BLOCK_OFFSET_0_0', 'TIFF', 1, level) or 0)
            for level in (0, None)
        )
    assert 0 < overview < first
    assert b'LAYOUT=IFDS_BEFORE_DATA' in out.read_bytes()[:200]
    with rasterio.open(out, overview_level=0) as dataset:
        assert dataset.shape == (350, 300)
        small = dataset.read()
    whole, mask = read(out), make_mask(*SHAPE)
    full = mask.reshape(350, 2, 300, 2).all(axis=(1, 3))
    average = whole.reshape(4, 350, 2, 300, 2).mean(axis=(2, 4))
    step = 0.51 if dtype == 'uint16' else 1e-6
    assert np.abs(small - average)[:, full].max() < step
    # An average is taken over pixels with data only
    assert ((small != 7).any(axis=0) == mask.reshape(350, 2, 300, 2).any((1, 3))).all()


def test_small(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    """A scene of one block needs no overview."""
    out = tmp_path / 'out.tif'
    cloudy = write_scene(tmp_path / 'cloudy.tif', make_image(90, 120))
    with Scene(cloudy, inputs[1]) as scene, SceneWriter(out, scene) as writer:
        writer.write(
            0, np.full((4, 90, 120), 0.3, np.float32), np.ones((90, 120), dtype=bool)
        )
        writer.finish(quicklook=False)
    with rasterio.open(out) as dataset:
        assert dataset.tags(ns='IMAGE_STRUCTURE')['LAYOUT'] == 'COG'
        assert dataset.overviews(1) == []
        assert (dataset.read(window=Window(0, 0, 120, 90)) == 3000).all()


def test_large_quicklook(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    """Its images have no more than 1000 pixels along an edge."""
    image = np.full((4, 500, 2500), 3000, dtype=np.uint16)
    cloudy, out = write_scene(tmp_path / 'cloudy.tif', image), tmp_path / 'out.tif'
    with (
        Scene(cloudy, inputs[1], min_coverage=0.1) as scene,
        SceneWriter(out, scene) as writer,
    ):
        restored = np.full((4, 500, 2500), 0.1, np.float32)
        writer.write(0, restored, np.ones((500, 2500), dtype=bool))
        writer.finish()
    with Image.open(tmp_path / 'out.png') as picture:
        assert (picture.format, picture.mode) == ('PNG', 'RGB')
        assert picture.size == (1000 + 10 + 1000, 200)
        before, gap, after = np.asarray(picture)[100, [500, 1005, 1500]].astype(int)
    assert (gap == 255).all()
    assert (before > after).all()


def test_nothing_before_the_end(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / 'out.tif'
    with Scene(*inputs) as scene, SceneWriter(out, scene) as writer:
        writer.write(0, np.ones((4, 9, 600), np.float32), np.ones((9, 600), dtype=bool))
        [folder] = tmp_path.iterdir()
        assert folder.name.startswith('.unfinished-')
    assert not list(tmp_path.iterdir())
