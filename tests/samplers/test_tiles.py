# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

from itertools import groupby, pairwise
from pathlib import Path

import numpy as np
import pytest
from fake_process import process
from tile_places import make_dataset, place

from torchgeo_planetcr.datasets import NativeSlice
from torchgeo_planetcr.samplers import TileBatchSampler, TileSampler


def number(tile: NativeSlice) -> int:
    """Number of the scene of a tile."""
    return int(Path(str(tile.filepath)).stem)


class TestTileSampler:
    @pytest.mark.parametrize(
        ('height', 'width', 'size', 'overlap'),
        [(1, 1, 8, 2), (8, 8, 8, 2), (9, 30, 8, 2), (100, 75, 32, 8), (64, 64, 16, 0)],
    )
    def test_cover(
        self, tmp_path: Path, height: int, width: int, size: int, overlap: int
    ) -> None:
        count = np.zeros((height, width), dtype=int)
        sampler = TileSampler(
            make_dataset(tmp_path, [(height, width)]), size=size, overlap=overlap
        )
        tiles = list(map(place, sampler))
        assert len(tiles) == len(sampler) == len(set(tiles))
        assert {tile[2:] for tile in tiles} == {(min(size, height), min(size, width))}
        for row, col, rows, cols in tiles:
            assert 0 <= row <= height - rows
            assert 0 <= col <= width - cols
            count[row : row + rows, col : col + cols] += 1
        assert count.min() == 1
        # From top to bottom, from left to right, with no less overlap than is asked for
        assert tiles == sorted(tiles)
        for axis in (0, 1):
            starts = sorted({tile[axis] for tile in tiles})
            assert all(0 < b - a <= size - overlap for a, b in pairwise(starts))

    def test_scenes(self, tmp_path: Path) -> None:
        """One after the other, those smaller than a tile included."""
        shapes = [(40, 90), (20, 50), (9, 7), (33, 32)]
        sampler = TileSampler(make_dataset(tmp_path, shapes), size=32, overlap=4)
        tiles = list(sampler)
        assert [key for key, _ in groupby(tiles, number)] == [0, 1, 2, 3]
        counts = [len(list(group)) for _, group in groupby(tiles, number)]
        assert counts == [2 * 4, 1 * 2, 1, 2 * 1]
        assert len(sampler) == sum(counts)
        assert [place(tile)[2:] for tile in tiles[8:11]] == [(20, 32), (20, 32), (9, 7)]
        assert {str(tile.crs) for tile in tiles[8:10]} == {'EPSG:32647'}

    @pytest.mark.parametrize('batch_size', [1, 3, 100])
    def test_batches(self, tmp_path: Path, batch_size: int) -> None:
        shapes = [(40, 90), (20, 50), (9, 7)]
        sampler = TileSampler(make_dataset(tmp_path, shapes), size=32, overlap=4)
        batches = TileBatchSampler(sampler, batch_size)
        found = list(batches)
        assert [tile for batch in found for tile in batch] == list(sampler)
        for batch in found:
            assert len({(tile.filepath, place(tile)[2:]) for tile in batch}) == 1
        sizes = [
            [len(batch) for batch in group]
            for _, group in groupby(found, key=lambda batch: number(batch[0]))
        ]
        assert (
            sizes
            == {
                1: [[1] * 8, [1] * 2, [1]],
                3: [[3, 3, 2], [2], [1]],
                100: [[8], [2], [1]],
            }[batch_size]
        )
        assert len(batches) == sampler.num_batches(batch_size) == len(found)

    def test_keep(self, tmp_path: Path) -> None:
        """Tiles and whole scenes that are not wanted."""
        dataset = make_dataset(tmp_path, [(40, 90), (20, 50), (9, 7)])
        every = list(TileSampler(dataset, size=32, overlap=4))
        wanted = [tile for tile in every if number(tile) != 1 and place(tile)[1] < 50]
        assert 3 < len(wanted) < 9
        sampler = TileSampler(
            dataset, size=32, overlap=4, keep=lambda tile: tile in wanted
        )
        assert sampler.skipped == 0
        batches = list(TileBatchSampler(sampler, 2))
        assert [tile for batch in batches for tile in batch] == wanted
        assert sampler.skipped == len(every) - len(wanted)
        # Those of the iteration before do not count
        assert list(sampler) == wanted
        assert sampler.skipped == len(every) - len(wanted)
        # It is not known before what will be left out
        assert len(sampler) == len(every)

    @pytest.mark.parametrize('processes', [1, 2, 3, 7])
    def test_processes(self, tmp_path: Path, processes: int) -> None:
        """Each scene in one process, and about as many tiles in each."""
        shapes = [(40, 32), (32, 90), (9, 7), (90, 90), (32, 70)]
        sampler = TileSampler(make_dataset(tmp_path, shapes), size=32, overlap=4)
        expected, shares = list(sampler), []
        for rank in range(processes):
            with process(rank, processes):
                shares.append(list(sampler))
                assert len(sampler) == len(shares[-1])
                batches = list(TileBatchSampler(sampler, 4))
                assert len(batches) == sampler.num_batches(4)
                assert [tile for batch in batches for tile in batch] == shares[-1]
        scenes = [{number(tile) for tile in share} for share in shares]
        assert sorted(scene for share in scenes for scene in share) == [0, 1, 2, 3, 4]
        found = [place(tile) for share in shares for tile in share]
        assert sorted(found) == sorted(map(place, expected))
        # 2, 4, 1, 16 and 3 tiles
        assert [len(share) for share in shares] == {
            1: [26],
            2: [16 + 3 + 1, 4 + 2],
            3: [16 + 2, 4 + 1, 3],
            7: [16, 4, 3, 2, 1, 0, 0],
        }[processes]
        assert list(sampler) == expected

    @pytest.mark.parametrize(('size', 'overlap'), [(8, 4), (8, -1), (0, 0), (8, 9)])
    def test_overlap(self, tmp_path: Path, size: int, overlap: int) -> None:
        dataset = make_dataset(tmp_path, [(20, 20)])
        with pytest.raises(
            ValueError, match=f'overlap={overlap} must be less than half'
        ):
            TileSampler(dataset, size=size, overlap=overlap)

    @pytest.mark.parametrize('batch_size', [0, -1])
    def test_batch_size(self, tmp_path: Path, batch_size: int) -> None:
        sampler = TileSampler(make_dataset(tmp_path, [(20, 20)]))
        with pytest.raises(
            ValueError, match=f'batch_size={batch_size} must be positive'
        ):
            TileBatchSampler(sampler, batch_size)
