# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""What is taken for granted about files that do not say it."""

import warnings


class AssumptionWarning(UserWarning):
    """Something about a file was found out by a guess.

    The message names the file, what was taken for granted, and the option that says
    otherwise. The same message is shown once.
    """


def assume(text: str) -> None:
    """Say in one line what is taken for granted.

    Args:
        text: The file, what is taken for granted, and what overrules it.
    """
    warnings.warn(text, AssumptionWarning, stacklevel=2)
