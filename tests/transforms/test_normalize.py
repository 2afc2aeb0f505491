# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import numpy as np
import pytest
import torch
from torchgeo.datasets.utils import Sample

from torchgeo_planetcr.transforms import PlanetCRNormalize


@pytest.fixture
def sample() -> Sample:
    generator = torch.Generator().manual_seed(0)
    optical = torch.randint(-500, 20000, (3, 4, 6, 5), generator=generator).float()
    decibel = -40 + 50 * torch.rand(2, 3, 2, generator=generator)
    return {
        'image': optical[0],
        'image_clear': optical[1],
        'prediction': optical[2],
        'image_s1': decibel,
        'mask': torch.randint(11, (3, 2), generator=generator),
        'mask_cloud': torch.randint(2, (6, 5), generator=generator),
        'crs': torch.tensor(32646),
        'bounds': torch.rand(9, dtype=torch.float64, generator=generator) * 1e6,
    }


class TestPlanetCRNormalize:
    def test_values(self, sample: Sample) -> None:
        output = PlanetCRNormalize()(sample)
        for key in ('image', 'image_clear', 'prediction'):
            expected = np.clip(sample[key].numpy(), 0, 10000) / np.float32(10000)
            np.testing.assert_array_equal(output[key].numpy(), expected)
            assert output[key].min() == 0
            assert output[key].max() == 1
        for band, lower in enumerate((-25, -32.5)):
            decibel = np.clip(sample['image_s1'][band].numpy(), lower, 0)
            expected = (decibel - np.float32(lower)) / np.float32(-lower)
            np.testing.assert_array_equal(output['image_s1'][band].numpy(), expected)

    def test_other_keys(self, sample: Sample) -> None:
        output = PlanetCRNormalize()(sample)
        assert output.keys() == sample.keys()
        for key in ('mask', 'mask_cloud', 'crs', 'bounds'):
            assert output[key] is sample[key]

    def test_input_is_kept(self, sample: Sample) -> None:
        before = {key: value.clone() for key, value in sample.items()}
        normalize = PlanetCRNormalize()
        normalize.inverse(normalize(sample))
        for key, value in before.items():
            assert torch.equal(sample[key], value)

    def test_missing_keys(self, sample: Sample) -> None:
        output = PlanetCRNormalize()({'image': sample['image']})
        assert output.keys() == {'image'}

    def test_batch(self, sample: Sample) -> None:
        normalize = PlanetCRNormalize()
        batch = {key: torch.stack([value, value]) for key, value in sample.items()}
        output = normalize(batch)
        for key, value in normalize(sample).items():
            assert torch.equal(output[key], torch.stack([value, value]))

    def test_inverse(self, sample: Sample) -> None:
        normalize = PlanetCRNormalize()
        clipped = {
            'image': sample['image'].clamp(0, 10000),
            'image_clear': sample['image_clear'].clamp(0, 10000),
            'prediction': sample['prediction'].clamp(0, 10000),
            'image_s1': torch.stack(
                [
                    sample['image_s1'][0].clamp(-25, 0),
                    sample['image_s1'][1].clamp(-32.5, 0),
                ]
            ),
        }
        output = normalize.inverse(normalize(sample))
        for key, value in clipped.items():
            torch.testing.assert_close(output[key], value, rtol=1e-6, atol=1e-5)

    def test_inverse_does_not_clip(self) -> None:
        prediction = torch.tensor([-0.5, 0, 1, 1.5])[:, None, None].expand(4, 2, 2)
        output = PlanetCRNormalize().inverse({'prediction': prediction})
        assert output['prediction'][:, 0, 0].tolist() == [-5000, 0, 10000, 15000]

    def test_own_ranges(self) -> None:
        normalize = PlanetCRNormalize({'image': ([100], [300])})
        image = torch.tensor([0.0, 150, 400]).reshape(1, 1, 3)
        output = normalize({'image': image, 'image_clear': image})
        assert output['image'].flatten().tolist() == [0, 0.25, 1]
        assert output['image_clear'] is image

    def test_state(self) -> None:
        normalize = PlanetCRNormalize()
        assert not normalize.state_dict()
        assert {buffer.device for buffer in normalize.buffers()} == {
            torch.device('cpu')
        }
        assert {buffer.device.type for buffer in normalize.to('meta').buffers()} == {
            'meta'
        }


def test_other_device() -> None:
    """A batch is normalized on its own device."""
    batch = {'image': torch.empty(2, 4, 3, 3, device='meta')}
    normalize = PlanetCRNormalize()
    assert normalize(batch)['image'].device.type == 'meta'
    assert normalize.inverse(batch)['image'].device.type == 'meta'
