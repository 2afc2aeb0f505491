# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Models as files that run without this package."""

import os

import torch
from torch.export import Dim

from ..raster.write import appears_whole, cannot_write
from .aligncr import AlignCR
from .dsen2cr import DSen2CR
from .encoder_decoder import EncoderDecoder
from .glfcr import GLFCR


def export_model(
    model: AlignCR | DSen2CR | EncoderDecoder | GLFCR, path: str | os.PathLike[str]
) -> None:
    """Write a model to a file that runs without this package.

    ``torch.export.load(path).module()`` reads it, and is called as the model is, on
    images of any number, height and width that the model takes (more than 16 pixels
    each for GLF-CR and Align-CR). It does not check that values are finite. It needs
    PyTorch and, for Align-CR, ``import torchvision`` before it is read.

    Args:
        model: Model to export, on the device on which the file will run. It is
            exported in evaluation mode.
        path: Path of the file, which conventionally ends in ``.pt2``.

    Raises:
        OSError: If the file cannot be written.
    """
    training = model.training
    weight = next(model.parameters())
    # An unusual size, so that PyTorch does not take it for a constant
    image, image_s1 = (
        torch.zeros(2, channels, 72, 104, dtype=weight.dtype, device=weight.device)
        for channels in (model.in_channels, model.sar_channels)
    )
    sizes = {0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC}
    try:
        with torch.no_grad():
            program = torch.export.export(
                model.eval(), (image, image_s1), dynamic_shapes=(sizes, sizes)
            )
    finally:
        model.train(training)

    with appears_whole(path) as (unfinished,):
        try:
            with open(unfinished, 'wb') as file:
                torch.export.save(program, file)
        except OSError as error:
            raise cannot_write(path, error) from error
