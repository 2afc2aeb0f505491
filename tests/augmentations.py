# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Augmentations that change what is in the images of a batch."""

from torchgeo_planetcr.transforms import (
    BatchAugmentation,
    RandomBackscatterGain,
    RandomCloudPaste,
    RandomClouds,
    RandomModalityDropout,
    RandomSpeckle,
)

#: Keys that each changes.
CHANGES: dict[type[BatchAugmentation], set[str]] = {
    RandomBackscatterGain: {'image_s1'},
    RandomCloudPaste: {'image', 'mask_cloud'},
    RandomClouds: {'image', 'mask_cloud'},
    RandomModalityDropout: {'image_s1'},
    RandomSpeckle: {'image_s1'},
}
