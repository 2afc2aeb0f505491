# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""When an image was taken."""

import glob
import os
import re
from collections.abc import Callable, Iterator, Mapping
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

#: Words beside a date in the names of folders that hold images of one day. Others may be
#: those of an order, or of a project.
FOLDER_WORDS = re.compile(
    r'(?:[\W_]|s1[a-d]?|sentinel[-_ ]?1|asc(?:ending)?|desc(?:ending)?|vv|vh|grdh?|rtc|iw'
    r'|sar|radar)*',
    re.IGNORECASE,
)

#: Folders of a year, of a month and of a day in each other.
DAY_FOLDERS = re.compile(r'(?:^|/)(20\d\d)/(\d\d?)/(\d\d?)/')

#: Folders above a file whose names are looked at.
MAX_FOLDERS = 4

#: Tags that say when an image was taken, in lower case and without what is no letter. Planet
#: has ``ACQUISITIONDATETIME``, S1Tiling ``ACQUISITION_DATETIME``, OPERA
#: ``ZERO_DOPPLER_START_TIME``, and GDAL ``ACQUISITION_START_TIME`` from products of ESA.
TAG = re.compile(
    '(?:date|time|datetime|.*(?:acqui|sensing).*|.*start(?:date|time|datetime)'
    '|.*timecoveragestart|.*firstlinetime)'
)

#: What else such tags may say the time of.
OTHER_TIME = re.compile('stop|end|last|process|creat|updat')

#: In a TIFF this may be the day on which a program has written it.
LAST_TAG = 'tifftagdatetime'

#: A day, or a moment of it.
type Moment = date | datetime


def find_date(
    dataset: DatasetReader, path: str, given: Moment | None = None
) -> Moment | None:
    """Find out when an image was taken.

    The first that tells it counts: the name of the file, its tags, a STAC item or Planet's
    metadata beside it or above (``.json``), the names of its folders if they are those of
    products of Sentinel-1 or hardly more than a date, and ``TIFFTAG_DATETIME``. What a user
    gives counts more than these two, which may be the day of processing.

    Args:
        dataset: The open image.
        path: Its path.
        given: When it was taken by what a user says.

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
        or _first_date(tags, _is_time)
        or _date_beside(path)
        or given
        or _date_of_folder(path)
        or _first_date(tags, LAST_TAG.__eq__)
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


def _is_time(tag: str) -> bool:
    """Whether a tag says when an image was taken."""
    return bool(TAG.fullmatch(tag)) and not OTHER_TIME.search(tag)


def _first_date(
    tags: Mapping[str, Any], is_wanted: Callable[[str], bool]
) -> Moment | None:
    """The first tag that holds a date."""
    dates = (parse_date(str(value)) for tag, value in tags.items() if is_wanted(tag))
    return next(filter(None, dates), None)


def _date_of_folder(path: str) -> Moment | None:
    """Find a date in the name of a folder above a file."""
    folder = without_query(path)
    if days := DAY_FOLDERS.findall(folder.replace(os.sep, '/')):
        year, month, day = days[-1]
        return parse_date(f'{year}-{month:0>2}-{day:0>2}')
    for _ in range(MAX_FOLDERS):
        folder = os.path.dirname(folder)
        name = os.path.basename(folder)
        is_of_day = PRODUCT.match(name) or FOLDER_WORDS.fullmatch(DATE.sub('', name))
        if is_of_day and (found := parse_date(name)):
            return found
    return None


def _date_beside(path: str) -> Moment | None:
    """Find a date in a STAC item, or in Planet's metadata, beside a file."""
    for item in _items_beside(path):
        properties = item.get('properties')
        if isinstance(properties, dict):
            tags = {_letters(key): value for key, value in properties.items()}
            if found := _first_date(tags, _is_time):
                return found
    return None


def _items_beside(path: str) -> Iterator[dict[str, Any]]:
    """Read the items in the folder of a file, and above it, that name it or are called so."""
    folder, name = os.path.split(path)
    stem, _ = os.path.splitext(name)
    for place in (folder, os.path.join(folder, os.pardir)):
        for file in sorted(glob.glob(os.path.join(glob.escape(place), '*.json'))):
            called = os.path.splitext(os.path.basename(file))[0]
            called = called.removesuffix('_metadata')
            for item in _read_items(file):
                is_called = bool(called) and stem.startswith(called)
                if _names(item, path, place) or (place == folder and is_called):
                    yield item


def _read_items(path: str) -> Iterator[dict[str, Any]]:
    """Read the item in a file, or the items of a collection."""
    try:
        content = read_json(path)
    except OSError:
        # It belongs to other files, or else the date stays unknown, which is said
        return
    features = content.get('features') if isinstance(content, dict) else None
    for item in features if isinstance(features, list) else [content]:
        if isinstance(item, dict):
            yield item


def _names(item: dict[str, Any], path: str, place: str) -> bool:
    """Whether an item in a folder names a file, or in the same folder one called so."""
    assets = item.get('assets')
    hrefs = [
        without_query(str(asset.get('href')))
        for asset in (assets.values() if isinstance(assets, dict) else ())
        if isinstance(asset, dict)
    ]
    folder, name = os.path.split(path)
    if place == folder:
        return name in {os.path.basename(href) for href in hrefs}
    files = {os.path.realpath(os.path.join(place, href)) for href in hrefs}
    return os.path.realpath(path) in files
