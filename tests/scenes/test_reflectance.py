# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from numpy.typing import NDArray
from rasters import write
from small_scene import (
    make_image,
    make_mask,
    planetcr,
    read,
    save_checkpoint,
    write_radar,
)
from torch import Tensor, nn

from torchgeo_planetcr.inference import remove_clouds
from torchgeo_planetcr.raster.grid import Grid
from torchgeo_planetcr.samplers import TileSampler
from torchgeo_planetcr.scenes import AssumptionWarning, PlanetScopeScenes
from torchgeo_planetcr.scenes.reflectance import OpticalLayer

SHAPE = 60, 80

#: Where there is data, and reflectance x 10000 there.
MASK, IMAGE = make_mask(*SHAPE), make_image(*SHAPE).astype(np.float64)


def store(
    path: Path, dtype: str, factor: float = 1, fill: float = 0, **options: Any
) -> Path:
    """Write reflectance in a type and unit, with a value where there is none."""
    values = IMAGE * factor
    if np.dtype(dtype).kind in 'iu':
        values = np.rint(values)
    return write(path, np.where(MASK, values, fill).astype(dtype), **options)


def declare(path: Path, scale: float, offset: float = 0) -> Path:
    """Have a file say how its values become reflectance."""
    with rasterio.open(path, 'r+') as dataset:
        dataset.scales, dataset.offsets = 4 * (scale,), 4 * (offset,)
    return path


def check(path: Path, atol: float = 1e-3, scale: float | None = None) -> list[str]:
    """Check what is read on the file's own grid and half a pixel beside it.

    Returns:
        What was taken for granted about its values.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        with OpticalLayer(path, scale=scale) as layer:
            assert (layer.survey() == MASK).all()
            found, grid = layer.read(layer.grid), layer.grid
            assert (layer.find_data(found) == MASK).all()
            product = layer.to_product(found)
        shifted = grid._replace(xmin=grid.xmin + 1.5)
        with OpticalLayer(path, scale=scale, grid=shifted) as layer:
            between = layer.read(shifted)
            has_data = layer.find_data(between)
    np.testing.assert_allclose(found[:, MASK], IMAGE[:, MASK], rtol=1e-6, atol=atol)
    assert product.dtype == np.uint16
    assert (product[:, ~MASK] == 0).all()
    assert np.abs(product.astype(int) - IMAGE)[:, MASK].max() <= max(1, atol)
    both = MASK[:, :-1] & MASK[:, 1:]
    assert has_data[:, :-1][both].all()
    mean = (IMAGE[:, :, :-1] + IMAGE[:, :, 1:]) / 2
    np.testing.assert_allclose(
        between[:, :, :-1][:, both], mean[:, both], rtol=1e-5, atol=max(atol, 0.51)
    )
    return [str(w.message) for w in caught if '--scale' in str(w.message)]


class TestUnit:
    @pytest.mark.parametrize(
        ('dtype', 'factor', 'fill', 'nodata'),
        [
            ('int16', 1, -9999, -9999),
            ('int16', 1, -9999, None),
            ('int16', 1, 0, 0),
            ('int16', 1, 0, -32768),
            ('int32', 1, -9999, -9999),
            ('uint32', 1, 0, None),
            ('float32', 1e-4, np.nan, np.nan),
            ('float32', 1e-4, np.nan, None),
            ('float32', 1e-4, 0, None),
            # Google Earth Engine and SNAP fill with 0, whatever they declare
            ('float32', 1e-4, 0, np.nan),
            ('float64', 1e-4, -9999, -9999),
            ('float64', 1e-4, -3.4e38, -3.4e38),
            ('float32', 1e-4, -9999, None),
            ('float32', 1, np.nan, np.nan),
            ('float64', 1, 0, 0),
        ],
    )
    def test_by_type_and_values(
        self,
        tmp_path: Path,
        dtype: str,
        factor: float,
        fill: float,
        nodata: float | None,
    ) -> None:
        """As Sentinel Hub, xarray and other programs store it.

        https://www.sentinel-hub.com/faq/how-are-values-calculated-within-sentinel-hub-and-how-are-they-returned-output
        """
        path = store(tmp_path / 'scene.tif', dtype, factor, fill, nodata=nodata)
        said = check(path)
        assert said and all('scene.tif' in text for text in said)

    @pytest.mark.parametrize(
        ('dtype', 'scale', 'offset'),
        [
            # Harmonized Landsat Sentinel
            ('int16', 0.0001, 0),
            # Sentinel-2 since 2022
            ('uint16', 0.0001, -0.1),
            # Landsat, collection 2
            ('uint16', 0.0000275, -0.2),
            ('float32', 0.01, 0),
            ('uint8', 1 / 250, 0),
        ],
    )
    def test_by_what_the_file_says(
        self, tmp_path: Path, dtype: str, scale: float, offset: float
    ) -> None:
        """GDAL's scale and offset are no guess.

        https://gdal.org/en/stable/programs/gdal_raster_unscale.html
        """
        values = (IMAGE / 10000 - offset) / scale
        values = np.where(MASK, values, 0)
        values = values if dtype == 'float32' else values.round()
        options: dict[str, Any] = {'nodata': 0, 'photometric': 'minisblack'}
        path = write(tmp_path / 'scene.tif', values.astype(dtype), **options)
        assert not check(declare(path, scale, offset), atol=0.51 * scale * 10000)

    def test_scale_of_products(self, tmp_path: Path) -> None:
        """Reflectance x 10000 that says so is read as it is."""
        path = store(tmp_path / 'scene.tif', 'uint16', nodata=0)
        with OpticalLayer(declare(path, 0.0001)) as layer:
            assert layer.is_product
            assert layer.read(layer.grid).dtype == np.uint16

    @pytest.mark.parametrize(
        ('dtype', 'scale'),
        [('float32', 100), ('float32', 1), ('uint16', 5000), ('float64', 255)],
    )
    def test_by_option(self, tmp_path: Path, dtype: str, scale: float) -> None:
        """It overrules the values, and what the file says."""
        path = store(tmp_path / 'scene.tif', dtype, scale / 10000)
        atol = 1e-3 if dtype.startswith('float') else 5000 / scale
        assert not check(path, atol, scale)
        assert not check(declare(path, 0.5, 3), atol, scale)

    @pytest.mark.parametrize('scale', [0, -1, np.nan, np.inf])
    def test_wrong_option(self, tmp_path: Path, scale: float) -> None:
        path = store(tmp_path / 'scene.tif', 'uint16')
        with pytest.raises(ValueError, match=f'scale={scale} '):
            OpticalLayer(path, scale=scale)

    @pytest.mark.parametrize('scale', [0.0001, 1])
    def test_factor_instead_of_value(self, tmp_path: Path, scale: float) -> None:
        """Some think of what values are multiplied by."""
        path = store(tmp_path / 'scene.tif', 'uint16')
        with (
            OpticalLayer(path, scale=scale) as layer,
            pytest.raises(ValueError, match=r'scene\.tif .*--scale 10000'),
        ):
            layer.survey()

    def test_overruled_name(self, tmp_path: Path) -> None:
        """A file that is called as radiance is reflectance if the user says so."""
        path = store(tmp_path / '20190109_015005_1020_3B_AnalyticMS.tif', 'uint16')
        with pytest.raises(ValueError, match=r'AnalyticMS\.tif .*--scale'):
            OpticalLayer(path)
        with OpticalLayer(path, scale=10000) as layer:
            assert layer.is_product
            assert (layer.read(layer.grid) == IMAGE).all()


class TestPixels:
    @pytest.mark.parametrize('fill', [0, 65535])
    @pytest.mark.parametrize('options', [{'quicklook': True}, {'quicklook': False}])
    def test_filled_with_zeros(
        self, tmp_path: Path, fill: int, options: dict[str, Any]
    ) -> None:
        """Zeros are no ground, whatever the file declares; the result declares the same."""
        path = store(tmp_path / 'scene.tif', 'uint16', fill=fill, nodata=65535)
        s1, out = write_radar(tmp_path / 's1.tif'), tmp_path / 'out.tif'
        remove_clouds(
            Copy(), path, s1, out, num_workers=0, accelerator='cpu', **options
        )
        with rasterio.open(out) as dataset:
            assert dataset.nodata == 65535
            assert (dataset.dataset_mask().astype(bool) == MASK).all()
            assert (dataset.read()[:, MASK] == IMAGE[:, MASK]).all()
        check(path)

    def test_negative(self, tmp_path: Path) -> None:
        """Atmospheric correction makes dark pixels negative, which have data."""
        values = IMAGE.copy()
        values[1, MASK] = -40
        values[:, 20, 40] = -3
        values = np.where(MASK, values, -9999).astype(np.int16)
        path = write(tmp_path / 'scene.tif', values, nodata=-9999)
        with OpticalLayer(path) as layer:
            found = layer.read(layer.grid)
            product = layer.to_product(found)
        assert (found[1, MASK] == 0).all()
        assert (np.isnan(found).all(axis=0) == ~MASK).all()
        assert product[:, 20, 40].tolist() == [1, 1, 1, 1]
        assert ((product != 0).any(axis=0) == MASK).all()

    def test_missing_in_a_band(self, tmp_path: Path) -> None:
        """Without one of the bands, there is nothing to restore from."""
        values = np.full((4, *SHAPE), 0.2, np.float32)
        values[2, 7, 8] = np.nan
        with OpticalLayer(write(tmp_path / 'scene.tif', values)) as layer:
            found = layer.read(layer.grid)
        assert np.isnan(found[:, 7, 8]).all()
        assert np.isnan(found).sum() == 4

    def test_nodata_that_the_type_does_not_hold(self, tmp_path: Path) -> None:
        path = store(tmp_path / 'scene.tif', 'uint16')
        content = f"""<VRTDataset rasterXSize="{SHAPE[1]}" rasterYSize="{SHAPE[0]}">
          <SRS>EPSG:32646</SRS><GeoTransform>500001, 3, 0, 2000004, 0, -3</GeoTransform>
          {
            ''.join(
                f'''<VRTRasterBand dataType="UInt16" band="{band}">
            <NoDataValue>-9999</NoDataValue><SimpleSource>
            <SourceFilename>{path}</SourceFilename><SourceBand>{band}</SourceBand>
            </SimpleSource></VRTRasterBand>'''
                for band in range(1, 5)
            )
        }</VRTDataset>"""
        (tmp_path / 'scene.vrt').write_text(content)
        check(tmp_path / 'scene.vrt')


def random(low: float, high: float, dtype: str = 'uint16') -> NDArray[Any]:
    """Values between two others."""
    values = np.random.default_rng(0).uniform(low, high, (4, *SHAPE))
    return values.astype(dtype).clip(1 if dtype == 'uint16' else low)


class TestCheck:
    @pytest.mark.parametrize(
        'values',
        [
            random(3, 90),
            random(2, 45),
            random(8, 229),
            random(0, 255),
            random(0, 65535),
            random(3, 90, 'int16'),
            random(3, 90, 'float32'),
            random(8, 229, 'float64'),
            random(20, 20, 'float32'),
        ],
        ids=str,
    )
    def test_other_unit(self, tmp_path: Path, values: NDArray[Any]) -> None:
        """Per cent, pictures of 8 bits, and those that fill 16."""
        path = write(tmp_path / 'scene.tif', values, nodata=0)
        with (
            OpticalLayer(path) as layer,
            pytest.raises(
                ValueError, match=r'scene\.tif has values of up to .*--scale'
            ),
        ):
            layer.survey()

    @pytest.mark.parametrize(
        'values',
        [
            # Water, alone and with cloud, snow and cloud
            random(100, 300),
            random(300, 9000),
            random(8000, 20000),
            random(0.005, 0.03, 'float32'),
            random(0.8, 1.4, 'float32'),
        ],
        ids=str,
    )
    def test_dark_and_bright(self, tmp_path: Path, values: NDArray[Any]) -> None:
        path = write(tmp_path / 'scene.tif', values, nodata=0)
        with OpticalLayer(path) as layer:
            assert layer.survey().all()

    @pytest.mark.parametrize('values', [random(90, 200), random(1, 20)], ids=str)
    def test_very_dark(self, tmp_path: Path, values: NDArray[Any]) -> None:
        """Deep water, and night, which may be said otherwise."""
        path = write(tmp_path / 'scene.tif', values, nodata=0)
        with (
            OpticalLayer(path) as layer,
            pytest.warns(AssumptionWarning, match=r'scene\.tif is very dark.*--scale'),
        ):
            layer.survey()

    def test_decoded_before(self, tmp_path: Path) -> None:
        """What xarray has decoded may still declare the scale by which it was."""
        path = store(tmp_path / 'scene.tif', 'float32', 1e-4)
        with (
            OpticalLayer(declare(path, 0.0001)) as layer,
            pytest.raises(ValueError, match=r'scene\.tif .*--scale'),
        ):
            layer.survey()
        assert not check(path, scale=1)

    def test_few_pixels(self, tmp_path: Path) -> None:
        """One that has data, and none."""
        values = np.zeros((4, *SHAPE), np.float32)
        path = write(tmp_path / 'scene.tif', values)
        with OpticalLayer(path) as layer:
            assert not layer.survey().any()
        values[:, 20, 30] = 0.3
        with OpticalLayer(write(path, values)) as layer:
            assert layer.survey().sum() == 1
            assert layer.read(layer.grid)[0, 20, 30] == pytest.approx(3000)


class Copy(nn.Module):
    """Gives back the scene."""

    def forward(self, image: Tensor, image_s1: Tensor) -> Tensor:
        return image


FORMS = [
    ('int16', 1, -9999, -9999),
    ('float32', 1e-4, np.nan, np.nan),
    ('float64', 1, 0, 0),
]


@pytest.mark.parametrize(('dtype', 'factor', 'fill', 'nodata'), FORMS)
@pytest.mark.parametrize('out_dtype', ['uint16', 'float32'])
@pytest.mark.parametrize('with_mask', [True, False])
def test_restored(
    tmp_path: Path,
    dtype: str,
    factor: float,
    fill: float,
    nodata: float,
    out_dtype: Any,
    with_mask: bool,
) -> None:
    """What is restored, and what a composite keeps, is in the same unit."""
    path = store(tmp_path / 'scene.tif', dtype, factor, fill, nodata=nodata)
    cloudy = np.zeros((1, *SHAPE), np.uint8)
    cloudy[:, :, 40:] = 1
    mask = write(tmp_path / 'clouds.tif', cloudy) if with_mask else None
    s1, out = write_radar(tmp_path / 's1.tif'), tmp_path / 'out.tif'
    remove_clouds(
        Copy(), path, s1, out, mask, dtype=out_dtype, num_workers=0, accelerator='cpu'
    )
    actual, unit = read(out), 1 if out_dtype == 'uint16' else 10000
    assert actual.dtype == out_dtype
    with rasterio.open(out) as dataset:
        assert (dataset.dataset_mask().astype(bool) == MASK).all()
        if out_dtype == 'uint16':
            assert dataset.nodata == 0
        assert set(dataset.scales) == {1}
    np.testing.assert_allclose(actual[:, MASK] * unit, IMAGE[:, MASK], rtol=1e-5)
    assert (tmp_path / 'out.png').exists()


@pytest.mark.parametrize(('dtype', 'factor', 'fill', 'nodata'), FORMS)
def test_samples(
    tmp_path: Path, dtype: str, factor: float, fill: float, nodata: float
) -> None:
    """A cloudy and a clear image of other types, in samples of the data set."""
    cloudy = store(tmp_path / 'scene.tif', dtype, factor, fill, nodata=nodata)
    clear = store(tmp_path / 'clear.tif', 'int16', fill=-9999, nodata=-9999)
    s1 = write_radar(tmp_path / 's1.tif')
    dataset = PlanetScopeScenes(cloudy, s1, clear=clear)
    (tile,) = TileSampler(dataset, size=400)
    sample = dataset[tile]
    for key in ('image', 'image_clear'):
        assert sample[key].dtype == torch.float32
        torch.testing.assert_close(sample[key].double(), torch.from_numpy(IMAGE))
    assert (sample['has_data'].numpy() == MASK).all()


def test_clear_image_in_another_unit(tmp_path: Path) -> None:
    cloudy = store(tmp_path / 'scene.tif', 'uint16', nodata=0)
    clear = write(tmp_path / 'clear.tif', random(3, 90))
    dataset = PlanetScopeScenes(cloudy, write_radar(tmp_path / 's1.tif'), clear=clear)
    with pytest.raises(ValueError, match=r'clear\.tif has values .*--scale'):
        dataset.survey(str(cloudy))


def test_command(tmp_path: Path) -> None:
    """Two scenes in per cent and one from 0 to 1, with and without the option."""
    for name in ('a', 'b'):
        store(tmp_path / f'{name}.tif', 'float32', 0.01, np.nan)
    store(tmp_path / 'c.tif', 'float32', 1e-4, np.nan)
    write_radar(tmp_path / 's1.tif')
    checkpoint = save_checkpoint(tmp_path)
    scenes = [tmp_path / f'{name}.tif' for name in 'abc']
    options = ['--s1', tmp_path / 's1.tif', '--checkpoint', checkpoint]
    options += ['--accelerator', 'cpu', '--out', tmp_path / 'out']
    status, _, said = planetcr('remove-clouds', *scenes, *options)
    assert status == 1
    assert said.count('a.tif has values of up to 89') == 1
    assert said.count('c.tif is float32: taken for reflectance from 0 to 1') == 1
    assert {path.name for path in (tmp_path / 'out').iterdir()} == {'c.tif', 'c.png'}
    status, told, said = planetcr(
        'remove-clouds', *scenes[:2], *options, '--scale', '100'
    )
    assert status == 0, said
    assert '2 scenes' in told
    assert 'taken for reflectance' not in said
    assert read(tmp_path / 'out' / 'a.tif')[:, MASK].mean() > 0


def test_grid_of_another_crs(tmp_path: Path) -> None:
    """Fill that the file does not declare is not mixed into what is warped."""
    values = np.full((4, *SHAPE), 0.1, np.float32)
    values[:, :, :30] = -9999
    path = write(tmp_path / 'clear.tif', values)
    with OpticalLayer(path) as layer:
        bounds = layer.grid.bounds_in('EPSG:32647')
    grid = Grid.from_bounds('EPSG:32647', bounds, (3, 3))
    with OpticalLayer(path, grid=grid) as layer:
        found = layer.read(grid)
    has_data = np.isfinite(found).all(axis=0)
    assert has_data.sum() * 9 == pytest.approx(50 * 60 * 9, rel=0.05)
    np.testing.assert_allclose(found[:, has_data], 1000, rtol=1e-5)
