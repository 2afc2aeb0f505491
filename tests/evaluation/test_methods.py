# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import hashlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from lightning.pytorch import Trainer
from numpy.typing import NDArray
from rasterio.transform import from_origin
from rasters import write
from torch import Tensor, nn
from torch.utils.data import default_collate
from torchgeo.datasets.utils import Sample
from torchgeo.tasks import BaseTask, SemanticSegmentation

from torchgeo_planetcr import CloudRemoval, PlanetCR
from torchgeo_planetcr.evaluation import (
    EvaluationPatches,
    Predictions,
    fingerprint,
    load_methods,
)
from torchgeo_planetcr.evaluation.methods import MethodDescription, NetworkDescription
from torchgeo_planetcr.models import Copy, DSen2CR
from torchgeo_planetcr.models.checkpoint import reference_names
from torchgeo_planetcr.transforms import PlanetCRNormalize

TINY = {'features': 8, 'num_blocks': 1}

Image = NDArray[Any]


@pytest.fixture(scope='module')
def patches(root: Path) -> EvaluationPatches:
    """Three whole patches in two CRSs."""
    return EvaluationPatches(PlanetCR(root, 'test'), None)


@pytest.fixture(scope='module')
def windows(root: Path) -> EvaluationPatches:
    """Windows of 40 x 40 pixels in their center."""
    return EvaluationPatches(PlanetCR(root, 'test'), 40)


@pytest.fixture(scope='module')
def batch(windows: EvaluationPatches) -> Sample:
    return PlanetCRNormalize()(default_collate([windows[2], windows[0]]))


@pytest.fixture(scope='module')
def images() -> Image:
    """Reflectance x 10000 of three patches."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 11000, (3, 4, 300, 300)).astype('uint16')


def save(task: BaseTask, path: Path) -> Path:
    """Write a checkpoint as Lightning does."""
    trainer = Trainer(accelerator='cpu', logger=False, enable_progress_bar=False)
    trainer.strategy.connect(task)
    trainer.save_checkpoint(path)
    return path


def write_tif(
    path: Path, array: Image, patches: EvaluationPatches, number: int, **options: Any
) -> Path:
    """Write a GeoTIFF on the grid of a patch."""
    path.parent.mkdir(parents=True, exist_ok=True)
    grid = patches.patch_grid(number)
    place = {'crs': grid.crs, 'transform': grid.transform}
    return write(path, array, **(place | options))


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class TestNetworks:
    def test_copy(self, windows: EvaluationPatches, batch: Sample) -> None:
        (name, method), *rest = load_methods(['copy'], windows).items()
        assert not rest
        assert name == 'copy'
        assert torch.equal(method(batch), batch['image'])
        assert method.describe() == NetworkDescription('copy', None, None, 'copy')

    def test_checkpoint(
        self, windows: EvaluationPatches, batch: Sample, tmp_path: Path
    ) -> None:
        task = CloudRemoval(model_kwargs=TINY)
        # As Lightning calls them
        path = save(task, tmp_path / 'epoch=3-step=8.ckpt')
        for source, name in ((path, 'dsen2cr'), (f'mine={path}', 'mine')):
            methods = load_methods([source], windows)
            assert list(methods) == [name]
            method = methods[name].eval()
            with torch.inference_mode():
                expected = task.eval()(batch['image'], batch['image_s1'])
                torch.testing.assert_close(method(batch), expected)
            assert method.describe() == NetworkDescription(
                'checkpoint', str(path), sha256(path), 'dsen2cr'
            )
        methods = load_methods({'a': path, 'b=c': str(path), 'd': 'copy'}, windows)
        assert list(methods) == ['a', 'b=c', 'd']

    def test_relative_path_with_equals_sign(
        self,
        windows: EvaluationPatches,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        save(CloudRemoval(model_kwargs=TINY), tmp_path / 'epoch=3.ckpt')
        monkeypatch.chdir(tmp_path)
        methods = load_methods(['epoch=3.ckpt', 'mine=epoch=3.ckpt'], windows)
        assert list(methods) == ['dsen2cr', 'mine']
        # The whole wins if both are there
        save(CloudRemoval(model_kwargs=TINY), tmp_path / '3.ckpt')
        assert list(load_methods(['epoch=3.ckpt'], windows)) == ['dsen2cr']
        assert list(load_methods(['epoch=./3.ckpt'], windows)) == ['epoch']
        missing = tmp_path / 'epoch=4.ckpt'
        with pytest.raises(ValueError, match='neither .* check the path') as error:
            load_methods([missing], windows)
        assert f"'{missing}'" in str(error.value)

    def test_reference_checkpoint(
        self, windows: EvaluationPatches, batch: Sample, tmp_path: Path
    ) -> None:
        """One in the format of the authors' code; its network is found out."""
        torch.manual_seed(0)
        model = DSen2CR().eval()
        weights = model.state_dict()
        path = tmp_path / 'net.pth'
        names = reference_names(model)
        network = {f'module.{name}': weights[key] for name, key in names.items()}
        torch.save({'network': network}, path)
        ((name, method),) = load_methods([path], windows).items()
        assert name == 'dsen2cr'
        assert method.describe().model == 'dsen2cr'
        corner = {key: batch[key][:1, :, :8, :8] for key in ('image', 'image_s1')}
        with torch.inference_mode():
            expected = model(**corner)
            torch.testing.assert_close(method.eval()(corner), expected)

        del network[next(iter(network))]
        torch.save({'network': network}, path)
        with pytest.raises(ValueError, match='does not fit') as error:
            load_methods([path], windows)
        assert str(path) in str(error.value)

    def test_module(self, windows: EvaluationPatches, batch: Sample) -> None:
        class Half(nn.Module):
            def forward(self, image: Tensor, image_s1: Tensor) -> Tensor:
                return image / 2 + image_s1.mean()

        given = Half()
        given.scale = nn.Parameter(torch.ones(1))
        methods = load_methods({'half': given, 'copy': Copy()}, windows)
        assert list(methods) == ['half', 'copy']
        found = methods['half'](batch)
        torch.testing.assert_close(found, batch['image'] / 2 + batch['image_s1'].mean())
        description = NetworkDescription('module', None, None, 'Half')
        assert methods['half'].describe() == description
        # Mode, type and device of what was given stay
        methods['half'].eval().double().to('meta')
        assert given.training
        assert given.scale.dtype == torch.float32
        assert given.scale.device.type == 'cpu'

    def test_compiled_checkpoint(
        self, windows: EvaluationPatches, batch: Sample, tmp_path: Path
    ) -> None:
        """Compiling anew for each shape would cost more than it gives."""
        task = CloudRemoval(model_kwargs=TINY)
        path = save(task, tmp_path / 'model.ckpt')
        checkpoint = torch.load(path, weights_only=True)
        assert checkpoint['hyper_parameters']['compile'] is False
        checkpoint['hyper_parameters']['compile'] = True
        torch.save(checkpoint, path)
        method = load_methods([path], windows)['dsen2cr'].eval()
        assert all(m._compiled_call_impl is None for m in method.modules())
        with torch.inference_mode():
            expected = task.eval()(batch['image'], batch['image_s1'])
            torch.testing.assert_close(method(batch), expected)

    def test_checkpoint_of_another_task(
        self, windows: EvaluationPatches, tmp_path: Path
    ) -> None:
        task = SemanticSegmentation('fcn', num_filters=2, in_channels=4, num_classes=7)
        path = save(task, tmp_path / 'landcover.ckpt')
        with pytest.raises(ValueError, match='checkpoint of CloudRemoval') as error:
            load_methods([path], windows)
        assert str(path) in str(error.value)

    def test_checkpoint_of_a_module(
        self, windows: EvaluationPatches, tmp_path: Path
    ) -> None:
        """Its class is not known, so there is an advice."""
        path = save(CloudRemoval(nn.Conv2d(4, 4, 1)), tmp_path / 'module.ckpt')
        with pytest.raises(
            ValueError, match='give the module itself, from Python'
        ) as error:
            load_methods([path], windows)
        assert str(path) in str(error.value)

    def test_damaged_checkpoint(
        self, windows: EvaluationPatches, tmp_path: Path
    ) -> None:
        path = save(CloudRemoval(model_kwargs=TINY), tmp_path / 'model.ckpt')
        content = path.read_bytes()
        for damaged in (content[: len(content) // 2], b'', b'no checkpoint'):
            path.write_bytes(damaged)
            with pytest.raises(ValueError, match='cannot be read') as error:
                load_methods([path], windows)
            assert str(path) in str(error.value)
        for other in (torch.ones(2), {'weights': torch.ones(2)}, [1]):
            torch.save(other, path)
            with pytest.raises(ValueError, match='is not a checkpoint') as error:
                load_methods([path], windows)
            assert str(path) in str(error.value)

    def test_pickled_object(self, windows: EvaluationPatches, tmp_path: Path) -> None:
        made = tmp_path / 'executed'

        class Evil:
            def __reduce__(self) -> tuple[Any, ...]:
                return open, (str(made), 'w')

        path = tmp_path / 'model.ckpt'
        torch.save({'state_dict': Evil()}, path)
        with pytest.raises(ValueError, match='not executed'):
            load_methods([path], windows)
        assert not made.exists()


class TestNames:
    @pytest.mark.parametrize('sources', [[], {}])
    def test_none(
        self, windows: EvaluationPatches, sources: list[str] | dict[str, str]
    ) -> None:
        with pytest.raises(ValueError, match="nothing to evaluate: name 'copy'"):
            load_methods(sources, windows)

    @pytest.mark.parametrize('source', ['copy', Path('copy')])
    def test_one_path(self, windows: EvaluationPatches, source: Any) -> None:
        with pytest.raises(TypeError, match=r"must be a list, as in \['copy'\]"):
            load_methods(source, windows)

    def test_any_name(self, windows: EvaluationPatches, tmp_path: Path) -> None:
        path = save(CloudRemoval(model_kwargs=TINY), tmp_path / 'model.ckpt')
        methods = load_methods(['a/b=copy', f'my <b>x</b>={path}'], windows)
        assert {name: method.kind for name, method in methods.items()} == {
            'a/b': 'copy',
            'my <b>x</b>': 'checkpoint',
        }

    def test_twice(self, windows: EvaluationPatches) -> None:
        with pytest.raises(ValueError, match=r"called 'copy'.*'copy-2=copy'"):
            load_methods(['copy', 'copy'], windows)
        assert list(load_methods(['copy', 'copy-2=copy'], windows)) == [
            'copy',
            'copy-2',
        ]

    @pytest.mark.parametrize('name', ['clear', 'cloudy'])
    def test_reserved(self, windows: EvaluationPatches, name: str) -> None:
        for sources in ([f'{name}=copy'], {name: 'copy'}):
            with pytest.raises(ValueError, match=f"'my-{name}=copy'"):
                load_methods(sources, windows)

    @pytest.mark.parametrize('source', ['nothing', 'mine=nothing', 'a/b=c.ckpt'])
    def test_no_such_file(self, windows: EvaluationPatches, source: str) -> None:
        match = f"'{source}' is neither 'copy' nor a file or folder: check the path"
        with pytest.raises(ValueError, match=re.escape(match)):
            load_methods([source], windows)


def as_float(array: Image) -> Image:
    return (array / 10000).astype('float32')


FORMATS: Mapping[str, tuple[str, Callable[[Image], Image]]] = {
    'uint16': ('.tif', lambda array: array),
    'int32': ('.tif', lambda array: array.astype('int32')),
    'float32': ('.tif', as_float),
    'float64': ('.tiff', lambda array: array / 10000),
    'array': ('.npy', as_float),
    'whole numbers': ('.npy', lambda array: array),
    'columns first': ('.npy', lambda array: np.asfortranarray(as_float(array))),
    'double': ('.npy', lambda array: array / 10000),
    'capitals': ('.TIF', lambda array: array),
}


class TestPredictions:
    @pytest.mark.parametrize('kind', FORMATS)
    def test_formats(
        self,
        windows: EvaluationPatches,
        patches: EvaluationPatches,
        images: Image,
        tmp_path: Path,
        kind: str,
    ) -> None:
        """Whole patches and windows, in whatever folder."""
        suffix, convert = FORMATS[kind]
        paths = []
        for number, name in enumerate(patches.names):
            array = convert(images[number])
            path = tmp_path / 'out' / ('deep/er', '', 'x')[number] / f'{name}{suffix}'
            path.parent.mkdir(parents=True, exist_ok=True)
            paths.append(path)
            if suffix == '.npy':
                np.save(path, array)
            else:
                write_tif(path, array, patches, number)
        (tmp_path / 'out' / 'notes.txt').write_text('of no patch')

        whole = load_methods([tmp_path / 'out'], patches)
        assert list(whole) == ['out']
        for number, image in enumerate(images):
            found = Predictions(tmp_path / 'out', patches).read(number)
            assert found.dtype == np.float32
            np.testing.assert_allclose(found, image / 10000, rtol=1e-6)
            part = Predictions(tmp_path / 'out', windows).read(number)
            np.testing.assert_array_equal(part, found[:, 130:170, 130:170])

        method = Predictions(tmp_path / 'out', windows)
        image = torch.full((2, 4, 40, 40), 0.3)
        sample = {'image': image, 'image_clear': image}
        sample['patch'] = torch.tensor([2, 0])
        restored = method(sample)
        expected = images[[2, 0], :, 130:170, 130:170] / 10000
        np.testing.assert_allclose(restored, expected, rtol=1e-6)
        folder = tmp_path / 'out'
        digest = fingerprint({str(path.relative_to(folder)): path for path in paths})
        description = MethodDescription('predictions', str(folder), digest)
        assert method.describe() == description

    @pytest.mark.parametrize('prefix', ['planet_cloudy', 'planet_cloudfree'])
    def test_names_of_the_archive(
        self, windows: EvaluationPatches, images: Image, tmp_path: Path, prefix: str
    ) -> None:
        """As `planetcr remove-clouds` keeps them, with what others leave beside them."""
        folder = tmp_path / 'out'
        for number, name in enumerate(windows.names):
            path = folder / f'{prefix}_{name}.tif'
            write_tif(path, images[number], windows, number)
            path.with_suffix('.png').write_bytes(b'quicklook')
            path.with_name(f'._{path.name}').write_bytes(b'of another system')
        found = Predictions(folder, windows)
        for number, image in enumerate(images):
            expected = image[:, 130:170, 130:170] / 10000
            np.testing.assert_allclose(found.read(number), expected, rtol=1e-6)
        other = folder / f'{windows.names[1]}.npy'
        np.save(other, images[1])
        with pytest.raises(ValueError, match='are of the same patch') as error:
            Predictions(folder, windows)
        assert str(other) in str(error.value)
        assert f'{prefix}_{windows.names[1]}.tif' in str(error.value)

    @pytest.mark.parametrize(
        'order',
        [
            ('red', 'green', 'blue', 'nir'),
            ('N', 'B', 'G', 'R'),
            ('SR_blue', 'SR_nir', 'SR_green', 'SR_red'),
            # https://docs.planet.com/data/imagery/planetscope/psscene
            (
                'coastal_blue',
                'blue',
                'green_i',
                'green',
                'yellow',
                'red',
                'rededge',
                'nir',
            ),
        ],
    )
    @pytest.mark.parametrize('compress', [None, 'deflate'])
    def test_names_of_bands(
        self,
        windows: EvaluationPatches,
        images: Image,
        tmp_path: Path,
        order: tuple[str, ...],
        compress: str | None,
    ) -> None:
        bands = [name.lower().removeprefix('sr_') for name in order]
        bands = [
            {'b': 'blue', 'g': 'green', 'r': 'red', 'n': 'nir'}.get(b, b) for b in bands
        ]
        for number, name in enumerate(windows.names):
            of_band = dict(zip(('blue', 'green', 'red', 'nir'), images[number]))
            array = np.stack([of_band.get(band, images[0, 0] // 2) for band in bands])
            path = write_tif(
                tmp_path / f'{name}.tif', array, windows, number, compress=compress
            )
            with rasterio.open(path, 'r+') as dst:
                dst.descriptions = order
        method = Predictions(tmp_path, windows)
        for number, image in enumerate(images):
            expected = image[:, 130:170, 130:170] / 10000
            np.testing.assert_allclose(method.read(number), expected, rtol=1e-6)

    def test_declared_scale(
        self, windows: EvaluationPatches, images: Image, tmp_path: Path
    ) -> None:
        """What a file says of its values decides, as in Landsat's products.

        https://www.usgs.gov/faqs/how-do-i-use-a-scale-factor-landsat-level-2-science-products
        says that 18639 is 0.313.
        """
        array = np.full((4, 300, 300), 18639, dtype=np.uint16)
        array[3] = 7273
        for number, name in enumerate(windows.names):
            path = write_tif(tmp_path / f'{name}.tif', array, windows, number, nodata=0)
            with rasterio.open(path, 'r+') as dst:
                dst.scales, dst.offsets = 4 * [0.0000275], 4 * [-0.2]
        found = Predictions(tmp_path, windows).read(1)
        expected = [0.3125725, 0.3125725, 0.3125725, 0.0000075]
        np.testing.assert_allclose(found[:, 0, 0], expected, atol=1e-7)
        assert found.shape == (4, 40, 40)
        with rasterio.open(path, 'r+') as dst:
            dst.scales, dst.offsets = 4 * [0.0001], 4 * [0]
        found = Predictions(tmp_path, windows).read(2)
        np.testing.assert_allclose(found[:, 0, 0], [1.8639, 1.8639, 1.8639, 0.7273])

    @pytest.mark.parametrize('nodata', [0, -9999, np.nan])
    def test_no_data_in_the_cloudy_image_either(
        self,
        windows: EvaluationPatches,
        images: Image,
        batch: Sample,
        tmp_path: Path,
        nodata: float,
    ) -> None:
        """It counts as 0, as it does there; elsewhere it is refused."""
        for number, name in enumerate(windows.names):
            array = as_float(1 + images[number])
            array[:, 150, 150:155] = nodata
            path = tmp_path / f'{name}.tif'
            write_tif(path, array, windows, number, nodata=nodata)
        method = Predictions(tmp_path, windows)
        image = batch['image'].clone()
        image[:, :, 20, 20:25] = 0
        restored = method({**batch, 'image': image, 'patch': torch.tensor([2, 0])})
        expected = as_float(1 + images[[2, 0], :, 130:170, 130:170])
        expected[:, :, 20, 20:25] = 0
        np.testing.assert_array_equal(restored, expected)
        image[1, :, 20, 24] = 0.1
        with pytest.raises(ValueError, match='1 pixels without data') as error:
            method({**batch, 'image': image, 'patch': torch.tensor([2, 0])})
        assert windows.names[0] in str(error.value)

    def test_windows(
        self, windows: EvaluationPatches, images: Image, tmp_path: Path
    ) -> None:
        """Files that hold no more than the window that is evaluated."""
        for number, name in enumerate(windows.names):
            array = images[number, :, 130:170, 130:170]
            if number == 1:
                np.save(tmp_path / f'{name}.npy', array)
            else:
                place = {'transform': windows.window_grid(number).transform}
                write_tif(tmp_path / f'{name}.tif', array, windows, number, **place)
        method = Predictions(tmp_path, windows)
        for number, image in enumerate(images):
            expected = image[:, 130:170, 130:170] / 10000
            np.testing.assert_allclose(method.read(number), expected, rtol=1e-6)

    def test_part_of_the_patch(
        self, windows: EvaluationPatches, images: Image, tmp_path: Path
    ) -> None:
        """A GeoTIFF may be of any size around the window."""
        for number, name in enumerate(windows.names):
            grid = windows.patch_grid(number).window(100, 120, 80, 70)
            array = images[number, :, 100:180, 120:190]
            place = {'transform': grid.transform}
            write_tif(tmp_path / f'{name}.tif', array, windows, number, **place)
        found = Predictions(tmp_path, windows).read(1)
        expected = images[1, :, 130:170, 130:170] / 10000
        np.testing.assert_allclose(found, expected, rtol=1e-6)

    def test_missing(
        self, patches: EvaluationPatches, images: Image, tmp_path: Path
    ) -> None:
        first, *missing = patches.names
        write_tif(tmp_path / f'{first}.tif', images[0], patches, 0)
        match = (
            f'no image of 2 of the 3 patches, {", ".join(missing)}.*{missing[0]}.tif'
        )
        with pytest.raises(ValueError, match=match) as error:
            Predictions(tmp_path, patches)
        assert str(tmp_path) in str(error.value)

    def test_many_missing(self, root: Path, tmp_path: Path) -> None:
        patches = EvaluationPatches(PlanetCR(root, 'train'), None)
        with pytest.raises(ValueError, match='12 of the 12 patches.* and 7 more'):
            Predictions(tmp_path, patches)

    def test_surplus(
        self, patches: EvaluationPatches, images: Image, tmp_path: Path
    ) -> None:
        for name in (*patches.names, 'fall_9_p_9'):
            np.save(tmp_path / f'{name}.npy', images[0])
        match = r'1 image\(s\) of no patch of the split, fall_9_p_9: take them out'
        with pytest.raises(ValueError, match=match) as error:
            Predictions(tmp_path, patches)
        assert str(tmp_path) in str(error.value)

    def test_duplicate(
        self, patches: EvaluationPatches, images: Image, tmp_path: Path
    ) -> None:
        (tmp_path / 'sub').mkdir()
        for name in patches.names:
            np.save(tmp_path / f'{name}.npy', images[0])
        write_tif(tmp_path / 'sub' / f'{name}.tif', images[0], patches, 2)
        with pytest.raises(ValueError, match='are of the same patch: remove') as error:
            Predictions(tmp_path, patches)
        assert str(tmp_path / f'{name}.npy') in str(error.value)
        assert str(tmp_path / 'sub' / f'{name}.tif') in str(error.value)


@pytest.fixture
def folder(patches: EvaluationPatches, images: Image, tmp_path: Path) -> Path:
    """Predictions without the last."""
    for name, image in zip(patches.names[:2], images):
        np.save(tmp_path / f'{name}.npy', image)
    return tmp_path


def check(folder: Path, suffix: str, patches: EvaluationPatches, match: str) -> None:
    """Reading the last patch fails, with its path and what to do."""
    path = folder / f'{patches.names[2]}{suffix}'
    method = Predictions(folder, patches)
    with pytest.raises((ValueError, OSError), match=match) as error:
        method.read(2)
    assert str(path) in str(error.value)


def check_header(
    folder: Path, suffix: str, patches: EvaluationPatches, match: str
) -> None:
    """Before anything runs, the last patch is refused."""
    path = folder / f'{patches.names[2]}{suffix}'
    with pytest.raises((ValueError, OSError), match=match) as error:
        load_methods(['copy', folder], patches)
    assert str(path) in str(error.value)


def with_value(value: float) -> Callable[[Image], Image]:
    def change(array: Image) -> Image:
        array = as_float(array)
        # Inside of the window
        array[2, 150, 151] = value
        return array

    return change


#: What is wrong, and what is said of it. Of all formats.
BAD_VALUES: Mapping[str, tuple[Callable[[Image], Image], str]] = {
    'uint8': (
        lambda array: (array // 256).astype('uint8'),
        'is uint8: save reflectance as float32, or reflectance x 10000 as uint16',
    ),
    'complex': (lambda array: array.astype('complex64'), 'is complex64: save'),
    'scaled': (
        lambda array: array.astype('float32'),
        r'\(float32\) has a mean of \d+\.\d+: save reflectance as float32',
    ),
    'scaled twice': (lambda array: array * np.uint16(5), 'has a mean of .*: save'),
    'NaN': (with_value(np.nan), '1 values that are NaN or infinite: predict all'),
    'infinite': (with_value(-np.inf), '1 values that are NaN or infinite'),
    'bands': (lambda array: array[:3], '3 bands|3, 300, 300'),
}

#: What of this headers say already.
HEADERS = {'.tif': ('uint8', 'complex', 'bands'), '.npy': ('uint8', 'complex', 'bands')}

#: Reflectance in other units that are not obvious.
UNITS: Mapping[str, Callable[[Image], Image]] = {
    '8 bits': lambda image: (255 * image).astype('uint16'),
    'between -1 and 1': lambda image: 2 * image - 1,
    'rounded': lambda image: image.round().astype('uint16'),
    'nothing': np.zeros_like,
}


class TestBadPredictions:
    @pytest.mark.parametrize('suffix', ['.tif', '.npy'])
    @pytest.mark.parametrize('kind', BAD_VALUES)
    def test_values(
        self,
        windows: EvaluationPatches,
        images: Image,
        folder: Path,
        kind: str,
        suffix: str,
    ) -> None:
        convert, match = BAD_VALUES[kind]
        path = folder / f'{windows.names[2]}{suffix}'
        array = convert(images[2] % 13000)
        if suffix == '.npy':
            np.save(path, array)
        else:
            write_tif(path, array, windows, 2)
        is_of_header = kind in HEADERS[suffix]
        (check_header if is_of_header else check)(folder, suffix, windows, match)

    @pytest.mark.parametrize('kind', UNITS)
    def test_another_unit(
        self, windows: EvaluationPatches, batch: Sample, tmp_path: Path, kind: str
    ) -> None:
        """Which only the target reveals."""
        for number, name in enumerate(windows.names):
            clear = windows[number]['image_clear'].numpy() / 10000
            # The first patch is right, and dark
            array = UNITS[kind](clear) if number == 2 else 0.11 * clear
            np.save(tmp_path / f'{name}.npy', array)
        method = Predictions(tmp_path, windows)
        number = torch.tensor([0])
        first = {key: value[1:] for key, value in batch.items()}
        restored = method(first | {'patch': number})
        torch.testing.assert_close(restored, 0.11 * first['image_clear'])
        target = batch['image_clear'][0].mean().item()
        mean = method.read(2).mean()
        match = (
            f'{windows.names[2]}.npy has a mean reflectance of {mean:.3g} where the '
            f'clear image has {target:.3g}, so its values are in another unit'
        )
        with pytest.raises(ValueError, match=re.escape(match)):
            method(batch)

    @pytest.mark.filterwarnings('ignore:Dataset has no geotransform')
    @pytest.mark.parametrize(
        ('kind', 'match'),
        [
            ('crs', r'is in EPSG:32633, but .* in EPSG:32646: write'),
            ('shift', 'which do not hold 40 x 40 pixels'),
            ('half', 'which do not hold 40 x 40 pixels'),
            ('resolution', 'which do not hold 40 x 40 pixels'),
            ('size', 'which do not hold 40 x 40 pixels'),
            ('no CRS', 'has no georeference'),
            ('no transform', 'has no georeference'),
            ('south-up', 'not north-up'),
            ('nodata', r'1 pixels without data \(65535.* in all bands\): predict'),
            ('nodata of zero', r'1 pixels without data \(0.* in all bands\): predict'),
        ],
    )
    def test_rasters(
        self,
        windows: EvaluationPatches,
        images: Image,
        folder: Path,
        kind: str,
        match: str,
    ) -> None:
        grid = windows.patch_grid(2)
        x, y = grid.xmin, grid.ymax
        changes: dict[str, dict[str, Any]] = {
            'crs': {'crs': 'EPSG:32633'},
            'shift': {'transform': from_origin(x + 600, y, 3, 3)},
            'half': {'transform': from_origin(x + 1.5, y, 3, 3)},
            'resolution': {'transform': from_origin(x, y, 3.1, 3.1)},
            'size': {},
            'no CRS': {'crs': None},
            'no transform': {'transform': None},
            'south-up': {'transform': from_origin(x, y - 900, 3, -3)},
            'nodata': {'nodata': 65535},
            'nodata of zero': {'nodata': 0},
        }
        options = changes[kind]
        array = images[2].copy()
        if kind == 'size':
            array = array[:, :160, :160]
        if 'nodata' in options:
            array[:, 150, 150] = options['nodata']
        write_tif(folder / f'{windows.names[2]}.tif', array, windows, 2, **options)
        is_of_header = not kind.startswith('nodata')
        (check_header if is_of_header else check)(folder, '.tif', windows, match)

    @pytest.mark.parametrize(
        'names',
        [
            ('B1', 'B2', 'B3', 'B4'),
            ('red', 'green', 'blue', 'sigma'),
            ('blue', 'green', 'red', None),
        ],
    )
    def test_unclear_names_of_bands(
        self,
        windows: EvaluationPatches,
        images: Image,
        folder: Path,
        names: tuple[str, ...],
    ) -> None:
        path = folder / f'{windows.names[2]}.tif'
        write_tif(path, images[2], windows, 2)
        with rasterio.open(path, 'r+') as dst:
            dst.descriptions = names
        check_header(folder, '.tif', windows, 'call the bands blue, green, red, nir')

    def test_colors_instead_of_names(
        self, windows: EvaluationPatches, images: Image, folder: Path
    ) -> None:
        """Red, green and blue first is what B, G, R and NIR cannot be."""
        path = folder / f'{windows.names[2]}.tif'
        write_tif(path, images[2], windows, 2, photometric='RGB')
        check_header(folder, '.tif', windows, 'red, green, blue.*call the bands')

    @pytest.mark.parametrize(('count', 'name'), [(5, None), (8, None), (8, 'Band {}')])
    def test_more_bands_without_names(
        self,
        windows: EvaluationPatches,
        images: Image,
        folder: Path,
        count: int,
        name: str | None,
    ) -> None:
        """Eight could be SuperDove's, or four and their uncertainty."""
        path = folder / f'{windows.names[2]}.tif'
        write_tif(path, np.tile(images[2], (2, 1, 1))[:count], windows, 2)
        if name is not None:
            with rasterio.open(path, 'r+') as dst:
                dst.descriptions = [name.format(n) for n in range(1, count + 1)]
        match = f'{count} bands without names .*: call the bands'
        check_header(folder, '.tif', windows, match)

    @pytest.mark.parametrize('nodata', [0, 11000])
    def test_nodata_of_some_bands(
        self, windows: EvaluationPatches, images: Image, folder: Path, nodata: int
    ) -> None:
        """And everywhere outside of the window."""
        array = np.full_like(images[2], nodata)
        array[:, 130:170, 130:170] = 1000
        array[1:, 150, 150] = nodata
        write_tif(folder / f'{windows.names[2]}.tif', array, windows, 2, nodata=nodata)
        found = Predictions(folder, windows).read(2)
        assert found[:, 20, 20].tolist() == pytest.approx([0.1] + 3 * [nodata / 10000])
        assert (found == np.float32(0.1)).sum() == found.size - 3

    @pytest.mark.parametrize(
        'shape', [(300, 300, 4), (4, 300), (1, 4, 300, 300), (4, 160, 160), ()]
    )
    def test_shape_of_an_array(
        self, windows: EvaluationPatches, folder: Path, shape: tuple[int, ...]
    ) -> None:
        np.save(folder / f'{windows.names[2]}.npy', np.full(shape, 0.1))
        match = rf'has shape {re.escape(str(shape))}, expected \(4, 40, 40\) or, for'
        check_header(folder, '.npy', windows, match)

    def test_bool(self, windows: EvaluationPatches, folder: Path) -> None:
        np.save(folder / f'{windows.names[2]}.npy', np.ones((4, 40, 40), dtype=bool))
        check_header(folder, '.npy', windows, 'is bool: save reflectance')

    def test_pickled_array(
        self, windows: EvaluationPatches, folder: Path, tmp_path: Path
    ) -> None:
        made = tmp_path / 'executed'

        class Evil:
            def __reduce__(self) -> tuple[Any, ...]:
                return open, (str(made), 'w')

        path = folder / f'{windows.names[2]}.npy'
        np.save(path, np.full((4, 40, 40), Evil(), dtype=object), allow_pickle=True)
        check_header(folder, '.npy', windows, 'cut short')
        objects = np.arange(6400.0).astype(object).reshape(4, 40, 40)
        np.save(path, objects, allow_pickle=True)
        check_header(folder, '.npy', windows, 'is object: save reflectance')
        assert not made.exists()

    @pytest.mark.parametrize('content', [b'', b'\x93NUMPY', b'PK\x03\x04 an archive'])
    def test_no_array(
        self, windows: EvaluationPatches, folder: Path, content: bytes
    ) -> None:
        (folder / f'{windows.names[2]}.npy').write_bytes(content)
        check_header(folder, '.npy', windows, 'is not a readable NumPy array')

    @pytest.mark.parametrize('options', [{}, {'compress': 'deflate'}])
    def test_truncated(
        self,
        windows: EvaluationPatches,
        images: Image,
        folder: Path,
        options: dict[str, Any],
    ) -> None:
        path = folder / f'{windows.names[2]}.tif'
        write_tif(path, images[2], windows, 2, **options)
        content = path.read_bytes()
        path.write_bytes(content[: len(content) * 2 // 3])
        check_header(folder, '.tif', windows, 'cut short|not a readable')
        path.with_suffix('.tif').unlink()
        path = path.with_suffix('.npy')
        np.save(path, images[2])
        path.write_bytes(path.read_bytes()[:-1000])
        check_header(folder, '.npy', windows, 'cut short')

    def test_damaged_block(
        self, windows: EvaluationPatches, images: Image, folder: Path
    ) -> None:
        path = folder / f'{windows.names[2]}.tif'
        write_tif(path, images[2], windows, 2, compress='deflate')
        content = bytearray(path.read_bytes())
        middle = len(content) // 2
        content[middle - 50000 : middle + 50000] = bytes(100000)
        path.write_bytes(content)
        check(folder, '.tif', windows, 'cannot be read, write it again')
