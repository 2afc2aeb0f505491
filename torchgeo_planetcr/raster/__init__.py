# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Raster files and pixel grids. Nothing here knows Planet-CR or PyTorch."""
