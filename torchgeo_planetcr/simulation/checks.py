# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Checks of the arguments of simulations."""

#: Largest seed that simulations take.
MAX_SEED = 2**32 - 1


def check_range(name: str, value: int, low: int, high: int) -> None:
    """Check that an argument is in its range.

    Args:
        name: Name of the argument.
        value: Its value.
        low: Least value.
        high: Largest value.

    Raises:
        ValueError: If it is not.
    """
    if not low <= value <= high:
        raise ValueError(f'{name}={value} must be from {low} to {high}')
