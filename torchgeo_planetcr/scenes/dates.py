# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""When an image was taken."""

import glob
import os
import re
from collections.abc import Iterator, Mapping
from datetime import date, datetime
from typing import Any

from rasterio.io import DatasetReader

from ..raster.text import read_json
from .names import without_query

#: A date in a text, with the time of day if it follows: 20230210_101500,
#: 2023-02-10T10:15:00Z, 2023:02:10 10:15:00.
DATE = re.compile(
    r'(?<!\d)(20\d\d)([-_.:]?)(\d\d)\2(\d\d)'
    r'(?:[T_ ]?(\d\d):?([0-5]\d):?([0-5]\d)(?!\d))?(?!\d)',
    re.IGNORECASE,
)

#: How the folders of products of Sentinel-1 are called, whose files may be called less.
PRODUCT = re.compile(r'(S1[A-D]_|OPERA_L2_RTC-S1_)', re.IGNORECASE)

#: Folders above a file whose names are looked at.
MAX_FOLDERS = 4

#: Tags that say when an image was taken, in lower case and without what is no letter. Planet
#: has ``ACQUISITIONDATETIME``, S1Tiling ``ACQUISITION_DATETIME``, OPERA
#: ``ZERO_DOPPLER_START_TIME``.
TAGS = (
    'acquisitiondatetime',
    'acquisitiondate',
    'acquired',
    'dateacquired',
    'datetime',
    'sensingtime',
    'zerodopplerstarttime',
    'productstarttime',
    'starttime',
    'startdatetime',
    'firstlinetime',
)

#: In a TIFF this may be the day on which a program has written it.
LAST_TAG = 'tifftagdatetime'

#: A day, or a moment of it.
type Moment = date | datetime


def find_date(dataset: DatasetReader, path: str) -> Moment | None:
    """Find out when an image was taken.

    The first that tells it counts: the name of the file, its tags, a STAC item or Planet's
    metadata beside it (``.json``), the names of its folders if they are those of products
    of Sentinel-1 or nothing but a date, and ``TIFFTAG_DATETIME``.

    Args:
        dataset: The open image.
        path: Its path.

    Returns:
        Its day, with the time if that is known, in UTC; None if nothing tells it.
    """
    tags = {
        _letters(key): value
        for namespace in (None, 'IMAGERY')
        for key, value in dataset.tags(ns=namespace).items()
    }
    return (
        date_in_name(path)
        or _first_date(tags, TAGS)
        or _date_beside(path)
        or _date_of_folder(path)
        or _first_date(tags, (LAST_TAG,))
    )


def date_in_name(path: str) -> Moment | None:
    """Find a date in the name of a file.

    Args:
        path: The file, or an address, whose query (``?...``) is no part of its name.

    Returns:
        The first date in it, None if there is none.
    """
    return parse_date(os.path.basename(without_query(path)))


def parse_date(text: str) -> Moment | None:
    """Find a date in a text.

    Args:
        text: The text.

    Returns:
        The first one, with the time if that follows, None if there is none.
    """
    for match in DATE.finditer(text):
        year, _, month, day, *time = match.groups()
        parts = int(year), int(month), int(day)
        try:
            if time[0] is None:
                return date(*parts)
            hour, minute, second = map(int, time)
            return datetime(*parts, hour, minute, second)
        except ValueError:
            continue
    return None


def to_day(moment: Moment) -> date:
    """Leave out the time of day.

    Args:
        moment: A day, or a moment of it.

    Returns:
        The day.
    """
    return moment.date() if isinstance(moment, datetime) else moment


def _letters(key: str) -> str:
    """Letters of the name of a tag, in lower case."""
    return re.sub('[^a-z]', '', key.lower())


def _first_date(tags: Mapping[str, Any], names: tuple[str, ...]) -> Moment | None:
    """The first tag that holds a date."""
    dates = (parse_date(str(tags[name])) for name in names if name in tags)
    return next(filter(None, dates), None)


def _date_of_folder(path: str) -> Moment | None:
    """Find a date in the name of a folder above a file."""
    folder = without_query(path)
    for _ in range(MAX_FOLDERS):
        folder = os.path.dirname(folder)
        name = os.path.basename(folder)
        if PRODUCT.match(name) or DATE.fullmatch(name):
            return parse_date(name)
    return None


def _date_beside(path: str) -> Moment | None:
    """Find a date in a STAC item, or in Planet's metadata, beside a file."""
    for item in _items_beside(path):
        properties = item.get('properties')
        if isinstance(properties, dict):
            tags = {_letters(key): value for key, value in properties.items()}
            if found := _first_date(tags, TAGS):
                return found
    return None


def _items_beside(path: str) -> Iterator[dict[str, Any]]:
    """Read the items in the folder of a file that are called as it or name it."""
    folder, name = os.path.split(path)
    stem, _ = os.path.splitext(name)
    for file in sorted(glob.glob(os.path.join(glob.escape(folder), '*.json'))):
        try:
            item = read_json(file)
        except OSError:
            # It belongs to other files, or else the date stays unknown, which is said
            continue
        if not isinstance(item, dict):
            continue
        called = os.path.splitext(os.path.basename(file))[0].removesuffix('_metadata')
        assets = item.get('assets')
        hrefs = [
            str(asset.get('href'))
            for asset in (assets.values() if isinstance(assets, dict) else ())
            if isinstance(asset, dict)
        ]
        names = {os.path.basename(without_query(href)) for href in hrefs}
        if name in names or (called and stem.startswith(called)):
            yield item
