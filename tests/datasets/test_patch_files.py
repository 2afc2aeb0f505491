# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray

from torchgeo_planetcr.datasets import patch_files
from torchgeo_planetcr.datasets.modalities import MODALITIES, ModalityName
from torchgeo_planetcr.datasets.patch_files import patch_path, write_patch
from torchgeo_planetcr.raster.grid import Grid

AREA = 'fall_1'


@pytest.fixture
def images() -> dict[ModalityName, tuple[NDArray[Any], Grid]]:
    """Arrays of float64, whatever the type in the archive."""
    images = {}
    for name, row in MODALITIES.items():
        size = 9 if row.is_coarse else 30
        grid = Grid('EPSG:32646', 5e5, 2e6, row.resolution, row.resolution, size, size)
        rng = np.random.default_rng(row.list_column)
        shape = max(len(row.bands), 1), size, size
        images[name] = rng.integers(0, 2, shape).astype(np.float64), grid
    return images


class TestWritePatch:
    def test_files(self, tmp_path: Path, images: Any) -> None:
        write_patch(tmp_path, 'train', AREA, 7, images, 'made by a test')
        files = {path for path in tmp_path.rglob('*') if path.is_file()}
        paths = {
            name: Path(patch_path(tmp_path, 'train', AREA, 7, name)) for name in images
        }
        assert files == set(paths.values())
        assert [path.name for path in tmp_path.iterdir()] == ['train']
        mask = np.load(paths.pop('cloud_mask'), allow_pickle=False)
        assert mask.dtype == bool
        assert (mask == images['cloud_mask'][0][0]).all()
        for name, path in paths.items():
            row, (array, grid) = MODALITIES[name], images[name]
            with rasterio.open(path) as src:
                assert src.dtypes[0] == np.dtype(row.dtype)
                assert src.nodata == (0 if name in ('cloudy', 'clear') else None)
                assert src.tags()['TIFFTAG_IMAGEDESCRIPTION'] == 'made by a test'
                assert src.bounds == grid.bounds
                assert src.compression is None
                assert (src.read() == array).all()

    def test_cloudy_image_last(
        self, tmp_path: Path, images: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nothing appears before all is written."""
        written = []

        def fail_at_last(path: Path, modality: ModalityName, *args: Any) -> None:
            written.append(modality)
            if modality == 'cloudy':
                raise OSError('no space')

        monkeypatch.setattr(patch_files, '_write_image', fail_at_last)
        pattern = r'planet_cloudy_fall_1_p_7\.tif cannot be written.*no space'
        with pytest.raises(OSError, match=pattern):
            write_patch(tmp_path, 'test', AREA, 7, images)
        assert len(written) == len(images)
        assert list(tmp_path.iterdir()) == []
