# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Sections of the report, in a module each: a new figure is shown in one of them."""
