# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import itertools
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from torchgeo_planetcr.models import (
    GLFCR,
    AlignCR,
    Copy,
    DSen2CR,
    load_reference_checkpoint,
)
from torchgeo_planetcr.models.checkpoint import reference_names


class MakeDirectory:
    """Creates a directory when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.fixture
def model() -> DSen2CR:
    return DSen2CR(features=8, num_blocks=2)


@pytest.fixture
def network(
    model: DSen2CR, reference_weights: Callable[[nn.Module], dict[str, Tensor]]
) -> dict[str, Tensor]:
    return {f'module.{k}': v for k, v in reference_weights(model).items()}


def _assert_untouched(model: nn.Module, before: dict[str, Tensor]) -> None:
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])


def _clone(model: nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in model.state_dict().items()}


class TestLoadReferenceCheckpoint:
    def test_round_trip(
        self, model: DSen2CR, network: dict[str, Tensor], tmp_path: Path
    ) -> None:
        torch.save({'network': network}, tmp_path / 'dsen2cr.pth')
        load_reference_checkpoint(model, tmp_path / 'dsen2cr.pth')
        _assert_untouched(
            model, {k.removeprefix('module.'): v for k, v in network.items()}
        )

    def test_other_entries_and_constants(
        self, model: DSen2CR, network: dict[str, Tensor], tmp_path: Path
    ) -> None:
        network['module.stage.relative_position_index'] = torch.zeros(4, 4).long()
        network['module.stage.attn_mask'] = torch.zeros(4, 4)
        checkpoint = {'network': network, 'epoch': 3, 'optimizer': {'state': {}}}
        torch.save(checkpoint, tmp_path / 'dsen2cr.pth')
        load_reference_checkpoint(model, str(tmp_path / 'dsen2cr.pth'))
        key = 'body.0.body.0.weight'
        assert torch.equal(model.state_dict()[key], network[f'module.{key}'])

    def test_not_a_file(self, model: DSen2CR, tmp_path: Path) -> None:
        for path in (tmp_path / 'missing.pth', tmp_path):
            with pytest.raises(ValueError, match=f"'{path}' does not exist or is not"):
                load_reference_checkpoint(model, path)

    @pytest.mark.parametrize('share', [0, 0.01, 0.5, 0.99])
    def test_truncated(
        self, model: DSen2CR, network: dict[str, Tensor], tmp_path: Path, share: float
    ) -> None:
        path = tmp_path / 'dsen2cr.pth'
        torch.save({'network': network}, path)
        content = path.read_bytes()
        path.write_bytes(content[: int(share * len(content))])
        before = _clone(model)
        with pytest.raises(ValueError, match=f"'{path}' cannot be read .* truncated"):
            load_reference_checkpoint(model, path)
        _assert_untouched(model, before)

    @pytest.mark.parametrize('content', [b'not a checkpoint\n', b'\x80\x02}.', b'II*'])
    def test_not_a_checkpoint(
        self, model: DSen2CR, tmp_path: Path, content: bytes
    ) -> None:
        path = tmp_path / 'dsen2cr.pth'
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"'{path}' cannot be read"):
            load_reference_checkpoint(model, path)

    def test_pickled_code(
        self, model: DSen2CR, network: dict[str, Tensor], tmp_path: Path
    ) -> None:
        path, evidence = tmp_path / 'dsen2cr.pth', tmp_path / 'executed'
        torch.save({'network': network, 'code': MakeDirectory(evidence)}, path)
        with pytest.raises(ValueError, match='whose code is not executed'):
            load_reference_checkpoint(model, path)
        assert not evidence.exists()

        # The file is as harmful as it is meant to be
        torch.load(path, weights_only=False)
        assert evidence.exists()

    def test_plain_pickle(self, model: DSen2CR, tmp_path: Path) -> None:
        path, evidence = tmp_path / 'dsen2cr.pth', tmp_path / 'executed'
        path.write_bytes(pickle.dumps({'network': MakeDirectory(evidence)}, protocol=2))
        with pytest.raises(ValueError, match=f"'{path}' cannot be read"):
            load_reference_checkpoint(model, path)
        assert not evidence.exists()

    @pytest.mark.parametrize(
        'checkpoint',
        [
            {'state_dict': {}},
            {'network': [1, 2]},
            {'network': {'module.head.0.weight': 1}},
            {'network': {1: torch.zeros(1)}},
            [torch.zeros(1)],
        ],
    )
    def test_no_network(self, model: DSen2CR, tmp_path: Path, checkpoint: Any) -> None:
        path = tmp_path / 'dsen2cr.pth'
        torch.save(checkpoint, path)
        with pytest.raises(ValueError, match=f"'{path}' has no entry 'network'"):
            load_reference_checkpoint(model, path)

    def test_does_not_fit(
        self, model: DSen2CR, network: dict[str, Tensor], tmp_path: Path
    ) -> None:
        path = tmp_path / 'dsen2cr.pth'
        del network['module.head.0.bias']
        network['module.body.2.weight'] = torch.zeros(4, 8, 5, 5)
        network |= {f'module.extra.{i}': torch.zeros(1) for i in range(5)}
        torch.save({'network': network}, path)
        before = _clone(model)

        with pytest.raises(ValueError) as error:
            load_reference_checkpoint(model, path)

        message = str(error.value)
        assert message.startswith(f"'{path}' does not fit DSen2CR: ")
        assert '1 missing (head.0.bias)' in message
        assert '5 surplus (extra.0, extra.1, extra.2, ...)' in message
        expected = (
            '1 of another shape (body.2.weight (4, 8, 5, 5) instead of (4, 8, 3, 3))'
        )
        assert expected in message
        _assert_untouched(model, before)

    def test_other_arguments(self, network: dict[str, Tensor], tmp_path: Path) -> None:
        path = tmp_path / 'dsen2cr.pth'
        torch.save({'network': network}, path)
        with pytest.raises(ValueError, match=f'Copy: {len(network)} surplus'):
            load_reference_checkpoint(Copy(), path)
        with pytest.raises(ValueError, match=r'Sequential: .* missing .* surplus'):
            load_reference_checkpoint(nn.Sequential(DSen2CR(features=8)), path)

    def test_published_names(
        self,
        reference_weights: Callable[[nn.Module], dict[str, Tensor]],
        tmp_path: Path,
    ) -> None:
        model = GLFCR(features=8, growth=8, num_stages=2, num_layers=1, num_heads=2)
        network = reference_weights(model)
        assert not network.keys() & model.state_dict().keys()
        torch.save({'network': network}, tmp_path / 'glfcr.pth')
        load_reference_checkpoint(model, tmp_path / 'glfcr.pth')
        state_dict = model.state_dict()
        for name, key in reference_names(model).items():
            assert torch.equal(state_dict[key], network[name])


class TestAdvice:
    @pytest.mark.parametrize('published', [DSen2CR, GLFCR, AlignCR])
    @pytest.mark.parametrize('kind', [DSen2CR, GLFCR, AlignCR])
    def test_other_network(
        self, tmp_path: Path, published: type[nn.Module], kind: type[nn.Module]
    ) -> None:
        other, model = published(), kind()
        state_dict = other.state_dict()
        network = {
            # One value stands for each weight, so that the file is small
            f'module.{name}': torch.zeros(1).expand(state_dict[key].shape)
            for name, key in itertools.islice(reference_names(other).items(), 1, None)
        }
        torch.save({'network': network}, tmp_path / 'network.pth')
        before = _clone(model)
        advice = f'It seems to be for {published.__name__}'
        advice += (
            ', but with other arguments, or damaged.' if kind is published else '.'
        )
        with pytest.raises(ValueError) as error:
            load_reference_checkpoint(model, tmp_path / 'network.pth')
        assert f' does not fit {kind.__name__}: ' in str(error.value)
        assert str(error.value).endswith(f'). {advice}')
        _assert_untouched(model, before)

    def test_other_arguments(
        self, reference_checkpoint: Callable[[nn.Module], Path]
    ) -> None:
        path = reference_checkpoint(DSen2CR(features=8))
        advice = 'It seems to be for DSen2CR, but with other arguments, or damaged.$'
        with pytest.raises(ValueError, match=advice):
            load_reference_checkpoint(DSen2CR(features=4), path)

    def test_fewer_stages(
        self, reference_checkpoint: Callable[[nn.Module], Path]
    ) -> None:
        tiny: dict[str, Any] = {
            'features': 8,
            'growth': 8,
            'num_layers': 1,
            'num_heads': 2,
        }
        path = reference_checkpoint(GLFCR(num_stages=2, **tiny))
        advice = 'It seems to be for GLFCR, but with other arguments, or damaged.$'
        with pytest.raises(ValueError, match=advice):
            load_reference_checkpoint(GLFCR(num_stages=1, **tiny), path)

    def test_unknown_network(self, model: DSen2CR, tmp_path: Path) -> None:
        network = {f'layers.{i}.weight': torch.zeros(1) for i in range(68)}
        torch.save({'network': network}, tmp_path / 'other.pth')
        advice = 'It seems to be for none of the networks of Planet-CR.$'
        with pytest.raises(ValueError, match=advice):
            load_reference_checkpoint(model, tmp_path / 'other.pth')

    @pytest.mark.parametrize('share', [0.01, 0.5, 0.999])
    def test_truncated(
        self, reference_checkpoint: Callable[[nn.Module], Path], share: float
    ) -> None:
        model = GLFCR(features=8, growth=8, num_stages=1, num_layers=1, num_heads=2)
        path = reference_checkpoint(model)
        content = path.read_bytes()
        path.write_bytes(content[: int(share * len(content))])
        before = _clone(model)
        with pytest.raises(ValueError, match=f"'{path}' cannot be read .* truncated"):
            load_reference_checkpoint(model, path)
        _assert_untouched(model, before)
