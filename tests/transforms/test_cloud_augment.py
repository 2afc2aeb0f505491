# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

from collections.abc import Callable

import pytest
import torch
from torchgeo.datasets.utils import Sample

from torchgeo_planetcr.transforms import RandomCloudPaste, RandomClouds
from torchgeo_planetcr.transforms.clouds import (
    coarse_cloud_mask,
    draw_clouds,
    find_white,
    lay_clouds,
    lay_white,
)

type MakeBatch = Callable[..., Sample]


class TestRandomClouds:
    def test_image_and_mask_are_of_the_same_clouds(self, make_batch: MakeBatch) -> None:
        torch.manual_seed(0)
        batch, transform = make_batch(), RandomClouds(p=1)
        output = transform(batch)
        cover, angle = transform._params['cover'], transform._params['angle']
        generator = torch.Generator().manual_seed(int(transform._params['seed']))
        layers = draw_clouds(cover, 60, 48, generator=generator)
        clear = batch['image_clear']
        assert torch.equal(output['image'], lay_clouds(clear, layers))
        mask = coarse_cloud_mask(layers, angle)
        assert torch.equal(output['mask_cloud'], mask.long())
        assert 0 < mask.float().mean() < 1
        white = find_white(output['image'], clear)[:, 0]
        assert white[mask].mean() > white[~mask].mean() + 0.1

    def test_without_mask(self, make_batch: MakeBatch) -> None:
        batch = make_batch()
        del batch['mask_cloud']
        output = RandomClouds(p=1)(batch)
        assert output.keys() == batch.keys()
        assert not torch.equal(output['image'], batch['image'])

    def test_cover(self, make_batch: MakeBatch) -> None:
        torch.manual_seed(0)
        batch = make_batch(30)
        few, many = (
            RandomClouds((cover, cover), p=1)(batch)['mask_cloud'].float().mean()
            for cover in (0.1, 0.9)
        )
        assert few < 0.1
        assert many > 0.3

    def test_no_data(self, make_batch: MakeBatch) -> None:
        torch.manual_seed(0)
        batch = make_batch()
        batch['image_clear'][:, :, :20] = 0
        batch['image'][:, :, 40:] = 0
        output = RandomClouds((0.95, 0.95), p=1)(batch)
        assert not output['image'][:, :, :20].any()
        assert not output['mask_cloud'][:, :20].any()
        # The new cloudy image has data where the clear image has data
        assert output['image'][:, :, 20:].amin() > 0
        assert output['mask_cloud'][:, 20:].any()
        image = RandomClouds(p=1)(batch['image_clear'])
        assert not image[:, :, :20].any()
        assert image[:, :, 20:].amin() > 0

    def test_gradient(self, make_batch: MakeBatch) -> None:
        """The ground shows through cloud and haze."""
        torch.manual_seed(0)
        clear = make_batch()['image_clear'].requires_grad_()
        RandomClouds(p=1)(clear).sum().backward()
        assert clear.grad is not None
        assert clear.grad.isfinite().all()
        assert clear.grad.min() >= 0
        assert (clear.grad > 0.01).float().mean() > 0.5

    @pytest.mark.parametrize('cover', [(-0.1, 0.5), (0.5, 1.1), (0.8, 0.2)])
    def test_error(self, cover: tuple[float, float]) -> None:
        with pytest.raises(ValueError, match=r'cover=\(.*must be two numbers in'):
            RandomClouds(cover)


def paste(batch: Sample) -> Sample:
    """Give each of two samples the cloud of the other."""
    return RandomCloudPaste(p=1)(batch)


@pytest.fixture
def pair() -> Sample:
    """A sample with a square cloud of varying thickness, and a clear one."""
    generator = torch.Generator().manual_seed(0)
    clear = 0.02 + 0.4 * torch.rand(2, 4, 100, 120, generator=generator)
    mask = torch.zeros(2, 100, 120, dtype=torch.int64)
    mask[0, 40:60, 50:70] = 1
    white = 0.9 * torch.rand(2, 1, 100, 120, generator=generator)
    image = lay_white(clear, white * mask[:, None])
    return {
        'image': image,
        'image_clear': clear,
        'mask_cloud': mask,
        'white': white * mask[:, None],
    }


class TestRandomCloudPaste:
    def test_cloud(self, pair: Sample) -> None:
        """The cloud of the first sample is the same over the second."""
        output = paste(pair)
        expected = lay_white(pair['image'][1], pair['white'][0])
        torch.testing.assert_close(output['image'][1], expected, rtol=0, atol=1e-5)
        assert torch.equal(output['mask_cloud'][1], pair['mask_cloud'][0])
        # The second sample has no cloud to paste
        assert torch.equal(output['image'][0], pair['image'][0])
        assert torch.equal(output['mask_cloud'][0], pair['mask_cloud'][0])

    def test_edges(self, pair: Sample) -> None:
        """Cloud fades out around the mask, and none is pasted from farther away."""
        pair['image'][0] = lay_white(pair['image_clear'][0], torch.tensor(0.5))
        pair['image'][1] = pair['image_clear'][1]
        white = find_white(paste(pair)['image'], pair['image_clear'])[1, 0]
        torch.testing.assert_close(
            white[40:60, 50:70], torch.full((20, 20), 0.5), rtol=0, atol=1e-5
        )
        fading = white[50, 69:95]
        assert (fading.diff() < 0).all()
        torch.testing.assert_close(fading[12], torch.tensor(0.25), rtol=0, atol=0.02)
        rest = white.clone()
        rest[15:85, 25:95] = 0
        assert rest.abs().max() < 1e-5

    def test_no_shadow(self, pair: Sample) -> None:
        pair['image'][0] = 0.5 * pair['image_clear'][0]
        output = paste(pair)
        torch.testing.assert_close(output['image'], pair['image'])

    def test_union(self, make_batch: MakeBatch) -> None:
        torch.manual_seed(0)
        batch, transform = make_batch(), RandomCloudPaste(p=1)
        output = transform(batch)
        donor = transform._params['donor']
        union = batch['mask_cloud'] | batch['mask_cloud'][donor]
        assert torch.equal(output['mask_cloud'], union)
        # More cloud does not make an image darker
        assert (output['image'] - batch['image']).min() > -1e-6

    def test_no_data(self, pair: Sample) -> None:
        before = {key: value.clone() for key, value in pair.items()}
        pair['image'][0, :, :, :55] = 0
        pair['image_clear'][0, :, :, 65:] = 0
        pair['image'][1, :, 50:] = 0
        output = paste(pair)
        assert not output['image'][1, :, 50:].any()
        mask = output['mask_cloud'][1]
        assert mask[40:50, 55:65].all()
        assert mask.sum() == 100
        # Nothing is pasted from pixels where one of the images has no data
        for columns in (slice(0, 55), slice(65, None)):
            after = output['image'][1, :, :50, columns]
            torch.testing.assert_close(after, before['image'][1, :, :50, columns])

    def test_no_clouds(self, pair: Sample) -> None:
        pair['mask_cloud'][:] = 0
        output = paste(pair)
        for key, value in pair.items():
            assert torch.equal(output[key], value)

    def test_one_sample(self, make_batch: MakeBatch) -> None:
        batch = make_batch(1)
        output = paste(batch)
        for key, value in batch.items():
            assert torch.equal(output[key], value)

    def test_donors(self) -> None:
        """Clouds come from all other samples, never from the sample itself."""
        torch.manual_seed(0)
        transform = RandomCloudPaste()
        drawn = torch.stack(
            [transform.forward_parameters((4, 4, 9, 9))['donor'] for _ in range(100)]
        )
        for position, donors in enumerate(drawn.T.tolist()):
            assert set(donors) == {0, 1, 2, 3} - {position}
        same = RandomCloudPaste(same_on_batch=True)
        donor = same.forward_parameters((4, 4, 9, 9))['donor']
        assert len(((donor - torch.arange(4)) % 4).unique()) == 1

    def test_gradient(self, pair: Sample) -> None:
        image = pair['image'].clone().requires_grad_()
        paste({**pair, 'image': image})['image'].sum().backward()
        assert image.grad is not None
        assert image.grad.isfinite().all()

    def test_tensor(self) -> None:
        with pytest.raises(TypeError, match='takes a batch, a dictionary with image'):
            RandomCloudPaste(p=1)(torch.rand(2, 4, 9, 9))
