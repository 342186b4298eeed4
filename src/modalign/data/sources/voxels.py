"""Brain responses of the Natural Scenes Dataset, in its own layout: trials in HDF5, captions from COCO."""

from __future__ import annotations

import gzip
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from modalign.data.disk import disk_error
from modalign.data.order import derive_seed
from modalign.data.sources.encode import encode_array
from modalign.data.sources.items import Dropped, Members, Unit
from modalign.data.sources.rows import RowReader, make_rows
from modalign.data.sources.tables import Row, column, need_package
from modalign.errors import ModalignError

_NIFTI_TYPES = {2: "u1", 4: "<i2", 8: "<i4", 16: "<f4", 64: "<f8", 256: "i1", 512: "<u2"}
_SCALE = 300
_OPEN_SESSIONS = 4


class VoxelSource:
    """One sample for each picture that a subject saw: its responses [repeats, voxels], and the picture's captions.

    Below `folder`: nsddata/experiments/nsd/nsd_stim_info_merged.csv, nsddata/ppdata/<subject>/behav/responses.tsv, the
    mask nsddata/ppdata/<subject>/<space>/roi/<roi>.nii.gz (voxels of value 1, in the order of its x, y, z), and
    nsddata_betas/ppdata/<subject>/<space>/<betas>/betas_session<NN>.hdf5 (or .npy [trials, voxels], masked already).
    `captions` are COCO's. Pictures that all subjects saw (shared1000) are the test split; `holdout` takes shares of the
    others by picture. `standardise` takes each voxel's mean and deviation over its session off (as MindEye does).
    """

    def __init__(
        self,
        folder: str | Path,
        captions: Sequence[str] = ("annotations/captions_train2017.json", "annotations/captions_val2017.json"),
        subjects: Sequence[str] = ("subj01",),
        betas: str = "betas_fithrf_GLMdenoise_RR",
        space: str = "func1pt8mm",
        roi: str = "nsdgeneral",
        holdout: Mapping[str, float] | None = None,
        standardise: bool = True,
    ) -> None:
        self.folder, self.captions, self.subjects = Path(folder), tuple(captions), tuple(subjects)
        self.betas, self.space, self.roi, self.standardise = betas, space, roi, standardise
        self.holdout = dict(holdout or {})
        if not self.folder.is_dir():
            raise ModalignError(f"no raw copy at {self.folder}: set make.folder to the folder that holds nsddata")
        self._masks: dict[str, np.ndarray] = {}
        self._sessions: dict[Path, Any] = {}
        self._moments: dict[Path, tuple[np.ndarray, np.ndarray]] = {}

    def splits(self) -> list[str]:
        """Pictures of one subject alone, those held out, and those that all saw."""
        return ["train", *self.holdout, "test"]

    def units(self, samples_per_shard: int, splits: Collection[str]) -> Iterator[Unit | Dropped]:
        """Pieces of so many pictures, each as (key, subject, trials, words)."""
        reader = RowReader(self.folder)
        captions = self._captions(reader)
        stimuli = {}
        for row in _read(reader, "nsddata/experiments/nsd/nsd_stim_info_merged.csv"):
            stimuli[int(column(row, "nsdId", "stimuli"))] = row
        waiting: dict[str, list[Any]] = {}
        for subject in self.subjects:
            for picture, trials in sorted(self._trials(reader, subject).items()):
                key = f"{subject}-{picture:05d}"
                stimulus = stimuli.get(picture, {})
                split = self._split(picture, stimulus)
                if split not in splits:
                    continue
                words = captions.get(str(stimulus.get("cocoId")))
                there = [trial for trial in trials if self._file(subject, trial[0]).is_file()]
                if not words or not there:
                    yield Dropped(key, "no responses to it" if words else "no caption", split)
                    continue
                record = {"captions": words, "subject": subject, "picture": picture}
                waiting.setdefault(split, []).append([key, subject, there, record])
                if len(waiting[split]) == samples_per_shard:
                    yield Unit(split, waiting.pop(split))
        for split, rest in waiting.items():
            yield Unit(split, rest)

    def convert(self, unit: Unit) -> Iterator[tuple[str, Members] | Dropped]:
        """The responses of a piece as .npy [repeats, voxels]."""
        for key, subject, trials, record in unit.payload:
            try:
                rows = [self._response(subject, session, place) for session, place in trials]
                content = encode_array(np.stack(rows), "npy", None, None)
            except ValueError as error:
                yield Dropped(key, str(error))
                continue
            yield key, {"npy": content, "json": json.dumps(record, ensure_ascii=False).encode()}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_masks": {}, "_sessions": {}, "_moments": {}}

    def _captions(self, reader: RowReader) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for file in self.captions:
            for row in _read(reader, file, "annotations"):
                found.setdefault(str(row["image_id"]), []).append(" ".join(str(row["caption"]).split()))
        return found

    def _trials(self, reader: RowReader, subject: str) -> dict[int, list[tuple[int, int]]]:
        """Picture (counted from 0) to its trials, as session and place in that session's file."""
        found: dict[int, list[tuple[int, int]]] = {}
        places: dict[int, int] = {}
        for row in _read(reader, f"nsddata/ppdata/{subject}/behav/responses.tsv"):
            session = int(float(column(row, "SESSION", "responses.tsv")))
            place = places[session] = places.get(session, -1) + 1
            found.setdefault(int(float(column(row, "73KID", "responses.tsv"))) - 1, []).append((session, place))
        return found

    def _split(self, picture: int, stimulus: Row) -> str:
        if str(stimulus.get("shared1000")).lower() in ("true", "1"):
            return "test"
        place, end = derive_seed(0, "holdout", picture) / (1 << 64), 0.0
        for name, share in self.holdout.items():
            end += share
            if place < end:
                return name
        return "train"

    def _file(self, subject: str, session: int) -> Path:
        folder = self.folder / "nsddata_betas" / "ppdata" / subject / self.space / self.betas
        masked = folder / f"betas_session{session:02d}.npy"
        return masked if masked.is_file() else masked.with_suffix(".hdf5")

    def _response(self, subject: str, session: int, place: int) -> np.ndarray:
        path = self._file(subject, session)
        trials = self._session(path)
        if place >= len(trials):
            raise ValueError("a trial that its session's file lacks")
        response = self._masked(subject, np.asarray(trials[place]))
        if self.standardise:
            mean, deviation = self._moment(path, subject)
            response = (response - mean) / deviation
        return response

    def _session(self, path: Path) -> Any:
        """The trials of a session, on disk."""
        if path not in self._sessions:
            while len(self._sessions) >= _OPEN_SESSIONS:
                del self._sessions[next(iter(self._sessions))]
            try:
                if path.suffix == ".npy":
                    self._sessions[path] = np.load(path, mmap_mode="r", allow_pickle=False)
                else:
                    self._sessions[path] = _hdf5(path)["betas"]
            except (OSError, KeyError) as error:
                raise ValueError("a session's file is not readable") from error
        return self._sessions[path]

    def _moment(self, path: Path, subject: str) -> tuple[np.ndarray, np.ndarray]:
        """Mean and deviation of each voxel over a session's trials."""
        if path not in self._moments:
            trials = self._session(path)
            total = np.stack([self._masked(subject, np.asarray(trials[place])) for place in range(len(trials))])
            self._moments[path] = total.mean(axis=0), np.maximum(total.std(axis=0), 1e-6)
        return self._moments[path]

    def _masked(self, subject: str, volume: np.ndarray) -> np.ndarray:
        """The voxels of a trial that count, in percent of signal change, as float32 [voxels]."""
        if volume.ndim == 1:
            return volume.astype(np.float32)
        if subject not in self._masks:
            path = self.folder / "nsddata" / "ppdata" / subject / self.space / "roi" / f"{self.roi}.nii.gz"
            self._masks[subject] = read_nifti(path) == 1
        mask = self._masks[subject]
        volume = volume.T  # HDF5 holds z, y, x
        if volume.shape != mask.shape:
            raise ModalignError(f"{subject}: responses are {list(volume.shape)}, the mask {list(mask.shape)}")
        return volume[mask].astype(np.float32) / _SCALE


def read_nifti(path: Path) -> np.ndarray:
    """The volume [x, y, z] of a NIfTI-1 file (.nii.gz); raises ModalignError where it is none."""
    try:
        data = gzip.decompress(path.read_bytes())
    except EOFError as error:
        raise ModalignError(f"{path} is damaged: it ends too early") from error
    except OSError as error:
        raise disk_error(error, path, "read") from error
    if len(data) < 352 or int.from_bytes(data[:4], "little") != 348:
        raise ModalignError(f"{path} is no NIfTI-1 file")
    dims = np.frombuffer(data, "<i2", 8, 40)
    kind, offset = int(np.frombuffer(data, "<i2", 1, 70)[0]), int(np.frombuffer(data, "<f4", 1, 108)[0])
    shape = tuple(int(size) for size in dims[1:4])
    if kind not in _NIFTI_TYPES or len(data) < offset + np.dtype(_NIFTI_TYPES[kind]).itemsize * int(np.prod(shape)):
        raise ModalignError(f"{path}: a NIfTI volume of type {kind} and shape {list(shape)} cannot be read")
    return np.frombuffer(data, _NIFTI_TYPES[kind], int(np.prod(shape)), offset).reshape(shape, order="F")


def _read(reader: RowReader, file: str, at: str = "") -> Iterator[Row]:
    (rows,) = make_rows({"file": file, "at": at}, "make")
    for row in reader.read(rows):
        assert not isinstance(row, Dropped)  # nothing is joined here
        yield row


def _hdf5(path: Path) -> Any:
    try:
        import h5py
    except ImportError as error:
        raise need_package("h5py", "HDF5") from error
    return h5py.File(path, "r")
