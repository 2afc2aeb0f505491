# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from torchgeo_planetcr.checkpoint import read_checkpoint
from torchgeo_planetcr.models import (
    GLFCR,
    AlignCR,
    Copy,
    DSen2CR,
    EncoderDecoder,
    load_reference_checkpoint,
)
from torchgeo_planetcr.models.checkpoint import (
    likely_reference_network,
    load_weights,
    reference_names,
)


class Unknown:
    """No tensor and no plain Python object."""


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

    @pytest.mark.parametrize('share', [0.01, 0.5, 0.999])
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

    def test_pickled_code(
        self, model: DSen2CR, network: dict[str, Tensor], tmp_path: Path
    ) -> None:
        path = tmp_path / 'dsen2cr.pth'
        torch.save({'network': network, 'code': Unknown()}, path)
        with pytest.raises(ValueError, match='code is not executed'):
            load_reference_checkpoint(model, path)

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

    @pytest.mark.parametrize('value', [torch.nan, torch.inf])
    def test_not_finite(
        self, model: DSen2CR, network: dict[str, Tensor], tmp_path: Path, value: float
    ) -> None:
        path = tmp_path / 'dsen2cr.pth'
        network['module.head.0.bias'][3] = value
        torch.save({'network': network}, path)
        with pytest.raises(
            ValueError, match=rf"'{path}' has NaN .* 1 .* head\.0\.bias"
        ):
            load_reference_checkpoint(model, path)

    def test_other_models(
        self, model: DSen2CR, network: dict[str, Tensor], tmp_path: Path
    ) -> None:
        path = tmp_path / 'dsen2cr.pth'
        torch.save({'network': network}, path)
        with pytest.raises(ValueError, match=f'Copy: {len(network)} surplus'):
            load_reference_checkpoint(Copy(), path)
        with pytest.raises(ValueError, match=r'Sequential: .* missing .* surplus'):
            load_reference_checkpoint(nn.Sequential(model), path)

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


def _tiny(kind: type[nn.Module]) -> nn.Module:
    options: dict[str, Any] = {'features': 8, 'num_blocks': 1}
    if kind is not DSen2CR:
        options = {'features': 8, 'growth': 8, 'num_stages': 2, 'num_layers': 1}
        options['num_heads'] = 2
    return kind(**options)


def _network(model: nn.Module) -> dict[str, Tensor]:
    state_dict, names = model.state_dict(), reference_names(model)
    return {f'module.{name}': state_dict[key] for name, key in names.items()}


def _save(model: nn.Module, path: Path) -> dict[str, Tensor]:
    network = _network(model)
    torch.save({'network': network}, path)
    return network


class TestLikelyReferenceNetwork:
    """Also of small networks: only names count."""

    @pytest.mark.parametrize(
        ('name', 'kind'), [('dsen2cr', DSen2CR), ('glfcr', GLFCR), ('aligncr', AlignCR)]
    )
    def test_damaged(self, name: str, kind: type[nn.Module]) -> None:
        network = {key.removeprefix('module.') for key in _network(_tiny(kind))}
        assert likely_reference_network(network, 'x') == name
        half = {*sorted(network)[::2], 'extra'}
        assert likely_reference_network(half, 'x') == name

    @pytest.mark.parametrize('count', [0, 68])
    def test_unknown(self, count: int) -> None:
        network = [f'layers.{i}.weight' for i in range(count)]
        match = "'other.pth' does not fit any .* DSen2CR, GLFCR, AlignCR"
        with pytest.raises(ValueError, match=match):
            likely_reference_network(network, 'other.pth')


class TestAdvice:
    @pytest.mark.parametrize('published', [DSen2CR, GLFCR, AlignCR])
    @pytest.mark.parametrize('kind', [DSen2CR, GLFCR, AlignCR])
    def test_other_network(
        self, tmp_path: Path, published: type[nn.Module], kind: type[nn.Module]
    ) -> None:
        path, model = tmp_path / 'network.pth', _tiny(kind)
        network = _save(_tiny(published), path)
        del network[next(iter(network))]
        torch.save({'network': network}, path)
        before = _clone(model)
        advice = f'seems to be for {published.__name__}'
        if kind is published:
            advice += ', but with other arguments, or damaged'
        with pytest.raises(ValueError) as error:
            load_reference_checkpoint(model, path)
        assert f"'{path}' does not fit {kind.__name__}: " in str(error.value)
        assert str(error.value).endswith(advice)
        _assert_untouched(model, before)

    def test_other_arguments(self, tmp_path: Path) -> None:
        path = tmp_path / 'network.pth'
        for published, model in (
            (DSen2CR(features=8, num_blocks=1), DSen2CR(features=4, num_blocks=1)),
            (_tiny(GLFCR), GLFCR(features=8, growth=8, num_stages=1, num_layers=1)),
        ):
            _save(published, path)
            match = f'for {type(model).__name__}, but with other arguments, or damaged$'
            with pytest.raises(ValueError, match=match):
                load_reference_checkpoint(model, path)

    def test_unknown_network(self, model: DSen2CR, tmp_path: Path) -> None:
        network = {f'layers.{i}.weight': torch.zeros(1) for i in range(68)}
        torch.save({'network': network}, tmp_path / 'other.pth')
        with pytest.raises(ValueError, match='for none of the networks of Planet-CR$'):
            load_reference_checkpoint(model, tmp_path / 'other.pth')


FUSION: dict[str, Any] = {
    'features': 8,
    'growth': 8,
    'num_stages': 1,
    'num_layers': 1,
    'num_heads': 2,
}


class TestLoadWeights:
    @pytest.mark.parametrize(
        'make',
        [
            lambda: DSen2CR(features=8, num_blocks=1),
            lambda: GLFCR(**FUSION),
            lambda: AlignCR(**FUSION),
            lambda: EncoderDecoder('unet', backbone='resnet18'),
        ],
    )
    @pytest.mark.parametrize(
        'prefix', ['', 'model.', 'module.', 'module.model._orig_mod.']
    )
    @pytest.mark.parametrize('kind', ['lightning', 'state_dict', 'safetensors'])
    def test_any_file(
        self, tmp_path: Path, make: Callable[[], nn.Module], prefix: str, kind: str
    ) -> None:
        trained, model = make(), make()
        weights = {prefix + k: v.clone() for k, v in trained.state_dict().items()}
        if prefix:
            # A loss with weights of its own
            weights['criterion.weight'] = torch.ones(3)
        path = tmp_path / f'weights.{kind}'
        if kind == 'safetensors':
            save_file(weights, path)
        else:
            torch.save(
                {'state_dict': weights} if kind == 'lightning' else weights, path
            )
        load_weights(model, read_checkpoint(path), path)
        _assert_untouched(model, _clone(trained))

    @pytest.mark.parametrize(
        ('change', 'named'),
        [
            ({'body.0.body.0.weight': None}, '1 missing (body.0.body.0.weight)'),
            ({'other': torch.ones(1)}, '1 surplus (other)'),
            ({'head.0.bias': torch.ones(4)}, 'head.0.bias (4,) instead of (8,)'),
            ({'head.0.bias': torch.full((8,), torch.nan)}, 'NaN'),
        ],
    )
    def test_misfit(
        self, tmp_path: Path, change: dict[str, Tensor | None], named: str
    ) -> None:
        model = DSen2CR(features=8, num_blocks=1)
        before = _clone(model)
        weights = {k: v for k, v in {**before, **change}.items() if v is not None}
        torch.save({f'model.{k}': v for k, v in weights.items()}, tmp_path / 'x.pt')
        with pytest.raises(ValueError) as error:
            load_weights(model, read_checkpoint(tmp_path / 'x.pt'), tmp_path / 'x.pt')
        message = str(error.value)
        assert str(tmp_path / 'x.pt') in message
        assert named in message
        assert '\n' not in message
        _assert_untouched(model, before)

    @pytest.mark.parametrize(
        'content', [{'state_dict': 5}, [1], {'epoch': 3}, {'a': 1}, {}]
    )
    def test_no_weights(self, content: object) -> None:
        with pytest.raises(ValueError, match=r"'some\.ckpt'"):
            load_weights(DSen2CR(features=8, num_blocks=1), content, 'some.ckpt')


def test_damaged_safetensors(tmp_path: Path) -> None:
    path = tmp_path / 'weights.safetensors'
    save_file({'weight': torch.ones(100)}, path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=str(path)):
        read_checkpoint(path)
