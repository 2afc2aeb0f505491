# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from torchgeo_planetcr.models import Copy, DSen2CR, load_reference_checkpoint


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

    def test_other_network(self, network: dict[str, Tensor], tmp_path: Path) -> None:
        path = tmp_path / 'dsen2cr.pth'
        torch.save({'network': network}, path)
        with pytest.raises(ValueError, match=f'Copy: {len(network)} surplus'):
            load_reference_checkpoint(Copy(), path)
        with pytest.raises(ValueError, match=r'Sequential: .* missing .* surplus'):
            load_reference_checkpoint(nn.Sequential(DSen2CR(features=8)), path)
