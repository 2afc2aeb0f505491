# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""The files of an area, and the record of what they were made of."""

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from typing import Any

from torchgeo.datasets.utils import Path

from ..datasets.archive import FOLDERS, find_list
from ..datasets.modalities import MODALITIES
from ..datasets.patch_files import AREA, SEASONS, patch_path
from ..raster.text import read_json
from ..raster.write import exists_error, write_text

#: Folder of the records beside those of the splits.
RECORDS = 'areas'

#: What to do if the area is there already.
ADVICE = 'take another number for the area, or replace all of its patches'


class Area:
    """An area of a Planet-CR tree that patches are added to.

    A record, ``areas/<season>_<number>.json``, says what its patches were made of, so that
    those of other scenes are not added to them.
    """

    def __init__(
        self, root: Path, split: str, name: str, made_of: Mapping[str, Any]
    ) -> None:
        """Initialize a new Area instance.

        Args:
            root: Folder that holds ``train`` and ``test``.
            split: Folder of the patches, 'train' or 'test'.
            name: Name of the area, ``<season>_<number>``.
            made_of: What its patches depend on, as JSON has it.

        Raises:
            ValueError: If the split or the name is unknown, or if *root* has a list of the
                patches of the split, in which new ones would be missing.
        """
        if split not in FOLDERS:
            raise ValueError(f"split={split!r} is not one of 'train' and 'test'")
        if not AREA.fullmatch(name):
            raise ValueError(
                f'aoi={name!r} is not the name of an area: take a season '
                f'({", ".join(SEASONS)}) and a number, such as summer_1'
            )
        listed = find_list(root, split)
        if listed is not None:
            raise ValueError(
                f'{listed} names the patches of {split}, and new ones would not be used: '
                'make them in another folder'
            )
        self.root, self.split, self.name = root, split, name
        self.made_of = json.loads(json.dumps(made_of))
        self.record = os.path.join(root, RECORDS, f'{name}.json')
        # Cloudy images first: without one, the others are no patch
        self._folders = [
            os.path.dirname(patch_path(root, folder, name, 1, modality))
            for modality in MODALITIES
            for folder in FOLDERS
        ]

    def check(self, sources: Iterable[Path], overwrite: bool) -> None:
        """Check that the patches that are there may stay, or be replaced.

        Args:
            sources: Files that are read.
            overwrite: Whether to replace them.

        Raises:
            FileExistsError: If they were made of other scenes, in another way or by others,
                and *overwrite* is not set.
            OSError: If the record cannot be read.
            ValueError: If *overwrite* would remove what is read.
        """
        if overwrite:
            folders = [os.path.join(os.path.realpath(f), '') for f in self._folders]
            for source in sources:
                if os.path.realpath(source).startswith(tuple(folders)):
                    raise ValueError(
                        f'{source} is among the patches of {self.name} that would be '
                        'replaced: take another number for the area'
                    )
            return
        try:
            before = read_json(self.record)
        except FileNotFoundError:
            if there := [folder for folder in self._folders if os.path.exists(folder)]:
                raise exists_error(
                    f'{there[0]} holds patches that were not made by this command',
                    ADVICE,
                ) from None
            return
        except OSError as error:
            raise OSError(
                f'{error}. It says what the patches of {self.name} were made of: {ADVICE} '
                'with --overwrite (overwrite=True)'
            ) from error
        if before != self.made_of:
            changed = [
                f'{key} {_of(before, key)} instead of {value!r}'
                for key, value in self.made_of.items()
                if _of(before, key) != repr(value)
            ]
            raise exists_error(
                f'{self.name} in {self.root} was made with {", ".join(changed)}', ADVICE
            )

    def begin(self, overwrite: bool) -> None:
        """Write the record, before the first patch.

        Args:
            overwrite: Whether to remove the patches that are there.

        Raises:
            OSError: If files cannot be removed or written.
        """
        if overwrite:
            for folder in filter(os.path.exists, self._folders):
                shutil.rmtree(folder)
        write_text(self.record, json.dumps(self.made_of, indent=1))

    def has_patch(self, number: int) -> bool:
        """Whether a patch is there.

        Args:
            number: Number of the patch.

        Returns:
            True if it is, with all of its files.
        """
        # Of the files of a patch, the cloudy image is written last
        path = patch_path(self.root, self.split, self.name, number, 'cloudy')
        return os.path.exists(path)


def _of(record: object, key: str) -> str:
    """What a record, which may be anything, says of an argument."""
    return repr(record.get(key)) if isinstance(record, dict) else 'nothing'
