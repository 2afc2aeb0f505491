# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Download of the sample of Planet-CR that its authors publish."""

import os
from collections.abc import Mapping
from http.client import HTTPException

from torchgeo.datasets.utils import Path, download_url

SAMPLE_URL = (
    'https://raw.githubusercontent.com/zhu-xlab/Planet-CR/'
    '52d05bdd0ccfbeb6c1d8c39ca748c8731f16eeb2/Planet-CR/'
)

#: SHA-256 of each file of the sample.
SAMPLE_FILES: Mapping[str, str] = {
    'one_test_sample.csv': 'b6ff386d41e47fa8c4a1ffe0057d33d8858e3a9a151c772f94c9580d2209313e',
    'one_train_sample.csv': '9ca46adcc9dcae5137792a483913bb5cf93b5acbf59e7ee7c23a1b850472178e',
    'test/S1_summer/S1_summer_33/S1_summer_33_p_1.tif': '90c4482aa2e49498a4c0a2197dcc27588e0fc8d82da0a1b03c02fb415d6ad0dd',
    'test/cloudmask_summer/cloudmask_summer_33/cloudmask_summer_33_p_1.npy': '254a6b71a40f79d15bc0998b54280c5d2883f91d119e78a115d44cb118542d1a',
    'test/landcover_summer/landcover_summer_33/landcover_summer_33_p_1.tif': '95035910b89fa85481c9578416ae77cc441e806372e73a145886d90f95200cec',
    'test/planet_cloudfree_summer/planet_cloudfree_summer_33/planet_cloudfree_summer_33_p_1.tif': '6c1b094176100a065cd180a3c7e53dc65278663c1b092982c23410e2eb10f51f',
    'test/planet_cloudy_summer/planet_cloudy_summer_33/planet_cloudy_summer_33_p_1.tif': 'd6c0cacad8b84a9a94a348aa93aa5c93a2f3c6f8649f605b0e8964292b7ce866',
    'train/S1_fall/S1_fall_1/S1_fall_1_p_457.tif': '530e244ff201ea5833c5275e0d65bec1c6e8e56b210a73948d1218b731910ad2',
    'train/cloudmask_fall/cloudmask_fall_1/cloudmask_fall_1_p_457.npy': '0fc1c98dd5990ddd7fed44337c25cd60173a1d4cdf86d8fa6b2c5f79f570ef0b',
    'train/landcover_fall/landcover_fall_1/landcover_fall_1_p_457.tif': 'fde9911d0c59f334635f8eca340c5dc6d147554c6a7ba986a82b4a486c27049a',
    'train/planet_cloudfree_fall/planet_cloudfree_fall_1/planet_cloudfree_fall_1_p_457.tif': 'c255e297ef2b69cf5028f16c0973cbdfc611aa2bc8115fcd464fd3a032d12fe7',
    'train/planet_cloudy_fall/planet_cloudy_fall_1/planet_cloudy_fall_1_p_457.tif': 'dc9733e8980053aa66af15e2f328a38e0e854c50dfcd5fbc434df3233ddf5dc9',
}


def download_sample(root: Path) -> None:
    """Download the two patches that the authors of Planet-CR publish.

    A file that exists and has the right checksum is not downloaded again, so that an
    interrupted download goes on where it stopped.

    Args:
        root: Folder to put ``train``, ``test`` and the lists in.

    Raises:
        RuntimeError: If a file cannot be fetched or its checksum is wrong.
    """
    for name, sha256 in SAMPLE_FILES.items():
        path = os.path.join(root, name)
        try:
            download_url(SAMPLE_URL + name, *os.path.split(path), sha256=sha256)
        except RuntimeError:
            # TorchGeo moves a file to its place before it compares the checksum.
            os.remove(path)
            raise
        except (OSError, HTTPException) as error:
            raise RuntimeError(
                f'{SAMPLE_URL}{name} cannot be fetched ({error}): run the same command '
                'again, which goes on from here'
            ) from error
