# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from tile_places import make_dataset, place

from torchgeo_planetcr.datasets import NativeSlice
from torchgeo_planetcr.inference import Blender
from torchgeo_planetcr.inference.blend import ClassBlender
from torchgeo_planetcr.samplers import TileSampler

Array = NDArray[np.float32]


def blend(
    folder: Path,
    image: Array,
    model: Callable[[Array], Array],
    size: int,
    overlap: int,
    keep: Callable[[NativeSlice], bool] | None = None,
    kind: type[Blender] = Blender,
) -> Array:
    """What tiles give, and NaN where there is none."""
    dataset = make_dataset(folder, [(image.shape[1], image.shape[2])])
    sampler = TileSampler(dataset, size=size, overlap=overlap, keep=keep)
    tiles = list(map(place, sampler))
    blender = kind(image.shape, tiles[0][2:], overlap)
    result = np.full(image.shape, np.nan, dtype=np.float32)
    times = np.zeros(image.shape[1:], dtype=int)

    def put(parts: Iterable[tuple[int, int, Array]]) -> None:
        for row, col, values in parts:
            _, height, width = values.shape
            result[:, row : row + height, col : col + width] = values
            times[row : row + height, col : col + width] += 1

    for row, col, height, width in tiles:
        put(blender.take(row, col))
        blender.add(row, col, model(image[:, row : row + height, col : col + width]))
    put(blender.take_rest())
    assert times.max() == 1
    return result


class TestBlender:
    @pytest.mark.parametrize(
        ('size', 'overlap'), [(32, 15), (48, 16), (64, 24), (100, 40), (512, 64)]
    )
    @pytest.mark.parametrize('shape', [(130, 97), (64, 200), (20, 20)])
    def test_convolution_in_one_piece(
        self, tmp_path: Path, shape: tuple[int, int], size: int, overlap: int
    ) -> None:
        """Tiles lack what lies beyond their edge, but that has no weight."""
        generator = torch.Generator().manual_seed(0)
        # It sees three pixels in each direction, no more than is thrown away
        weight = torch.randn(2, 2, 7, 7, generator=generator)

        def model(image: Array) -> Array:
            return F.conv2d(torch.from_numpy(image)[None], weight, padding=3)[0].numpy()

        image = torch.rand(2, *shape, generator=generator).numpy()
        expected = model(image)
        actual = blend(tmp_path, image, model, size, overlap)
        assert actual.shape == expected.shape
        assert np.abs(actual - expected).max() < 1e-5 * np.abs(expected).max()

    def test_edge_effects_show(self, tmp_path: Path) -> None:
        """Without overlap, seams are where they were."""
        image = np.ones((1, 40, 64), dtype=np.float32)

        def model(tile: Array) -> Array:
            return F.avg_pool2d(torch.from_numpy(tile), 3, 1, 1).numpy()

        whole = model(image)
        assert np.abs(blend(tmp_path, image, model, 32, 0) - whole).max() > 0.2
        assert np.abs(blend(tmp_path, image, model, 32, 8) - whole).max() < 1e-6

    def test_no_seam(self, tmp_path: Path) -> None:
        """Where tiles disagree, one fades into the other."""
        image = np.zeros((1, 40, 192), dtype=np.float32)
        levels = iter(np.linspace(0, 1, 100))
        actual = blend(
            tmp_path, image, lambda tile: tile + np.float32(next(levels)), 72, 32
        )
        steps = np.abs(np.diff(actual, axis=2))
        # Levels are a hundredth apart, and the fading takes 16 pixels
        assert 0 < steps.max() < 0.01 * np.pi / 2 / 16 * 1.01

    def test_missing_tile(self, tmp_path: Path) -> None:
        image = np.ones((1, 20, 40), dtype=np.float32)
        actual = blend(
            tmp_path,
            image,
            lambda tile: tile,
            20,
            4,
            keep=lambda tile: place(tile)[1] < 16,
        )
        assert (actual[..., :19] == 1).all()
        assert np.isnan(actual[..., 20:]).all()

    def test_missing_lines(self, tmp_path: Path) -> None:
        """Lines without any tile are left out, in the middle and at the end."""
        image = np.random.default_rng(0).random((2, 300, 20), dtype=np.float32)
        wanted = {0, 96, 112}
        actual = blend(
            tmp_path,
            image,
            lambda tile: tile,
            20,
            4,
            keep=lambda tile: place(tile)[0] in wanted,
        )
        filled = np.isfinite(actual)
        assert np.abs(actual - image)[filled].max() < 1e-6
        lines = set(np.flatnonzero(filled.all(axis=(0, 2))).tolist())
        # Only the very edge towards a tile that is missing has no weight
        assert {*range(19), *range(97, 131)} <= lines <= {*range(20), *range(96, 132)}

    def test_parts(self) -> None:
        """Of a wide scene, some columns at a time, and none where there is no tile."""
        blender = Blender((1, 40, 3000), (30, 100), 0)
        for col in (0, 2900):
            blender.add(0, col, np.full((1, 30, 100), col, dtype=np.float32))
        parts = list(blender.take(30, 0))
        assert sum(values.shape[2] for *_, values in parts) < 2000
        for first, (row, col, values) in zip((0, 2900), parts, strict=True):
            assert row == 0
            assert col <= first < first + 100 <= col + values.shape[2]
            assert (values[..., first - col :][..., :100] == first).all()
            assert np.isfinite(values).sum() == 30 * 100
        assert list(blender.take_rest()) == []

    def test_order(self) -> None:
        """Tiles that do not follow each other are refused, by one line or by many."""
        tile = np.ones((2, 20, 20), dtype=np.float32)
        blender = Blender((2, 100, 40), (20, 20), 4)
        blender.add(0, 0, tile)
        # Not before the lines above are taken
        with pytest.raises(
            ValueError, match=r'at row 16, column 0 does not follow on .*Sampler'
        ):
            blender.add(16, 0, tile)
        first = list(blender.take(16, 0))
        assert [(part[:2], part[2].shape) for part in first] == [((0, 0), (2, 16, 40))]
        blender.add(16, 20, tile)
        with pytest.raises(ValueError, match='and 20 columns at row 0, column 0 does'):
            blender.add(0, 0, tile)
        for row in (15, 0):
            message = f'at row {row}, column 0 comes after one at row 16 of the strip'
            with pytest.raises(ValueError, match=message):
                list(blender.take(row, 0))
        list(blender.take(80, 0))
        with pytest.raises(
            ValueError, match='at row 16, column 9 comes after one at r'
        ):
            list(blender.take(16, 9))
        blender.add(80, 0, tile)

    def test_order_of_strips(self) -> None:
        """Neither back to a strip before, nor without the overlap with the next one."""
        tile = np.ones((1, 30, 30), dtype=np.float32)
        blender = Blender((1, 100, 9000), (30, 30), 5)
        blender.add(0, 4050, tile)
        with pytest.raises(
            ValueError, match='at row 0, column 4074 does not follow on'
        ):
            blender.add(0, 4074, tile)
        with pytest.raises(
            ValueError, match='at row 0, column 4075 does not follow on'
        ):
            blender.add(0, 4075, tile)
        list(blender.take(0, 4075))
        blender.add(0, 4075, tile)
        message = (
            'row 25, column 4050 comes after .* of the strip that begins at column 4075'
        )
        with pytest.raises(ValueError, match=message):
            list(blender.take(25, 4050))

    @pytest.mark.parametrize('shape', [(3, 20, 20), (2, 19, 20), (2, 20, 19)])
    def test_other_shape(self, shape: tuple[int, ...]) -> None:
        blender = Blender((2, 100, 40), (20, 20), 4)
        blender.add(0, 0, np.ones((2, 20, 20), dtype=np.float32))
        bands, rows, columns = shape
        message = (
            f'of {bands} bands, {rows} rows and {columns} columns at row 0, column 20'
        )
        with pytest.raises(ValueError, match=message):
            blender.add(0, 20, np.ones(shape, dtype=np.float32))

    def test_takes_at_most_a_row(self) -> None:
        """What is in memory does not grow with the height of the scene."""
        tile: Any = np.ones((1, 20, 20), dtype=np.float32)
        blender = Blender((1, 100_000, 20), (20, 20), 4)
        for row in range(0, 160, 16):
            for start, col, values in blender.take(row, 0):
                assert (start, col, values.shape) == (row - 16, 0, (1, 16, 20))
            blender.add(row, 0, tile)
        assert sum(array.size for array in arrays(blender)) == 2 * 20 * 20

    def test_takes_at_most_a_strip(self) -> None:
        """Nor with its width, but for what strips share."""
        blender = Blender((4, 600, 1_000_000), (512, 512), 64)
        row, shared = 512 * 4096, 600 * 64
        assert sum(array.size for array in arrays(blender)) <= 5 * (row + shared)


def arrays(blender: Blender) -> list[Array]:
    """Arrays that are in memory."""
    return [value for value in vars(blender).values() if isinstance(value, np.ndarray)]


class TestStrips:
    """Scenes that are wider than a strip, of some 4000 columns."""

    #: Size and overlap of tiles, and the first columns of the strips of 9000 columns.
    TILES = 100, 40, [0, 4080, 8160]

    def test_cover(self, tmp_path: Path) -> None:
        """The tiles are those of rows as wide as the scene, in another order."""
        size, overlap, lefts = self.TILES
        dataset = make_dataset(tmp_path, [(170, 9000)])
        tiles = list(map(place, TileSampler(dataset, size=size, overlap=overlap)))
        rows, cols = [0, 60, 70], [*range(0, 8900, 60), 8900]
        assert sorted(tiles) == [(r, c, size, size) for r in rows for c in cols]
        strips = [sum(left <= col for left in lefts) for _, col, *_ in tiles]
        order = [(strip, tile) for strip, tile in zip(strips, tiles, strict=True)]
        assert order == sorted(order)
        assert set(strips) == {1, 2, 3}

    @pytest.mark.parametrize('width', [4096, 4099, 4180, 4181, 9000])
    def test_convolution_in_one_piece(self, tmp_path: Path, width: int) -> None:
        size, overlap, _ = self.TILES
        generator = torch.Generator().manual_seed(0)
        weight = torch.randn(1, 1, 7, 7, generator=generator)

        def model(image: Array) -> Array:
            return F.conv2d(torch.from_numpy(image)[None], weight, padding=3)[0].numpy()

        image = torch.rand(1, 170, width, generator=generator).numpy()
        expected = model(image)
        actual = blend(tmp_path, image, model, size, overlap)
        assert np.abs(actual - expected).max() < 1e-5 * np.abs(expected).max()

    @pytest.mark.parametrize(
        'wanted',
        [
            # Not the last strip, the first lines of it, all but the last, or one tile
            lambda row, col: col < 8000,
            lambda row, col: col < 4080 or row > 0,
            lambda row, col: col >= 8160,
            lambda row, col: (row, col) == (60, 4020),
            lambda row, col: (row, col) in {(0, 4020), (70, 8160)},
        ],
    )
    def test_missing_tiles(
        self, tmp_path: Path, wanted: Callable[[int, int], bool]
    ) -> None:
        """What the other tiles give is there, in the next strip as well."""
        size, overlap, _ = self.TILES
        image = np.random.default_rng(0).random((2, 170, 9000), dtype=np.float32)
        actual = blend(
            tmp_path,
            image,
            lambda tile: tile,
            size,
            overlap,
            keep=lambda tile: wanted(*place(tile)[:2]),
        )
        covered = np.zeros((170, 9000), dtype=bool)
        for row in (0, 60, 70):
            for col in [*range(0, 8900, 60), 8900]:
                if wanted(row, col):
                    # Of what is shared, a quarter at the edge has no weight
                    top, left = row + 11 * (row > 0), col + 11 * (col > 0)
                    bottom, right = row + 100 - 11 * (row < 70), col + 100
                    right -= 11 * (col < 8900)
                    covered[top:bottom, left:right] = True
        assert np.isfinite(actual[:, covered]).all()
        found = np.isfinite(actual)
        assert np.abs(actual - image)[found].max() < 1e-6
        assert found.all(axis=0).sum() < 1.1 * covered.sum() + 10


class TestClassBlender:
    @pytest.mark.parametrize(
        ('shape', 'size', 'overlap'),
        [((130, 97), 48, 16), ((64, 200), 32, 15), ((70, 9000), 64, 24)],
    )
    def test_same(
        self, tmp_path: Path, shape: tuple[int, int], size: int, overlap: int
    ) -> None:
        """What tiles agree on."""
        image = np.random.default_rng(0).integers(0, 255, (1, *shape)).astype('float32')
        result = blend(
            tmp_path, image, lambda tile: tile, size, overlap, kind=ClassBlender
        )
        assert (np.rint(result) == image).all()

    @pytest.mark.parametrize('shape', [(70, 130), (40, 9000)])
    def test_no_mean(self, tmp_path: Path, shape: tuple[int, int]) -> None:
        """Each tile says something else: every pixel is from one that covers it."""
        numbers = iter(range(1000))
        image = np.zeros((1, *shape), dtype=np.float32)
        size, overlap = 40, 12
        result = np.rint(
            blend(
                tmp_path,
                image,
                lambda tile: np.full_like(tile, next(numbers)),
                size,
                overlap,
                kind=ClassBlender,
            )
        )[0]
        dataset = make_dataset(tmp_path, [shape])
        seen = np.zeros(shape, dtype=bool)
        for number, tile in enumerate(
            map(place, TileSampler(dataset, size=size, overlap=overlap))
        ):
            row, col, height, width = tile
            inside = np.zeros(shape, dtype=bool)
            inside[row : row + height, col : col + width] = True
            found = result == number
            assert found.any()
            assert not (found & ~inside).any()
            seen |= found
        assert seen.all()
