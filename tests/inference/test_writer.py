# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from lightning.pytorch import Trainer
from numpy.typing import NDArray
from rasterio.transform import from_origin
from rasters import make_array, write
from shapely import box
from small_scene import (
    LEFT,
    TOP,
    make_image,
    make_mask,
    names,
    read,
    write_radar,
    write_scene,
)
from systems import full_disk
from torch import Tensor
from torch.utils.data import DataLoader
from torchgeo.datasets import stack_samples
from torchgeo.datasets.utils import Sample
from torchgeo.samplers import RandomPatchSampler
from torchgeo.tasks import BaseTask, PixelwiseRegression, SemanticSegmentation

from torchgeo_planetcr.datasets import NativeRasterDataset
from torchgeo_planetcr.inference import GeoTIFFWriter
from torchgeo_planetcr.samplers import (
    CenterNativePatchSampler,
    GriddedNativePatchSampler,
    RandomNativePatchSampler,
    TileBatchSampler,
    TileSampler,
)
from torchgeo_planetcr.scenes import PlanetScopeScenes


class PerPixel(BaseTask):
    """Gives a function of each pixel, as an image or with what else belongs to it."""

    def __init__(self, named: bool = False) -> None:
        super().__init__()
        self.named = named

    def configure_models(self) -> None:
        self.model = torch.nn.Identity()

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        raise NotImplementedError

    validation_step = test_step = training_step

    def predict_step(
        self, batch: Sample, batch_idx: int, dataloader_idx: int = 0
    ) -> Any:
        image = batch['image']
        prediction = torch.stack([image[:, 0] / 7, image.sum(dim=1)], dim=1)
        return {'prediction': prediction, 'more': 1} if self.named else prediction


def per_pixel(array: NDArray[Any]) -> NDArray[np.float32]:
    """What the task gives."""
    image = array.astype(np.float32)
    return np.stack([image[0] / 7, image.sum(axis=0)])


class Broken(PerPixel):
    """Gives something else."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer = answer

    def predict_step(
        self, batch: Sample, batch_idx: int, dataloader_idx: int = 0
    ) -> Any:
        return self.answer(batch['image'])


@pytest.fixture(scope='module')
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scenes of other bands, types, sizes and zones, to be read only."""
    folder = tmp_path_factory.mktemp('scenes')
    options: dict[str, Any] = {'transform': from_origin(LEFT, TOP, 3, 3)}
    write(folder / 'a.tif', make_array(3, 150, 130), crs='EPSG:32733', **options)
    write(folder / 'b.TIF', make_array(3, 40, 200), nodata=9, **options)
    return folder


def make_trainer(writer: GeoTIFFWriter, folder: Path) -> Trainer:
    return Trainer(
        accelerator='cpu',
        callbacks=[writer],
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        default_root_dir=folder,
        use_distributed_sampler=False,
    )


def make_loader(
    dataset: Any, size: int = 64, overlap: int = 16, **options: Any
) -> DataLoader[Any]:
    sampler = TileSampler(dataset, size=size, overlap=overlap)
    options = {'batch_sampler': TileBatchSampler(sampler, 3)} | options
    return DataLoader(dataset, collate_fn=stack_samples, **options)


def predict(
    writer: GeoTIFFWriter, task: BaseTask, loader: DataLoader[Any], folder: Path
) -> None:
    make_trainer(writer, folder).predict(task, loader, return_predictions=False)


class TestOtherTasks:
    @pytest.mark.filterwarnings('ignore:You are using a custom batch sampler')
    @pytest.mark.parametrize('named', [True, False])
    @pytest.mark.parametrize('num_workers', [0, 1])
    def test_per_pixel(
        self, scenes: Path, tmp_path: Path, named: bool, num_workers: int
    ) -> None:
        """Any number of bands, on the grid of each file."""
        writer = GeoTIFFWriter(tmp_path / 'out', overlap=16)
        loader = make_loader(NativeRasterDataset(scenes), num_workers=num_workers)
        predict(writer, PerPixel(named), loader, tmp_path)
        assert names(tmp_path / 'out') == {'a.tif', 'b.tif'}
        assert [Path(path).name for path in writer.written] == ['a.tif', 'b.tif']
        for name, source in (('a.tif', 'a.tif'), ('b.tif', 'b.TIF')):
            with (
                rasterio.open(scenes / source) as before,
                rasterio.open(tmp_path / 'out' / name) as after,
            ):
                assert (after.crs, after.transform) == (before.crs, before.transform)
                assert (after.shape, after.dtypes) == (before.shape, ('float32',) * 2)
                assert after.nodata == (before.nodata or 0)
                array, actual = before.read(), after.read()
            expected = per_pixel(array)
            assert np.abs(actual / expected - 1).max() < 1e-6

    @pytest.mark.filterwarnings('ignore:You are using a custom batch sampler')
    def test_pixelwise_regression(self, tmp_path: Path) -> None:
        """TorchGeo's own task, on a network of TorchGeo that sees few pixels around."""
        torch.manual_seed(0)
        task = PixelwiseRegression(
            model='fcn', in_channels=3, num_filters=4, loss='mse'
        ).eval()
        image = make_array(3, 150, 130)
        path = write(tmp_path / 'scene.tif', image)
        with torch.no_grad():
            expected = task(torch.from_numpy(image.astype(np.float32))[None])[0].numpy()
        writer = GeoTIFFWriter(tmp_path / 'out', overlap=32)
        loader = make_loader(NativeRasterDataset(path), 96, 32)
        predict(writer, task, loader, tmp_path)
        actual = read(tmp_path / 'out' / 'scene.tif')
        assert actual.shape == expected.shape == (1, 150, 130)
        assert np.ptp(expected) > 10
        assert np.abs(actual - expected).max() < 1e-5 * np.abs(expected).max()

    @pytest.mark.filterwarnings('ignore:You are using a custom batch sampler')
    @pytest.mark.parametrize(
        ('kind', 'count'), [('multiclass', 4), ('binary', 1), ('multilabel', 3)]
    )
    @pytest.mark.parametrize('dtype', ['float32', 'uint8', 'uint16'])
    def test_segmentation(
        self, tmp_path: Path, kind: Any, count: int, dtype: Any
    ) -> None:
        """TorchGeo's own task: probabilities, or the class that is most likely."""
        torch.manual_seed(0)
        numbers: dict[str, Any] = {
            f'num_{"labels" if kind == "multilabel" else "classes"}': count
        }
        task = SemanticSegmentation(
            model='fcn', in_channels=3, num_filters=4, task=kind, **numbers
        ).eval()
        image = make_array(3, 150, 130)
        path = write(tmp_path / 'scene.tif', image)
        batch = {'image': torch.from_numpy(image.astype(np.float32))[None]}
        with torch.no_grad():
            found: Any = task.predict_step(batch, 0)
        expected = found['probabilities'][0].numpy()
        writer = GeoTIFFWriter(tmp_path / 'out', 32, dtype)
        loader = make_loader(NativeRasterDataset(path), 96, 32)
        if dtype == 'uint16' or (kind == 'multilabel' and dtype == 'uint8'):
            with pytest.raises(ValueError, match='choose .*float32'):
                predict(writer, task, loader, tmp_path)
            assert not list(tmp_path.glob('out/*'))
            return
        predict(writer, task, loader, tmp_path)
        with rasterio.open(tmp_path / 'out' / 'scene.tif') as dataset:
            actual, nodata = dataset.read(), dataset.nodata
            # Four classes are no bands of PlanetScope
            assert not any(dataset.descriptions)
        assert actual.dtype == dtype
        if dtype == 'float32':
            assert actual.shape == expected.shape == (count, 150, 130)
            assert np.abs(actual - expected).max() < 1e-4
            return
        assert actual.shape == (1, 150, 130)
        assert nodata == 255
        if kind == 'binary':
            is_clear = np.abs(expected[0] - 0.5) > 1e-4
            expected = expected[0] >= 0.5
        else:
            largest = np.sort(expected, axis=0)
            is_clear = largest[-1] - largest[-2] > 1e-4
            expected = expected.argmax(axis=0)
        assert (actual[0] == expected)[is_clear].all()
        assert is_clear.mean() > 0.9
        assert len(np.unique(actual)) > 1

    @pytest.mark.filterwarnings('ignore:You are using a custom batch sampler')
    @pytest.mark.filterwarnings("ignore:Attribute 'answer' removed from hparams")
    @pytest.mark.parametrize('dtype', ['float32', 'uint8', 'uint16'])
    @pytest.mark.parametrize(
        'answer',
        [
            lambda image: image[:, 0].long() % 255,
            lambda image: image[:, :1].int() % 255,
            lambda image: {'prediction': (image[:, 0] % 255).to(torch.uint8)},
        ],
    )
    def test_classes(
        self, scenes: Path, tmp_path: Path, dtype: Any, answer: Any
    ) -> None:
        """Whole numbers are written as they are, also where 0 is no data in the file."""
        writer = GeoTIFFWriter(tmp_path / 'out', 16, dtype)
        predict(
            writer, Broken(answer), make_loader(NativeRasterDataset(scenes)), tmp_path
        )
        for name, source in (('a.tif', 'a.tif'), ('b.tif', 'b.TIF')):
            with (
                rasterio.open(scenes / source) as before,
                rasterio.open(tmp_path / 'out' / name) as after,
            ):
                assert (after.count, after.dtypes, after.nodata) == (1, ('uint8',), 255)
                has_data = before.dataset_mask().astype(bool)
                expected = np.where(has_data, before.read(1) % 255, 255)
                assert (after.read(1) == expected).all()

    @pytest.mark.filterwarnings('ignore:You are using a custom batch sampler')
    @pytest.mark.filterwarnings("ignore:Attribute 'answer' removed from hparams")
    def test_overviews_of_classes(self, tmp_path: Path) -> None:
        """Classes 1 and 201 in turns have no mean, not even in an overview."""
        image = np.full((1, 600, 1100), 1, dtype=np.uint16)
        image[:, ::2, ::3] = 201
        path = write(tmp_path / 'a.tif', image)
        writer = GeoTIFFWriter(tmp_path / 'out', 16)
        loader = make_loader(NativeRasterDataset(path), 256)
        predict(writer, Broken(lambda x: x[:, 0].long()), loader, tmp_path)
        with rasterio.open(tmp_path / 'out' / 'a.tif') as dataset:
            assert dataset.overviews(1)
        with rasterio.open(tmp_path / 'out' / 'a.tif', overview_level=0) as dataset:
            assert set(np.unique(dataset.read())) <= {1, 201}

    def test_windows(self, scenes: Path, tmp_path: Path) -> None:
        """With other samplers of the package: windows that adjoin, or the center."""
        dataset = NativeRasterDataset(scenes / 'a.tif')
        for number, sampler in enumerate(
            (
                GriddedNativePatchSampler(dataset, size=(50, 65)),
                CenterNativePatchSampler(dataset, size=None),
                CenterNativePatchSampler(dataset, size=20),
            )
        ):
            out = tmp_path / str(number)
            loader = make_loader(dataset, batch_sampler=None, sampler=sampler)
            predict(GeoTIFFWriter(out), PerPixel(), loader, tmp_path)
            actual, expected = read(out / 'a.tif'), per_pixel(read(scenes / 'a.tif'))
            if number == 2:
                part = expected[:, 65:85, 55:75].copy()
                expected[:] = 0
                expected[:, 65:85, 55:75] = part
            assert np.abs(actual - expected).max() < 1e-6 * expected.max()

    @pytest.mark.filterwarnings('ignore:You are using a custom batch sampler')
    @pytest.mark.parametrize(('height', 'width'), [(100, 90), (70, 4300)])
    def test_part(self, tmp_path: Path, height: int, width: int) -> None:
        """Of a scene that is cut, all that is left, in one strip or in two."""
        shape = 3, 20 + height + 5, 37 + width + 9
        options: dict[str, Any] = {'transform': from_origin(LEFT, TOP, 3, 3)}
        path = write(tmp_path / 'scene.tif', make_array(*shape), **options)
        dataset = NativeRasterDataset(path)
        left, top = LEFT + 3 * 37, TOP - 3 * 20
        part_box = box(left, top - 3 * height, left + 3 * width, top)
        dataset.index = dataset.index.set_geometry([part_box], crs=dataset.crs)
        writer = GeoTIFFWriter(tmp_path / 'out', overlap=16)
        predict(writer, PerPixel(), make_loader(dataset), tmp_path)
        actual = read(tmp_path / 'out' / 'scene.tif')
        expected = np.zeros_like(actual)
        part = slice(None), slice(20, 20 + height), slice(37, 37 + width)
        expected[part] = per_pixel(read(path))[part]
        assert (expected[part] > 0).all()
        assert np.abs(actual - expected).max() < 1e-6 * expected.max()

    @pytest.mark.filterwarnings('ignore:You are using a custom batch sampler')
    @pytest.mark.filterwarnings("ignore:Attribute 'answer' removed from hparams")
    def test_uint16(self, scenes: Path, tmp_path: Path) -> None:
        writer = GeoTIFFWriter(tmp_path / 'out', 16, dtype='uint16')
        dataset = NativeRasterDataset(scenes / 'a.tif')

        def answer(image: Tensor) -> Tensor:
            return image[:, :1] / 10000

        predict(writer, Broken(answer), make_loader(dataset), tmp_path)
        actual = read(tmp_path / 'out' / 'a.tif')
        assert actual.dtype == np.uint16
        assert (actual == read(scenes / 'a.tif')[:1]).all()

    @pytest.mark.filterwarnings('ignore:You are using a custom batch sampler')
    @pytest.mark.filterwarnings("ignore:Attribute 'answer' removed from hparams")
    def test_nodata_beyond_type(self, tmp_path: Path) -> None:
        """It is that of products instead."""
        image = make_image(40, 50).astype(np.float32)
        image[:, ~make_mask(40, 50)] = -99
        path = write_scene(tmp_path / 'a.tif', image, nodata=-99)
        loader = make_loader(NativeRasterDataset(path), 32, 8)
        writer = GeoTIFFWriter(tmp_path / 'out', 8, 'uint16')

        def answer(image: Tensor) -> Tensor:
            return image / 10000

        predict(writer, Broken(answer), loader, tmp_path)
        with rasterio.open(tmp_path / 'out' / 'a.tif') as dataset:
            assert dataset.nodata == 0
            found = dataset.read()
        assert ((found != 0).any(axis=0) == make_mask(40, 50)).all()


@pytest.mark.filterwarnings('ignore:You are using a custom batch sampler')
@pytest.mark.filterwarnings("ignore:Attribute 'answer' removed from hparams")
class TestErrors:
    @pytest.mark.parametrize(
        ('answer', 'options', 'message'),
        [
            (lambda x: x, {'dtype': 'uint8'}, 'uint8 is for classes'),
            (lambda x: x[:, 0].long() % 9, {'quicklook': True}, 'makes classes'),
            (
                lambda x: {'probabilities': x.softmax(1)},
                {'quicklook': True},
                'makes probabilities',
            ),
        ],
    )
    def test_other_content(
        self,
        scenes: Path,
        tmp_path: Path,
        answer: Any,
        options: dict[str, Any],
        message: str,
    ) -> None:
        loader = make_loader(NativeRasterDataset(scenes))
        writer = GeoTIFFWriter(tmp_path / 'out', 16, **options)
        with pytest.raises(ValueError, match=message):
            predict(writer, Broken(answer), loader, tmp_path)
        assert not list(tmp_path.glob('out/*'))

    def test_same_names(self, tmp_path: Path) -> None:
        """Two files of one name would be written to one."""
        for name in 'xy':
            (tmp_path / name).mkdir()
            write_scene(tmp_path / name / 'a.tif', make_image(40, 50))
        paths = [tmp_path / name / 'a.tif' for name in 'xy']
        loader = make_loader(NativeRasterDataset(paths), 32, 8)
        message = f'{paths[0]} and {paths[1]} would be written to the same file'
        with pytest.raises(ValueError, match=message):
            predict(GeoTIFFWriter(tmp_path / 'out', 8), PerPixel(), loader, tmp_path)

    def test_full_disk(self, scenes: Path, tmp_path: Path) -> None:
        """Nothing unfinished stays, even while somebody holds the error."""
        loader = make_loader(NativeRasterDataset(scenes), 32, 8)
        with (
            pytest.raises(OSError, match='cannot be written') as caught,
            full_disk(2_000),
        ):
            predict(GeoTIFFWriter(tmp_path / 'out', 8), PerPixel(), loader, tmp_path)
        assert not names(tmp_path / 'out')
        del caught

    def test_existing(self, scenes: Path, tmp_path: Path) -> None:
        """One of two exists: nothing is begun."""
        out = tmp_path / 'out'
        out.mkdir()
        (out / 'b.tif').write_text('mine')
        loader = make_loader(NativeRasterDataset(scenes))
        with pytest.raises(FileExistsError, match=rf'{out}/b\.tif exists: .*overwrite'):
            predict(GeoTIFFWriter(out, 16), PerPixel(), loader, tmp_path)
        assert (out / 'b.tif').read_text() == 'mine'
        assert names(out) == {'b.tif'}
        predict(GeoTIFFWriter(out, 16, overwrite=True), PerPixel(), loader, tmp_path)
        assert read(out / 'b.tif').shape == (2, 40, 200)
        assert names(out) == {'a.tif', 'b.tif'}

    def test_source(self, scenes: Path, tmp_path: Path) -> None:
        """Predictions are not written over what they are of."""
        path = write(tmp_path / 'a.tif', make_array(3, 64, 64))
        before = path.read_bytes()
        loader = make_loader(NativeRasterDataset(path))
        writer = GeoTIFFWriter(tmp_path, 16, overwrite=True)
        with pytest.raises(ValueError, match='would replace what is read'):
            predict(writer, PerPixel(), loader, tmp_path)
        assert path.read_bytes() == before
        assert names(tmp_path) == {'a.tif'}

    @pytest.mark.parametrize(
        ('answer', 'message'),
        [
            (
                lambda x: x[..., 1:],
                r'\(3, 3, 64, 63\) instead of .* \(3, bands, 64, 64\)',
            ),
            (lambda x: x[:, 0], r'makes \(3, 64, 64\) instead'),
            (lambda x: x[:2], r'makes \(2, 3, 64, 64\) instead'),
            (lambda x: x.mean(dim=(2, 3)), r'makes \(3, 3\) instead of images'),
            (lambda x: x[:, 0].long() - 9999, r'classes from -\d+ to .*from 0 to 254'),
            (lambda x: x[:, 0].long() * 0 + 255, 'classes from 255 to 255'),
            (lambda x: {'logits': x}, 'makes logits, .* prediction or probabilities'),
            (lambda x: [x], 'makes list instead of images of shape'),
            (
                lambda x: x / 0,
                r'NaN or infinite, in .*a\.tif at or after x = 500001, y =',
            ),
            (lambda x: x * np.nan, r'NaN or infinite, in .*a\.tif'),
        ],
    )
    def test_no_image(
        self, scenes: Path, tmp_path: Path, answer: Any, message: str
    ) -> None:
        loader = make_loader(NativeRasterDataset(scenes))
        with pytest.raises((FloatingPointError, ValueError), match=message):
            predict(
                GeoTIFFWriter(tmp_path / 'out', 16), Broken(answer), loader, tmp_path
            )
        assert not list(tmp_path.iterdir())

    def test_resampled(self, scenes: Path, tmp_path: Path) -> None:
        """Pixels that the file does not have."""
        dataset = NativeRasterDataset(scenes / 'a.tif')
        dataset.res = 6
        loader = make_loader(dataset, 32, 8)
        message = r'has 32 x 32 pixels where .*a\.tif has 64 x 64: .* resolution'
        with pytest.raises(ValueError, match=message):
            predict(GeoTIFFWriter(tmp_path / 'out', 8), PerPixel(), loader, tmp_path)
        assert not list((tmp_path / 'out').iterdir())

    def test_no_file(self, scenes: Path, tmp_path: Path) -> None:
        """TorchGeo's own sampler gives windows that know no file."""
        dataset = NativeRasterDataset(scenes / 'a.tif')
        sampler = RandomPatchSampler(dataset, size=32, length=2)
        loader = make_loader(dataset, batch_sampler=None, sampler=sampler)
        with pytest.raises(ValueError, match='windows do not say of which file they'):
            predict(GeoTIFFWriter(tmp_path / 'out'), PerPixel(), loader, tmp_path)
        assert not list(tmp_path.iterdir())

    def test_shuffled(self, scenes: Path, tmp_path: Path) -> None:
        """Windows that come from anywhere."""
        for paths, message in (
            (scenes / 'a.tif', 'column .* comes after one at row'),
            (scenes, 'column .* comes after one at row|do not follow each other'),
        ):
            dataset = NativeRasterDataset(paths)
            sampler = RandomNativePatchSampler(dataset, size=32, length=60, generator=0)
            loader = make_loader(dataset, batch_sampler=None, sampler=sampler)
            writer = GeoTIFFWriter(tmp_path / 'out', overwrite=True)
            with pytest.raises(ValueError, match=message):
                predict(writer, PerPixel(), loader, tmp_path)

    def test_file_again(self, scenes: Path, tmp_path: Path) -> None:
        """A file whose windows come in two parts is not replaced by the second one."""

        class Again(TileSampler):
            def __iter__(self) -> Any:
                tiles: Iterable[Any] = list(super().__iter__())
                yield from [*tiles, *tiles]

            def num_batches(self, batch_size: int) -> int:
                return 2 * super().num_batches(batch_size)

        dataset = NativeRasterDataset(scenes)
        sampler = Again(dataset, size=64, overlap=16)
        batches = TileBatchSampler(sampler, 3)
        loader = make_loader(dataset, batch_sampler=batches)
        writer = GeoTIFFWriter(tmp_path / 'out', 16, overwrite=True)
        with pytest.raises(ValueError, match=r'a\.tif do not follow each other'):
            predict(writer, PerPixel(), loader, tmp_path)
        assert names(tmp_path / 'out') == {'a.tif', 'b.tif'}

    def test_bands(self, tmp_path: Path) -> None:
        """A composite is made of four bands."""
        cloudy, s1 = write_scene(tmp_path / 'c.tif'), write_radar(tmp_path / 's.tif')
        mask = write_scene(tmp_path / 'm.tif', np.ones((1, 210, 260), np.uint8))
        dataset = PlanetScopeScenes(cloudy, s1)
        masks = {str(cloudy): mask}
        writer = GeoTIFFWriter(tmp_path / 'out', 16, masks=masks)
        with pytest.raises(
            ValueError, match='makes 2 bands instead of B, G, R and NIR'
        ):
            predict(writer, PerPixel(), make_loader(dataset), tmp_path)
        assert not list((tmp_path / 'out').iterdir())

    def test_dtype(self) -> None:
        dtype: Any = 'int16'
        with pytest.raises(
            ValueError, match="dtype='int16' is not one of uint8, uint16, flo"
        ):
            GeoTIFFWriter('out', dtype=dtype)


def test_names(tmp_path: Path) -> None:
    """Only what is a suffix is cut off."""
    folder = tmp_path / 'scenes'
    folder.mkdir()
    paths = [
        write_scene(folder / name, make_image(40, 50), driver='GTiff')
        for name in ('a.v1.tif', 'b.img', 'c')
    ]
    writer = GeoTIFFWriter(tmp_path / 'out')
    dataset = NativeRasterDataset(paths)
    sampler = CenterNativePatchSampler(dataset, size=None)
    loader = make_loader(dataset, batch_sampler=None, sampler=sampler)
    predict(writer, PerPixel(), loader, tmp_path)
    assert names(tmp_path / 'out') == {'a.v1.tif', 'b.img.tif', 'c.tif'}


def test_mapping(scenes: Path, tmp_path: Path) -> None:
    """A path for each file."""
    out = {str(scenes / 'a.tif'): tmp_path / 'x' / 'y.tif', str(scenes / 'b.TIF'): 'z'}
    out[str(scenes / 'b.TIF')] = tmp_path / 'z.tif'
    dataset = NativeRasterDataset(scenes)
    sampler = CenterNativePatchSampler(dataset, size=None)
    loader = make_loader(dataset, batch_sampler=None, sampler=sampler)
    predict(GeoTIFFWriter(out), PerPixel(), loader, tmp_path)
    assert read(tmp_path / 'x' / 'y.tif').shape == (2, 150, 130)
    assert read(tmp_path / 'z.tif').shape == (2, 40, 200)
