# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgba
from matplotlib.figure import Figure
from torchgeo.datasets.utils import Sample

from torchgeo_planetcr.datasets import PlanetCR, PlanetCRWorldCover
from torchgeo_planetcr.samplers import CenterNativePatchSampler

PANELS = {
    'image': 'Cloudy',
    'prediction': 'Restored',
    'image_clear': 'Clear',
    'image_s1': 'Sentinel-1 (VV, VH)',
    'mask': 'Land cover',
    'mask_cloud': 'Cloud mask',
}


@pytest.fixture(scope='module')
def dataset(root: Path) -> PlanetCR:
    return PlanetCR(root, 'test')


@pytest.fixture
def sample(dataset: PlanetCR) -> Sample:
    sample = dataset[next(iter(CenterNativePatchSampler(dataset, size=60)))]
    return {**sample, 'prediction': sample['image_clear'] * 0.9}


def panels(figure: Figure) -> dict[str, Axes]:
    return {axes.get_title(): axes for axes in figure.axes}


def pixels(axes: Axes) -> Any:
    (image,) = axes.get_images()
    return np.asarray(image.get_array())


@pytest.mark.parametrize(
    'keys',
    [
        [key for key in PANELS if key != 'prediction'],
        list(PANELS),
        *([key] for key in PANELS),
        ['image', 'prediction'],
        ['mask', 'mask_cloud'],
    ],
)
def test_panels(dataset: PlanetCR, sample: Sample, keys: list[str]) -> None:
    figure = dataset.plot({key: sample[key] for key in [*keys, 'crs', 'bounds']})
    assert isinstance(figure, Figure)
    assert list(panels(figure)) == [PANELS[key] for key in keys]
    for axes in figure.axes:
        assert pixels(axes).shape[:2] == (60, 60)
    figure.canvas.draw()


def test_titles(dataset: PlanetCR, sample: Sample) -> None:
    figure = dataset.plot(sample, show_titles=False, suptitle='fall_1_p_457')
    assert set(panels(figure)) == {''}
    assert len(figure.axes) == 6
    assert figure.get_suptitle() == 'fall_1_p_457'
    assert dataset.plot(sample).get_suptitle() == ''


@pytest.mark.parametrize('level', [1, 2])
@pytest.mark.parametrize('present', [[0], [3, 1], [255], [6, 0, 255], list(range(7))])
def test_legend(root: Path, level: Any, present: list[int]) -> None:
    """Exactly the classes that are there, in the colors of the map."""
    dataset = PlanetCR(root, 'test', landcover_level=level)
    mask = torch.tensor(present).repeat_interleave(10).repeat(8, 1)
    figure = dataset.plot({'mask': mask})
    (axes,) = figure.axes
    legend = axes.get_legend()
    assert legend is not None
    labels = [text.get_text() for text in legend.get_texts()]
    names = PlanetCRWorldCover.classes[level]
    colors = PlanetCRWorldCover.colors[level]
    expected = [
        names[index] if index != 255 else 'No land cover' for index in sorted(present)
    ]
    assert labels == expected
    (image,) = axes.get_images()
    drawn = image.to_rgba(np.asarray(image.get_array()))[0, ::10]
    handles = dict(zip(labels, legend.get_patches()))
    for index, color in zip(present, drawn):
        label = names[index] if index != 255 else 'No land cover'
        wanted = colors[index] if index != 255 else 'white'
        assert to_hex(tuple(color)) == to_hex(wanted)
        assert handles[label].get_facecolor() == to_rgba(wanted)


def test_cloud_mask(dataset: PlanetCR) -> None:
    """White is cloud, also where nothing else is there."""
    for value in (0, 1):
        figure = dataset.plot({'mask_cloud': torch.full((9, 9), value)})
        (image,) = figure.axes[0].get_images()
        color = image.to_rgba(np.asarray(image.get_array()))[0, 0, :3]
        assert (color == value).all()


def test_bands(dataset: PlanetCR) -> None:
    """Red is the third band and blue the first."""
    image = torch.full((4, 8, 9), 500.0)
    image[2, :, :3] = 3000
    image[1, :, 3:6] = 3000
    image[0, :, 6:] = 3000
    figure = dataset.plot({'image': image})
    drawn = pixels(figure.axes[0])
    for index in range(3):
        color = drawn[0, 3 * index]
        assert color.argmax() == index
        assert color.max() - np.median(color) > 0.3


def test_prediction_shares_the_stretch(dataset: PlanetCR, sample: Sample) -> None:
    """Equal images look equal, and a brighter one looks brighter."""
    clear = sample['image_clear']
    figure = dataset.plot({**sample, 'prediction': clear.clone()})
    drawn = panels(figure)
    same = pixels(drawn['Clear'])
    assert (pixels(drawn['Restored']) == same).all()
    figure = dataset.plot({**sample, 'prediction': clear * 1.5})
    drawn = panels(figure)
    brighter, same = pixels(drawn['Restored']), pixels(drawn['Clear'])
    assert brighter.mean() > same.mean()
    assert same.min() >= 0
    assert same.max() <= 1
    assert brighter.max() <= 1


@pytest.mark.parametrize('scale', [0.02, 0.1, 1, 3])
def test_dark_and_bright_scenes(
    dataset: PlanetCR, sample: Sample, scale: float
) -> None:
    """Neither black nor white."""
    clear = sample['image_clear'] * scale
    figure = dataset.plot({'image': clear, 'image_clear': clear})
    drawn = pixels(panels(figure)['Clear'])
    assert 0.05 < drawn.mean() < 0.95
    assert drawn.std() > 0.01


@pytest.mark.parametrize('value', [0.0, 1.0, 250.0, 10000.0, 65535.0, -50.0])
def test_constant(dataset: PlanetCR, sample: Sample, value: float) -> None:
    """0 is nodata."""
    same = torch.full((4, 60, 60), value)
    figure = dataset.plot(
        {**sample, 'image': same, 'image_clear': same, 'prediction': same}
    )
    figure.canvas.draw()
    drawn = pixels(panels(figure)['Cloudy'])
    assert np.isfinite(drawn).all()
    assert drawn.min() >= 0
    assert drawn.max() <= 1


@pytest.mark.parametrize('value', [0.0, -50.0, 20.0])
def test_constant_backscatter(dataset: PlanetCR, value: float) -> None:
    figure = dataset.plot({'image_s1': torch.full((2, 30, 30), value)})
    figure.canvas.draw()
    drawn = pixels(figure.axes[0])
    assert drawn.shape == (30, 30, 3)
    assert drawn.min() >= 0
    assert drawn.max() <= 1


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
def test_prediction_of_a_network(
    dataset: PlanetCR, sample: Sample, dtype: torch.dtype
) -> None:
    """With its gradient, and in the precision of the training."""
    prediction = sample['prediction'].to(dtype).requires_grad_()
    figure = dataset.plot({**sample, 'prediction': prediction})
    figure.canvas.draw()
    assert pixels(panels(figure)['Restored']).max() > 0.5
    assert prediction.requires_grad


def test_prediction_with_nan(dataset: PlanetCR, sample: Sample) -> None:
    """A diverged network does not take the other panels with it."""
    expected = pixels(panels(dataset.plot(sample))['Clear'])
    prediction = torch.full_like(sample['prediction'], float('nan'))
    figure = dataset.plot({**sample, 'prediction': prediction})
    drawn = pixels(panels(figure)['Clear'])
    assert np.isfinite(drawn).all()
    assert drawn.std() > expected.std() / 2


def test_prediction_of_land_cover(dataset: PlanetCR, sample: Sample) -> None:
    """It is drawn like the label, and has no part in the tone curve."""
    title = 'Predicted land cover'
    sample.pop('prediction')
    expected = pixels(panels(dataset.plot(sample))['Clear'])
    prediction = sample['mask'].flip(0)
    assert not torch.equal(prediction, sample['mask'])
    drawn = panels(dataset.plot({**sample, 'prediction': prediction}))
    assert set(drawn) == set(PANELS.values()) - {'Restored'} | {title}
    assert (pixels(drawn[title]) == pixels(drawn['Land cover'])[::-1]).all()
    assert (pixels(drawn['Clear']) == expected).all()
    legends = [drawn[name].get_legend() for name in (title, 'Land cover')]
    labels = [[text.get_text() for text in le.get_texts()] for le in legends if le]
    assert labels[0] == labels[1] != []

    (axes,) = dataset.plot({'prediction': prediction}).axes
    assert axes.get_title() == title


def test_native_alignment(root: Path) -> None:
    dataset = PlanetCR(root, 'test', alignment='native')
    sample = dataset[next(iter(CenterNativePatchSampler(dataset, size=160)))]
    drawn = panels(dataset.plot(sample))
    assert pixels(drawn['Land cover']).shape == (48, 48)
    assert pixels(drawn['Cloudy']).shape == (160, 160, 3)


def test_leaves_sample_alone(dataset: PlanetCR, sample: Sample) -> None:
    before = {key: value.clone() for key, value in sample.items()}
    dataset.plot(sample)
    assert set(sample) == set(before)
    for key, value in sample.items():
        assert torch.equal(value, before[key])


def test_nothing_to_draw(dataset: PlanetCR) -> None:
    with pytest.raises(ValueError, match='image_clear'):
        dataset.plot({'crs': torch.tensor(32646)})
    assert not plt.get_fignums()


def test_public_sample(sample_root: Path, tmp_path: Path) -> None:
    dataset = PlanetCR(sample_root)
    sample = dataset[:]
    figure = dataset.plot(sample)
    figure.savefig(tmp_path / 'figure.png')
    drawn = panels(figure)
    clear, cloudy = pixels(drawn['Clear']), pixels(drawn['Cloudy'])
    assert 0.1 < clear.mean() < 0.7
    cloud = sample['mask_cloud'].bool().numpy()
    assert cloudy[cloud].mean() > clear[cloud].mean()
