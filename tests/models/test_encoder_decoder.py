# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torchgeo.tasks import Regression
from torchvision.models._api import Weights, WeightsEnum

from torchgeo_planetcr.models import ARCHITECTURES, EncoderDecoder


def _encoder(model: EncoderDecoder) -> nn.Module:
    return model.network.encoder


def _weights(path: Path, model: EncoderDecoder) -> WeightsEnum:
    torch.save(_encoder(model).state_dict(), path)

    class BackboneWeights(WeightsEnum):
        TINY = Weights(url=path.as_uri(), transforms=nn.Identity, meta={})

    return BackboneWeights.TINY


class TestEncoderDecoder:
    def test_architectures(self) -> None:
        expected = {'unet', 'unetplusplus', 'fpn', 'deeplabv3+', 'upernet', 'segformer'}
        assert expected <= set(ARCHITECTURES)

    @pytest.mark.parametrize(
        ('architecture', 'backbone'),
        [
            ('unet', 'resnet18'),
            ('unet', 'tu-resnet18'),
            ('fpn', 'mobilenet_v2'),
            ('deeplabv3+', 'resnet18'),
            ('segformer', 'mit_b0'),
        ],
    )
    def test_any_size(self, architecture: str, backbone: str) -> None:
        model = EncoderDecoder(architecture, backbone=backbone).eval()
        for size in ((32, 32), (47, 64), (100, 33)):
            image, image_s1 = torch.rand(2, 4, *size), torch.rand(2, 2, *size)
            with torch.inference_mode():
                assert model(image, image_s1).shape == image.shape

    def test_residual(self) -> None:
        model = EncoderDecoder(
            backbone='resnet18', in_channels=3, sar_channels=1
        ).eval()
        image, image_s1 = torch.rand(2, 3, 40, 56), torch.rand(2, 1, 40, 56)
        padding = (0, 8, 0, 24)
        padded = [
            nn.functional.pad(x, padding, mode='reflect') for x in (image, image_s1)
        ]
        with torch.inference_mode():
            residual = model.network(torch.cat(padded, dim=1))[..., :40, :56]
            assert torch.equal(model(image, image_s1), image + residual)
        assert residual.abs().max() > 0

    @pytest.mark.parametrize(
        ('image', 'image_s1', 'match'),
        [
            ((1, 3, 32, 32), (1, 2, 32, 32), r'^image must have shape \(B, 4, H, W\)'),
            ((1, 4, 32, 32), (1, 2, 32, 40), r'^image_s1 must have shape'),
            ((1, 4, 31, 32), (1, 2, 31, 32), '^image must have at least 32 x 32 pixel'),
        ],
    )
    def test_invalid_inputs(
        self, image: tuple[int, ...], image_s1: tuple[int, ...], match: str
    ) -> None:
        model = EncoderDecoder(backbone='resnet18')
        with pytest.raises(ValueError, match=match):
            model(torch.rand(image), torch.rand(image_s1))

    def test_unknown_backbone(self) -> None:
        with pytest.raises(ValueError, match="^backbone 'resnet19' is not known"):
            EncoderDecoder(backbone='resnet19')

    def test_unknown_architecture(self) -> None:
        with pytest.raises(ValueError, match="^architecture must be one of 'unet', "):
            EncoderDecoder('resnet')


class TestWeights:
    @pytest.fixture(autouse=True)
    def home(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'hub'))

    def test_enum(self, tmp_path: Path) -> None:
        published = EncoderDecoder(backbone='resnet18')
        weights = _weights(tmp_path / 'weights.pth', published)
        model = EncoderDecoder(backbone='resnet18', weights=weights)
        for key, value in _encoder(published).state_dict().items():
            assert torch.equal(_encoder(model).state_dict()[key], value)

    def test_other_channels(self, tmp_path: Path) -> None:
        published = EncoderDecoder(backbone='resnet18', in_channels=11)
        weights = _weights(tmp_path / 'weights.pth', published)
        with pytest.warns(UserWarning, match='are for 13 channels and not for 6'):
            model = EncoderDecoder(backbone='resnet18', weights=weights)
        for key, value in _encoder(published).state_dict().items():
            if key == 'conv1.weight':
                assert _encoder(model).state_dict()[key].shape[1] == 6
            else:
                assert torch.equal(_encoder(model).state_dict()[key], value)

    def test_checkpoint(self, tmp_path: Path) -> None:
        """A backbone that a task of TorchGeo has trained."""
        task: Any = Regression(model='resnet18', in_channels=6)
        path = tmp_path / 'task.ckpt'
        state_dict = task.state_dict()
        content = {'hyper_parameters': dict(task.hparams), 'state_dict': state_dict}
        torch.save(content, path)
        model = EncoderDecoder(backbone='resnet18', weights=str(path))
        for key, value in _encoder(model).state_dict().items():
            assert torch.equal(value, state_dict[f'model.{key}'])

        wrapped = EncoderDecoder(backbone='tu-resnet18', weights=str(path))
        for key, value in _encoder(wrapped).state_dict().items():
            assert torch.equal(value, state_dict[key])

        torch.save(state_dict, path)
        match = f"^'{re.escape(str(path))}' is not a checkpoint of a task of TorchGeo"
        with pytest.raises(ValueError, match=match):
            EncoderDecoder(backbone='resnet18', weights=str(path))
        path.write_bytes(path.read_bytes()[:1000])
        with pytest.raises(ValueError, match='cannot be read as a checkpoint'):
            EncoderDecoder(backbone='resnet18', weights=str(path))

    def test_other_backbone(self, tmp_path: Path) -> None:
        published = EncoderDecoder(backbone='resnet34')
        weights = _weights(tmp_path / 'weights.pth', published)
        with pytest.raises(ValueError, match='TINY do not fit the backbone resnet18: '):
            EncoderDecoder(backbone='resnet18', weights=weights)

    def test_unknown(self) -> None:
        match = "^'nowhere.ckpt' is neither an existing file nor the name of TorchGeo"
        with pytest.raises(ValueError, match=match):
            EncoderDecoder(backbone='resnet18', weights='nowhere.ckpt')
