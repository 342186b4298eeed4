"""Raw data on their way into shards: somebody's own folders and arrays, and the layouts of published datasets."""

from modalign.data.sources.annotations import AnnotationSource
from modalign.data.sources.arrays import ArraySource
from modalign.data.sources.derived import DerivedMaps
from modalign.data.sources.digits import DigitsSource
from modalign.data.sources.folder import FolderSource
from modalign.data.sources.items import Dropped, Item, Unit, UnitSource
from modalign.data.sources.tars import TarSource
from modalign.data.sources.voxels import VoxelSource

__all__ = [
    "AnnotationSource",
    "ArraySource",
    "DerivedMaps",
    "DigitsSource",
    "Dropped",
    "FolderSource",
    "Item",
    "TarSource",
    "Unit",
    "UnitSource",
    "VoxelSource",
]
