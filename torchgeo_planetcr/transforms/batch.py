# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Augmentations of whole batches, in which one key follows from others."""

from typing import Any, ClassVar

import torch
from kornia.augmentation import IntensityAugmentationBase2D
from torch import Tensor
from torchgeo.datasets.utils import Sample


class BatchAugmentation(IntensityAugmentationBase2D):
    """Abstract base class for Kornia augmentations that also take a whole batch.

    They choose samples of a batch with probability *p*, change in these the keys that
    belong together, and leave all other samples and keys as they are. They augment
    plain tensors as Kornia's own augmentations do, also in
    :class:`kornia.augmentation.AugmentationSequential`.

    Random numbers come from PyTorch's default generator on the CPU. Large fields are
    drawn on the device of the batch, from a seed that is one of the parameters. So a
    call that is given the parameters of another one (``_params``) repeats it, on the
    same kind of device.
    """

    #: Keys that belong together. Parameters are drawn for the shape of the first one.
    keys: ClassVar[tuple[str, ...]]

    #: Whether a batch without them is left as it is.
    is_optional: ClassVar[bool] = False

    #: Whether a seed is among the parameters.
    draws_fields: ClassVar[bool] = False

    def generate_parameters(self, batch_shape: tuple[int, ...]) -> dict[str, Tensor]:
        """Draw parameters.

        Args:
            batch_shape: Shape of the images, (B, C, H, W).

        Returns:
            Parameters, of shape (B,), and the seed of shape () if there is one.
        """
        params = super().generate_parameters(batch_shape)
        if self.draws_fields:
            params['seed'] = torch.randint(2**63 - 1, ())
        return params

    def forward(
        self,
        input: Tensor | Sample,
        params: dict[str, Tensor] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Augment a batch, or images.

        Args:
            input: A batch that
                :class:`~torchgeo_planetcr.transforms.PlanetCRNormalize` has normalized,
                or images of shape (B, C, H, W).
            params: Parameters to use (defaults to drawing new ones).
            **kwargs: Parameters to override, for images only.

        Returns:
            A new dictionary with the same keys, shapes and types, or images of the same
            shape and type.

        Raises:
            ValueError: If the batch lacks a key that is not optional.
        """
        if isinstance(input, Tensor):
            return super().forward(input, params, **kwargs)
        missing = [repr(key) for key in self.keys if key not in input]
        if missing and self.is_optional:
            return dict(input)
        if missing:
            name = type(self).__name__
            raise ValueError(
                f'The batch has no {" and no ".join(missing)}, which {name} needs: add '
                f'the modality, or leave out {name}'
            )
        if params is None:
            params = self.forward_parameters(input[self.keys[0]].shape)
        self._params = params
        chosen = params['batch_prob'] > 0.5
        batch = dict(input)
        for key, after in self.apply_batch(batch, params).items():
            if key in batch:
                before = batch[key]
                # Nothing here waits for the device
                gate = chosen.to(before.device, non_blocking=True)
                gate = gate.view(-1, *[1] * (before.ndim - 1))
                batch[key] = torch.where(gate, after.to(before.dtype), before)
        return batch

    def apply_batch(self, batch: Sample, params: dict[str, Tensor]) -> Sample:
        """Augment all samples of a batch.

        Args:
            batch: A batch, not to be changed.
            params: Generated parameters.

        Returns:
            New values of the keys that change. Keys that the batch lacks are ignored.
        """
        (key,) = self.keys
        return {key: self.apply_transform(batch[key], params, self.flags)}


def make_generator(params: dict[str, Tensor], device: torch.device) -> torch.Generator:
    """Make the generator of the fields of a call.

    Args:
        params: Generated parameters, with a seed.
        device: Device to draw on.

    Returns:
        The generator.
    """
    return torch.Generator(device).manual_seed(int(params['seed']))
