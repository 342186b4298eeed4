"""Somebody's own data on its way into shards: a folder of files, arrays with labels, and the digits of scikit-learn."""

from modalign.data.sources.arrays import ArraySource
from modalign.data.sources.digits import DigitsSource
from modalign.data.sources.folder import FolderSource
from modalign.data.sources.items import Dropped, Item

__all__ = ["ArraySource", "DigitsSource", "Dropped", "FolderSource", "Item"]
