# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import pytest
import torch
from texture import grain, relative_steps
from torch import Tensor

from torchgeo_planetcr.transforms.clouds import (
    CLOUD_COLOR,
    HAZE_COLOR,
    MASK_BLOCK,
    MASKED_THICKNESS,
    MAX_WHITE,
    SKYLIGHT,
    CloudLayers,
    coarse_cloud_mask,
    draw_clouds,
    find_white,
    lay_clouds,
    lay_white,
    reflect,
)


def draw(cover: Tensor, seed: int = 0, size: tuple[int, int] = (50, 70)) -> CloudLayers:
    return draw_clouds(cover, *size, generator=torch.Generator().manual_seed(seed))


def ground(count: int = 2, size: tuple[int, int] = (50, 70)) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return 0.01 + 0.5 * torch.rand(count, 4, *size, generator=generator)


def layers(**kwargs: float) -> CloudLayers:
    """Layers of constant thickness; those that are not named have none."""
    zeros = dict.fromkeys(CloudLayers._fields, 0.0)
    return CloudLayers(
        **{
            name: torch.full((2, 50, 70), value)
            for name, value in (zeros | kwargs).items()
        }
    )


def per_band(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values)[:, None, None]


class TestDrawClouds:
    def test_layers(self) -> None:
        drawn = draw(torch.tensor([0.2, 0.5, 0.8]))
        for layer in drawn:
            assert layer.shape == (3, 50, 70)
            assert layer.isfinite().all()
            assert layer.min() >= 0
        # Veil and haze cover everything, clouds do not
        assert drawn.veil.min() > 0
        assert drawn.haze.min() > 0
        assert (drawn.cloud == 0).flatten(1).any(dim=1).all()

    @pytest.mark.parametrize('cover', [0.15, 0.5, 0.8])
    def test_cover(self, cover: float) -> None:
        drawn = draw(torch.full((200,), cover))
        assert abs((drawn.cloud > 0).float().mean() - cover) < 0.03

    def test_seed(self) -> None:
        cover = torch.tensor([0.4, 0.4])
        for first, again, other in zip(
            draw(cover), draw(cover), draw(cover, 1), strict=True
        ):
            assert torch.equal(first, again)
            assert not torch.equal(first, other)
            assert not torch.equal(first[0], first[1])

    def test_smooth(self) -> None:
        """Bright cloud is as smooth as in the two patches of the public sample.

        There, the grain without the noise of the camera is at most 25, and steps over 1,
        2, 4 and 8 pixels are 0.11/0.14, 0.20/0.26, 0.37/0.47 and 0.62/0.76 of those
        over 16 pixels.
        """
        drawn = draw(torch.full((20,), 0.7), size=(256, 256))
        images = lay_clouds(torch.full((20, 4, 256, 256), 0.1), drawn)
        for low, high in ((0.3, 0.5), (0.5, 0.7)):
            found = torch.tensor([grain(image, low, high) for image in images])
            assert 5 < found.nanmedian() < 25
        steps = torch.stack([relative_steps(image, 0.3) for image in images])
        expected = torch.tensor([0.12, 0.22, 0.40, 0.68], dtype=steps.dtype)
        torch.testing.assert_close(
            steps.nanmedian(dim=0).values, expected, rtol=0.15, atol=0
        )

    def test_shadow_is_of_the_clouds(self) -> None:
        """The sunward layer holds the clouds, moved by another distance in each sample."""
        drawn = draw(torch.tensor([0.3, 0.5, 0.7]))
        found = []
        for cloud, sunward in zip(drawn.cloud, drawn.sunward, strict=True):
            moves = [
                (row, column)
                for row in range(50)
                for column in range(70)
                if cloud[row, column] == sunward.flatten()[0]
                and torch.equal(cloud.roll((-row, -column), (0, 1)), sunward)
            ]
            assert moves
            found += moves[:1]
        for distances in zip(*found, strict=True):
            assert len(set(distances)) == 3


class TestReflect:
    def test_values(self) -> None:
        thickness = torch.tensor([0.0, 2 / 0.15, 1e4])
        torch.testing.assert_close(
            reflect(thickness), torch.tensor([0, 0.5, 1]), rtol=0, atol=2e-3
        )

    def test_grows(self) -> None:
        reflectance = reflect(torch.linspace(0, 300, 100))
        assert (reflectance.diff() > 0).all()
        assert reflectance[-1] < 1


class TestLayClouds:
    def test_nothing(self) -> None:
        assert torch.equal(lay_clouds(ground(), layers()), ground())

    def test_thick_cloud(self) -> None:
        image = lay_clouds(ground(), layers(cloud=1e6))
        expected = per_band(CLOUD_COLOR).clamp(max=1).expand_as(image)
        torch.testing.assert_close(image, expected, rtol=0, atol=1e-3)

    def test_veil_is_thin_cloud(self) -> None:
        veiled, cloudy = (
            lay_clouds(ground(), layers(**{k: 2})) for k in ('veil', 'cloud')
        )
        assert torch.equal(veiled, cloudy)

    def test_detail(self) -> None:
        """Thick cloud hides detail before it hides brightness, and adds none."""
        share = []
        for thickness in (0, 1, 4, 12):
            lit = lay_clouds(ground(), layers(cloud=thickness))
            black = lay_clouds(torch.zeros_like(ground()), layers(cloud=thickness))
            through = (lit - black)[..., 12:-12, 12:-12]
            share.append(through.std() / through.mean())
        assert share == sorted(share, reverse=True)
        assert share[-1] < 0.1 * share[0]
        assert share[1] > 0.6 * share[0]

    def test_nothing_shines_through(self) -> None:
        """What comes of the ground through thick cloud is less than noise.

        Reflectance of 0 or 0.4 in squares of 300 m differs by less than 0.0006.
        """
        squares = torch.zeros(1, 4, 400, 400)
        squares[..., :100, :100] = squares[..., 200:300, 200:300] = 0.4
        for thickness, most in ((22, 6e-4), (50, 1e-6)):
            cloud = CloudLayers(
                torch.full((1, 400, 400), float(thickness)),
                *torch.zeros(3, 1, 400, 400),
            )
            image = lay_clouds(squares, cloud)
            assert float(image.amax((2, 3)).sub(image.amin((2, 3))).max()) < most

    def test_shadow(self) -> None:
        """Skylight reaches the shadow of a thick cloud."""
        image = lay_clouds(ground(), layers(sunward=1e6))
        torch.testing.assert_close(image, ground() * per_band(SKYLIGHT))

    def test_no_shadow_below_the_same_cloud(self) -> None:
        alone, below = (
            lay_clouds(ground(), layers(cloud=5, sunward=s)) for s in (0, 5)
        )
        assert torch.equal(alone, below)

    def test_haze(self) -> None:
        """A cloud has its own color over black ground, and dims bright ground."""
        hazy = lay_clouds(torch.zeros(2, 4, 50, 70), layers(haze=0.4))
        torch.testing.assert_close(hazy, (0.1 * per_band(HAZE_COLOR)).expand_as(hazy))
        bright = torch.full((2, 4, 50, 70), 0.95)
        assert (lay_clouds(bright, layers(haze=0.4)) < 0.97).all()

    def test_range(self) -> None:
        image = lay_clouds(torch.ones(2, 4, 50, 70), draw(torch.tensor([0.3, 0.9])))
        assert 0 <= image.min() < image.max() <= 1


class TestWhite:
    def test_inverse(self) -> None:
        white = torch.rand(2, 1, 50, 70) * 0.95
        image = lay_white(ground(), white)
        torch.testing.assert_close(
            find_white(image, ground()), white, rtol=0, atol=1e-5
        )

    def test_darker(self) -> None:
        assert not find_white(0.5 * ground(), ground()).any()
        assert not find_white(ground(), ground()).any()

    def test_saturated(self) -> None:
        ones = torch.ones(1, 4, 5, 5)
        assert not find_white(ones, ones).any()
        white = find_white(ones, 0.5 * ones)
        assert torch.equal(white, torch.full_like(white, MAX_WHITE))
        assert lay_white(ones, white).isfinite().all()

    def test_two_clouds(self) -> None:
        """A cloud makes any ground whiter."""
        below = lay_white(ground(), torch.full((2, 1, 50, 70), 0.3))
        above = lay_white(below, torch.full((2, 1, 50, 70), 0.3))
        assert (above > below).all()
        assert (below[:, :3] > ground()[:, :3]).all()


class TestCoarseCloudMask:
    def test_blocks(self) -> None:
        drawn = draw(torch.tensor([0.5, 0.8]), size=(60, 72))
        mask = coarse_cloud_mask(drawn, 0)
        assert mask.dtype == torch.bool
        assert mask.shape == (2, 60, 72)
        blocks = mask.unflatten(2, (-1, MASK_BLOCK)).unflatten(1, (-1, MASK_BLOCK))
        assert torch.equal(blocks.any(dim=(2, 4)), blocks.all(dim=(2, 4)))
        assert 0 < mask.float().mean() < 1

    def test_threshold(self) -> None:
        for factor in (0.99, 1.01):
            thickness = factor * MASKED_THICKNESS
            mask = coarse_cloud_mask(layers(cloud=thickness), 0.2)
            assert torch.equal(mask, torch.full_like(mask, factor > 1))

    def test_only_clouds(self) -> None:
        mask = coarse_cloud_mask(layers(veil=50, haze=50, sunward=50), 0.1)
        assert not mask.any()

    @pytest.mark.parametrize('angle', [-0.3, 0, 0.3])
    @pytest.mark.parametrize('dim', [1, 2])
    def test_place(self, angle: float, dim: int) -> None:
        """Edges of the mask are at most the diagonal of a block away from the cloud."""
        drawn = layers()
        rows, columns = torch.meshgrid(
            torch.arange(50), torch.arange(70), indexing='ij'
        )
        distance = (rows - 25 if dim == 1 else columns - 40).float()
        cloud = (MASKED_THICKNESS * (1 + distance / 35)).expand(2, -1, -1)
        mask = coarse_cloud_mask(drawn._replace(cloud=cloud), angle)
        is_far = distance.abs() > MASK_BLOCK / 2**0.5 + 1
        assert torch.equal(mask[:, is_far], (distance > 0)[is_far].expand(2, -1))
        assert not torch.equal(mask, (distance > 0).expand(2, -1, -1))

    def test_own_angles(self) -> None:
        drawn = draw(torch.tensor([0.5, 0.6, 0.8]))
        angles = torch.tensor([-0.3, 0.0, 0.2])
        masks = coarse_cloud_mask(drawn, angles)
        for i in range(3):
            alone = CloudLayers(*(layer[i : i + 1] for layer in drawn))
            assert torch.equal(coarse_cloud_mask(alone, angles[i]), masks[i : i + 1])
        assert not torch.equal(masks, coarse_cloud_mask(drawn, 0.0))
