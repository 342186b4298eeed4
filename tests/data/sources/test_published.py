"""Every published dataset of the paper in miniature, in its own layout: converted, counted, read back as samples."""

import csv
import gzip
import io
import json
import pickle
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from modalign.data.dataset import Source
from modalign.data.decoders import (
    DepthDecoder,
    ImageDecoder,
    NormalDecoder,
    PointDecoder,
    SeriesDecoder,
    SpectrogramDecoder,
    VectorDecoder,
    VideoDecoder,
)
from modalign.data.make import make_shards
from modalign.data.order import Stream
from modalign.data.reader import ShardReader
from modalign.data.recipes import load_recipe
from modalign.data.report import REPORT_NAME
from modalign.data.templates import CaptionTemplate, ChatTemplate
from modalign.types import MediaSpan, TextSpan

RECIPES = Path(__file__).parents[3] / "data_recipes"
DECODERS = {
    "image": ImageDecoder(16), "video": VideoDecoder(2, 16), "audio": SpectrogramDecoder(8000, 8, 16),
    "point": PointDecoder(8), "depth": DepthDecoder(16, 10.0), "normal": NormalDecoder(16),
    "imu": SeriesDecoder(400, 6), "fmri": VectorDecoder(),
}  # fmt: skip
PROMPTS = {modality: [f"Provide a caption for the {modality}."] for modality in DECODERS}
MINIATURES = {}
ONE_WORD = " Answer the question using a single word or phrase."
MISSING = "the file is missing"


@dataclass
class Expected:
    """What comes of a miniature: samples by split, drops by reason, and words that a sample of a split must say."""

    written: dict
    dropped: dict = field(default_factory=dict)
    says: dict = field(default_factory=dict)  # split: (question or None, answer)


def miniature(*names):
    def note(build):
        MINIATURES.update(dict.fromkeys(names, build))
        return build

    return note


def put(root, name, content):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())


def put_csv(root, name, header, rows, delimiter=","):
    text = io.StringIO()
    table = csv.writer(text, delimiter=delimiter)
    if header:
        table.writerow(header)
    table.writerows(rows)
    put(root, name, text.getvalue().encode())


def put_tar(root, name, samples):
    root.mkdir(parents=True, exist_ok=True)
    with tarfile.open(root / name, "w") as tar:
        for key, members in samples:
            for extension, content in members.items():
                entry = tarfile.TarInfo(f"{key}.{extension}")
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))


def talk(*turns, mark="<image>"):
    said = [{"from": "human" if n % 2 == 0 else "gpt", "value": text} for n, text in enumerate(turns)]
    said[0]["value"] = f"{mark}\n{said[0]['value']}" if mark else said[0]["value"]
    return said


def img2dataset(root, media, counts=(4, 2, 2)):
    for tar, count in enumerate(counts):
        samples = []
        for number in range(count):
            key = f"{tar:05d}{number:04d}"
            words = {"caption": f"picture {key}", "url": "http://x", "key": key, "status": "success", "exif": "{}"}
            members = {"jpg": media.picture(number), "txt": words["caption"].encode()}
            samples.append((key, members | {"json": json.dumps(words).encode()}))
        if tar == 0:
            empty = json.dumps({"caption": None, "key": "x"}).encode()
            samples += [("000009998", {"jpg": media.picture(1), "json": empty}), ("000009999", {"txt": b"no picture"})]
        put_tar(root, f"{tar:05d}.tar", samples)
        put(root, f"{tar:05d}_stats.json", {"count": count})


@miniature("laion400m", "laion_coco")
def pairs_of_the_web(root, media):
    img2dataset(root, media)
    dropped = {"no caption": 1, "no .json in it (it has txt)": 1}
    return Expected({"train": 4, "val": 2, "test": 2}, dropped, {"train": (None, "picture 000000000")})


@miniature("cc3m_depth", "cc3m_normal")
def maps_of_pictures(root, media):
    img2dataset(root, media)
    dropped = {"no caption": 1, "no .jpg in it": 1}
    return Expected({"train": 4, "val": 2, "test": 2}, dropped, {"train": (None, "picture 000000000")})


@miniature("webvid")
def webvid(root, media):
    header = ["videoid", "contentUrl", "duration", "page_dir", "name"]
    rows = [[n, "http://x", "PT1S", "000_050", f"a film of {n}"] for n in range(8)]
    put_csv(root, "results_2M_train.csv", header, [*rows, rows[0], [99, "u", "d", "000_050", "gone"]])
    put_csv(root, "results_2M_val.csv", header, [[50, "u", "d", "000_050", "for validation"]])
    for n in (*range(8), 50):
        put(root, f"videos/000_050/{n}.mp4", media.film(n) if n != 3 else b"no film")
    dropped = {MISSING: 1, "a repetition": 1, "the video does not decode": 1}
    return Expected({"train": 7, "val": 1}, dropped, {"val": (None, "for validation")})


@miniature("wavcaps")
def wavcaps(root, media):
    for part, file in {"AudioSet_SL": "as", "BBC_Sound_Effects": "bbc", "FreeSound": "fsd", "SoundBible": "sb"}.items():
        suffix = ".wav" if file == "as" else ""
        data = [{"id": f"{file}{n}{suffix}", "caption": f"sound {n}", "duration": 1.0} for n in range(3)]
        put(root, f"json_files/{part}/{file}_final.json", {"num_captions_per_audio": 1, "data": data})
        for n in range(3):
            if (file, n) != ("sb", 2):
                put(root, f"{part}_flac/{file}{n}.flac", media.sound(n))
    return Expected({"train": 11}, {MISSING: 1}, {"train": (None, "sound 0")})


@miniature("cap3d")
def cap3d(root, media):
    uids = [f"obj{n}" for n in range(6)]
    put_csv(root, "Cap3D_automated_Objaverse_full.csv", None, [[uid, f"a {uid}"] for uid in [*uids, "gone"]])
    put(root, "val_object_ids_3000.txt", b"obj5_8192.npy\n")
    rng = np.random.default_rng(0)
    for uid in (uids[0], uids[5]):
        put(root, f"8192_npy/{uid}_8192.npy", media.array(rng.random((32, 6), np.float32)))
    for uid in uids[1:4]:
        cloud = torch.cat([torch.randn(3, 32), torch.randint(0, 256, (3, 32)).float()]).half()
        buffer = io.BytesIO()
        torch.save(cloud, buffer)
        put(root, f"Cap3D_pcs_pt/{uid}.pt", buffer.getvalue())
    buffer = io.BytesIO()
    torch.save(Expected({}), buffer)  # a class of ours: what the safe loader must refuse
    put(root, f"Cap3D_pcs_pt/{uids[4]}.pt", buffer.getvalue())
    dropped = {MISSING: 1, "the tensor file is damaged or holds more than tensors": 1}
    return Expected({"train": 4, "test": 1}, dropped, {"train": (None, "a obj0"), "test": (None, "a obj5")})


def recording(seconds, gap_at=None):
    header = ["component_idx", "component_timestamp_ms", "canonical_timestamp_ms",
              "gyro_x", "gyro_y", "gyro_z", "accl_x", "accl_y", "accl_z"]  # fmt: skip
    times = [t for t in np.arange(0, seconds, 0.01) if gap_at is None or not gap_at < t < gap_at + 3]
    rows = [[0, t * 1000, t * 1000, 0.1, "", 0.3, np.sin(t), t, 9.8] for t in times]
    return header, [*rows[:5], [0, 1, "", 1, 1, 1, 1, 1, 1], *rows[5:]]


@miniature("ego4d_imu")
def ego4d_imu(root, media):
    def told(time, text):
        return {"time": time, "text": text, "is_summary": False, "_annotation_uid": "u"}

    first = [told(2.0, "#C C picks a cup"), told(5.5, "#C C turns #unsure"), told(6.0, "#O A man X walks"),
             told(99.0, "#C C leaves"), told(None, "#C C waits")]  # fmt: skip
    videos = {"vid-a": {"narrations": first, "status": "ok"}, "vid-b": {"narrations": [told(9.0, "#C C runs")]},
              "vid-c": {"narrations": [told(1.0, "#C C sits")]}}  # fmt: skip
    put(root, "v2/annotations/all_narrations_redacted.json", {"date": "x", "videos": videos})
    put_csv(root, "v2/imu/vid-a.csv", *recording(8))
    put_csv(root, "v2/imu/vid-b.csv", *recording(12, gap_at=7.5))
    dropped = {
        "the recording does not cover the window": 1, "the recording has a gap in the window": 1,
        "the recording is missing": 1, "its caption lacks '#C'": 1, "no time in the row": 1,
    }  # fmt: skip
    return Expected({"train": 2}, dropped, {"train": (None, "picks a cup")})


@miniature("ego4d_imu_instruct")
def ego4d_imu_instruct(root, media):
    window = {"imu_path": "elsewhere", "video_uid": "vid-a", "window_start": 1.0, "window_end": 3.0}
    said = talk("Describe the motion.", "The wearer turns.", mark="")
    entries = [{"id": n, **window, "video_uid": uid, "conversations": said} for n, uid in enumerate(("vid-a", "b"))]
    put(root, "imu/imu_fixed_50k.json", entries)
    times = np.arange(0, 4000, 5.0)
    put(root, "processed_imu/vid-a.npy", media.array(np.random.default_rng(0).normal(size=(6, len(times)))))
    put(root, "processed_imu/vid-a_timestamps.npy", media.array(times))
    asked = ("Describe the motion.", "The wearer turns.")
    return Expected({"train": 1}, {"the recording is missing": 1}, {"train": asked})


@miniature("nsd_fmri")
def nsd_fmri(root, media):
    shape, rng = (5, 4, 3), np.random.default_rng(0)
    mask = np.zeros(shape, np.int16)
    mask[1:4, 1:3, 1] = 1
    header = bytearray(352)
    header[:4] = (348).to_bytes(4, "little")
    header[40:56] = np.array([3, *shape, 1, 1, 1, 1], "<i2").tobytes()
    header[70:72] = np.array([4], "<i2").tobytes()
    header[108:112] = np.array([352], "<f4").tobytes()
    put(root, "nsddata/ppdata/subj01/func1pt8mm/roi/nsdgeneral.nii.gz",
        gzip.compress(bytes(header) + mask.tobytes(order="F")))  # fmt: skip
    columns = ["", "cocoId", "cocoSplit", "nsdId", "shared1000", "subject1"]
    stimuli = [[n, 100 + n, "train2017", n, n == 2, True] for n in range(6)]
    put_csv(root, "nsddata/experiments/nsd/nsd_stim_info_merged.csv", columns, stimuli)
    trials = [(1, 1), (1, 2), (1, 3), (2, 1), (2, 5), (2, 3), (3, 6)]  # session, picture counted from 1
    rows = [[1, session, 1, n, picture, 1] for n, (session, picture) in enumerate(trials)]
    put_csv(root, "nsddata/ppdata/subj01/behav/responses.tsv",
            ["SUBJECT", "SESSION", "RUN", "TRIAL", "73KID", "10KID"], rows, "\t")  # fmt: skip
    folder = root / "nsddata_betas/ppdata/subj01/func1pt8mm/betas_fithrf_GLMdenoise_RR"
    folder.mkdir(parents=True)
    for session in (1, 2):
        with h5py.File(folder / f"betas_session{session:02d}.hdf5", "w") as file:
            file["betas"] = rng.integers(-900, 900, (3, *shape[::-1])).astype(np.int16)
    annotations = [{"image_id": 100 + n, "id": n, "caption": f"scene {n}"} for n in (0, 0, 1, 2, 5)]
    put(root, "annotations/captions_train2017.json", {"images": [], "annotations": annotations})
    put(root, "annotations/captions_val2017.json", {"images": [], "annotations": []})
    dropped = {"no caption": 1, "no responses to it": 1}
    return Expected({"train": 2, "test": 1}, dropped, {"train": (None, "scene 0"), "test": (None, "scene 2")})


@miniature("nsd_fmri_instruct")
def nsd_fmri_instruct(root, media):
    names = [f"elsewhere/NSD/webdataset_avg_split/train/subj01/sample{n:09d}.nsdgeneral.npy" for n in range(3)]
    said = talk("What is seen?", "A dog.", mark="")
    put(
        root,
        "fmri/fmri_fixed_train.json",
        [{"id": n, "image": name, "conversations": said} for n, name in enumerate(names)],
    )
    for n in range(2):
        put(
            root,
            f"webdataset_avg_split/train/subj01/sample{n:09d}.nsdgeneral.npy",
            media.array(np.ones((3, 50), np.float16)),
        )
    return Expected({"train": 2}, {MISSING: 1}, {"train": ("What is seen?", "A dog.")})


@miniature("llava_150k")
def llava_150k(root, media):
    said = talk("What is it?", "A bus.", "Which colour?", "Red.")
    entries = [{"id": str(n), "image": f"{n:012d}.jpg", "conversations": said} for n in range(4)]
    silent = {"id": "5", "image": f"{0:012d}.jpg", "conversations": [{"from": "human", "value": "<image>\nHello?"}]}
    put(root, "llava_instruct_150k.json", [*entries, entries[0], silent])
    for n in range(3):
        put(root, f"train2017/{n:012d}.jpg", media.picture(n))
    dropped = {MISSING: 1, "a repetition": 1, "no question with an answer": 1}
    return Expected({"train": 3}, dropped, {"train": ("What is it?", "A bus.")})


@miniature("llava_665k")
def llava_665k(root, media):
    images = ["coco/train2017/1.jpg", "gqa/images/2.jpg", "ocr_vqa/images/3.jpg", "vg/VG_100K_2/4.jpg"]
    entries = [
        {"id": n, "image": image, "conversations": talk("What is it?", "A bus.")} for n, image in enumerate(images)
    ]
    text = {"id": 9, "conversations": talk("Hello", "Hi", mark="")}
    put(root, "llava_v1_5_mix665k.json", [*entries, text])
    for n, image in enumerate(images):
        put(root, image, media.picture(n, "GIF" if "ocr" in image else "JPEG"))
    return Expected({"train": 4}, {"no 'image' in the row": 1}, {"train": ("What is it?", "A bus.")})


@miniature("llava_50k_depth", "llava_50k_normal")
def llava_50k(root, media):
    said = talk("How far is it?", "Near.")
    for output in ("depth", "normal"):
        entries = [{"id": n, "image": f"InstructionTuning/image/coco/train2017/{n}.jpg", f"{output}_image": "x",
                    "conversations": said} for n in range(2)]  # fmt: skip
        put(root, f"depth_normal/llava_instruct_50k_{output}.json", entries)
    put(root, "train2017/0.jpg", media.picture(0))
    return Expected({"train": 1}, {MISSING: 1}, {"train": ("How far is it?", "Near.")})


@miniature("coco_caption")
def coco_caption(root, media):
    images = []
    for n, split in enumerate(["train", "restval", "val", "test", "train"]):
        part = "train2014" if split == "train" else "val2014"
        name = f"COCO_{part}_{n:012d}.jpg"
        sentences = [{"tokens": [], "raw": f"Caption {k} of {n}.", "imgid": n, "sentid": k} for k in range(5)]
        images.append({"filepath": part, "filename": name, "split": split, "sentences": sentences, "cocoid": n})
        put(root, f"{part}/{name}", media.picture(n)[: 200 if n == 4 else None])
    put(root, "dataset_coco.json", {"images": images, "dataset": "coco"})
    return Expected(
        {"train": 2, "val": 1, "test": 1}, {"the picture does not decode": 1}, {"test": (None, "Caption 0 of 3.")}
    )


def coco_questions(root, media, prefix, annotate):
    for part, ids in (("train2014", (1, 2)), ("val2014", (3,))):
        questions = [
            {"image_id": i, "question": f"What is {i}?", "question_id": 10 * i + k} for i in ids for k in range(2)
        ]
        annotations = [{"question_id": q["question_id"], "image_id": q["image_id"], **annotate} for q in questions]
        if part == "train2014":
            del annotations[-1]
        put(root, f"{prefix[0]}OpenEnded_mscoco_{part}_questions.json", {"info": {}, "questions": questions})
        put(root, f"{prefix[1]}mscoco_{part}_annotations.json", {"info": {}, "annotations": annotations})
        for i in ids:
            put(root, f"{part}/COCO_{part}_{i:012d}.jpg", media.picture(i))


@miniature("vqav2")
def vqav2(root, media):
    answers = [{"answer": "a bus", "answer_confidence": "yes", "answer_id": k} for k in range(10)]
    coco_questions(root, media, ("v2_", "v2_"), {"multiple_choice_answer": "bus", "answers": answers})
    dropped = {"no row in v2_mscoco_train2014_annotations.json for its question_id": 1}
    return Expected({"train": 2, "val": 1}, dropped, {"train": ("What is 1?" + ONE_WORD, "bus")})


@miniature("okvqa")
def okvqa(root, media):
    answers = [
        {"answer": a, "raw_answer": a, "answer_confidence": "yes", "answer_id": 1} for a in ("car", "bus", "bus")
    ]
    coco_questions(root, media, ("", ""), {"answers": answers, "question_type": "one"})
    dropped = {"no row in mscoco_train2014_annotations.json for its question_id": 1}
    return Expected({"train": 2, "val": 1}, dropped, {"val": ("What is 3?" + ONE_WORD, "bus")})


@miniature("gqa")
def gqa(root, media):
    for split, images in (("train", ("n1", "n2")), ("val", ("n3",))):
        put(root, f"{split}_balanced_questions.json", {
            f"{image}-{k}": {"imageId": image, "question": "Is it red?", "answer": "yes", "fullAnswer": "Yes, it is.",
                             "isBalanced": True, "types": {}} for image in images for k in range(3)
        })  # fmt: skip
    for image in ("n1", "n3"):
        put(root, f"images/{image}.jpg", media.picture(7))
    return Expected({"train": 1, "val": 1}, {MISSING: 1}, {"train": ("Is it red?" + ONE_WORD, "yes")})


@miniature("aokvqa")
def aokvqa(root, media):
    for split, image in (("train", 1), ("val", 2)):
        entry = {"split": split, "image_id": image, "question_id": f"q{image}", "question": "Who rides?",
                 "choices": ["dog", "man", "cat", "bus"], "correct_choice_idx": 1, "direct_answers": ["man"] * 10,
                 "difficult_direct_answer": False, "rationales": []}  # fmt: skip
        spoilt = {**entry, "image_id": 8, "question_id": "bad", "correct_choice_idx": 7}
        put(root, f"aokvqa_v1p0_{split}.json", [entry, spoilt] if split == "train" else [entry])
        put(root, f"{split}2017/{image:012d}.jpg", media.picture(image))
    question = "Who rides? A. dog B. man C. cat D. bus Answer with the option's letter from the given choices directly"
    dropped = {"no right choice among its options": 1}
    return Expected({"train": 1, "val": 1}, dropped, {"train": (question, "B")})


@miniature("ocrvqa")
def ocrvqa(root, media):
    book = {"imageURL": "http://x/a.gif", "questions": ["Who wrote it?", "Genre?"], "answers": ["Ann", "Art"],
            "title": "T", "authorName": "Ann", "genre": "Art"}  # fmt: skip
    put(
        root,
        "dataset.json",
        {f"b{split}": {**book, "split": split} for split in (1, 2, 3)} | {"b9": {**book, "split": 1}},
    )
    for split in (1, 2, 3):
        put(root, f"images/b{split}.{'gif' if split == 3 else 'jpg'}", media.picture(split, "GIF"))
    expected = {"train": ("Who wrote it?" + ONE_WORD, "Ann"), "test": ("Who wrote it?" + ONE_WORD, "Ann")}
    return Expected({"train": 1, "val": 1, "test": 1}, {MISSING: 1}, expected)


@miniature("refcoco")
def refcoco(root, media):
    refs = []
    for n, split in enumerate(["train", "train", "val", "testA", "testB"]):
        sentences = [{"raw": "The man.", "sent": f"man {n} {k}", "sent_id": k, "tokens": ["man"]} for k in range(2)]
        image = 1 if n < 2 else n
        refs.append({"ref_id": n, "ann_id": 10 + n, "image_id": image, "split": split, "sentences": sentences,
                     "sent_ids": [0, 1], "file_name": "x.jpg", "category_id": 1})  # fmt: skip
        put(root, f"train2014/COCO_train2014_{image:012d}.jpg", media.picture(image))
    put(root, "refcoco/refs(unc).p", pickle.dumps(refs, protocol=2))
    put(root, "refcoco/instances.json", {
        "images": [{"id": i, "width": 200, "height": 100, "file_name": "x"} for i in (1, 2, 3, 4)],
        "annotations": [{"id": 10 + n, "image_id": 1 if n < 2 else n, "bbox": [20, 10, 100, 50]} for n in range(5)],
    })  # fmt: skip
    question = "Provide a short description for this region. [0.10, 0.10, 0.60, 0.60]"
    return Expected(
        {"train": 1, "val": 1, "test": 2}, {}, {"train": (question, "man 0 0"), "test": (question, "man 3 0")}
    )


@miniature("visual_genome")
def visual_genome(root, media):
    def region(image, phrase):
        return {"region_id": 1, "image_id": image, "phrase": phrase, "x": 0, "y": 25, "width": 50, "height": 50}

    put(
        root,
        "region_descriptions.json",
        [{"id": i, "regions": [region(i, f"thing {i}"), region(i, "")]} for i in (1, 2, 3)],
    )
    put(root, "image_data.json", [{"image_id": i, "width": 100, "height": 100, "url": "u"} for i in (1, 2, 3)])
    put(root, "VG_100K/1.jpg", media.picture(1))
    put(root, "VG_100K_2/2.jpg", media.picture(2))
    question = "Provide a short description for this region. [0.00, 0.25, 0.50, 0.75]"
    return Expected({"train": 2}, {MISSING: 1}, {"train": (question, "thing 1")})


@miniature("msrvtt_caption")
def msrvtt_caption(root, media):
    for file, films, folder in (
        ("train_val", {0: "train", 1: "train", 2: "validate"}, "TrainValVideo"), ("test", {3: "test"}, "TestVideo")
    ):  # fmt: skip
        videos = [{"video_id": f"video{n}", "id": n, "category": 1, "url": "u", "start time": 0.0, "end time": 9.0,
                   "split": split} for n, split in films.items()]  # fmt: skip
        sentences = [
            {"caption": f"film {n} {k % 2}", "video_id": f"video{n}", "sen_id": k} for n in films for k in range(4)
        ]
        put(root, f"{file}_videodatainfo.json", {"info": {}, "videos": videos, "sentences": sentences})
        for n in films:
            put(root, f"{folder}/video{n}.mp4", media.film(n))
    return Expected({"train": 2, "val": 1, "test": 1}, {}, {"test": (None, "film 3 0")})


@miniature("msrvtt_qa")
def msrvtt_qa(root, media):
    for n, split in enumerate(("train", "val", "test")):
        rows = [
            {"answer": "couch", "category_id": 14, "id": k, "question": f"what {k}?", "video_id": n} for k in range(2)
        ]
        put(root, f"{split}_qa.json", rows)
        put(root, f"{'TestVideo' if split == 'test' else 'TrainValVideo'}/video{n}.mp4", media.film(n))
    return Expected({"train": 2, "val": 2, "test": 2}, {}, {"train": ("what 0?" + ONE_WORD, "couch")})


@miniature("multis_video")
def multis_video(root, media):
    for kind in ("complex_reasoning", "conversation", "detail"):
        image = "InstructionTuning/video/msr-vtt/MSR-VTT/videos/all/video1.mp4"
        entries = [{"id": kind, "image": image, "conversations": talk(f"{kind}?", "It moves.", mark="")}]
        put(root, f"video/video_{kind}_10k.json", entries)
    put(root, "videos/all/video1.mp4", media.film(1))
    return Expected({"train": 3}, {}, {"train": ("complex_reasoning?", "It moves.")})


@miniature("multis_audio")
def multis_audio(root, media):
    names = ["a.wav", "b.mp3", "gone.wav"]
    said = talk("What sounds?", "A bell.", mark="")
    folder = "InstructionTuning/audio/audioset2"
    entries = [{"id": n, "image": f"{folder}/{name}", "conversations": said} for n, name in enumerate(names)]
    put(root, "audio/audio_conversation.json", entries)
    put(root, "audioset2/a.wav", media.sound(1, "WAV", 16000))
    put(root, "audioset2/b.mp3", media.sound(2, "MP3", 16000))
    return Expected({"train": 2}, {MISSING: 1}, {"train": ("What sounds?", "A bell.")})


@miniature("audiocaps")
def audiocaps(root, media):
    header = ["audiocap_id", "youtube_id", "start_time", "caption"]
    put_csv(root, "train.csv", header, [[1, "aa", 30, "a bell"], [2, "bb", 0, "a dog"], [3, "cc", 0, ""]])
    put_csv(root, "val.csv", header, [[9, "dd", 5, f"caption {k}"] for k in range(5)])
    put_csv(root, "test.csv", header, [[8, "ee", 5, f"caption {k}"] for k in range(5)])
    put(root, "audio/aa_30.wav", media.sound(1, "WAV"))
    put(root, "audio/bb.wav", media.sound(2, "WAV")[:600])
    put(root, "audio/Ydd.wav", media.sound(3, "WAV"))
    put(root, "audio/ee.flac", media.sound(4))
    dropped = {"no caption": 1, "the sound does not decode": 1}
    return Expected({"train": 1, "val": 1, "test": 1}, dropped, {"val": (None, "caption 0")})


@miniature("pointllm_70k")
def pointllm_70k(root, media):
    said = talk("What?", "A chair.", mark="<point>")
    entries = [{"object_id": f"o{n}", "conversation_type": "multi_round", "conversations": said} for n in range(2)]
    put(root, "PointLLM_complex_instruction_70K.json", entries)
    put(root, "8192_npy/o0_8192.npy", media.array(np.random.default_rng(0).random((32, 6), np.float32)))
    return Expected({"train": 1}, {MISSING: 1}, {"train": ("What?", "A chair.")})


@miniature("sharegpt")
def sharegpt(root, media):
    first = [{"from": "gpt", "value": "Continued."}, *talk("Hi <image>", "Hello!", "More?", mark="")]
    strange = [{"from": "alien", "value": "x"}]
    system = [{"from": "system", "value": "Be kind."}, *talk("Why?", "Because.", mark="")]
    entries = [{"id": n, "conversations": c} for n, c in enumerate([first, [], strange, system])]
    put(root, "ShareGPT_V3_unfiltered_cleaned_split.json", entries)
    dropped = {"no question with an answer": 1, "an unknown speaker 'alien'": 1}
    return Expected({"train": 2}, dropped, {"train": ("Hi <image>", "Hello!")})


def published():
    for path in sorted(RECIPES.glob("*.yaml")):
        recipe = load_recipe(path)
        if not recipe.name.startswith(("world_", "eval_")) and recipe.name != "digits":
            yield recipe


PUBLISHED = {recipe.name: recipe for recipe in published()}


def overrides_for(recipe, raw, request):
    """Where the raw copy lies; the model's import takes seconds, so that only those who need it ask for it."""
    if "model" not in recipe.make:
        return {"folder": str(raw)}
    return {"folder": str(raw), "model": str(request.getfixturevalue("tiny_dpt")), "batch_size": 3, "device": "cpu"}


def source_of(recipe, folder, split):
    reader = ShardReader(folder / split)
    template = CaptionTemplate() if recipe.task == "caption" else ChatTemplate()
    return Source(recipe, reader, DECODERS, template, Stream(len(reader), 0, shuffle=False), PROMPTS)


def test_every_published_recipe_has_a_miniature_and_says_where_it_comes_from():
    assert set(MINIATURES) == set(PUBLISHED)
    for recipe in PUBLISHED.values():
        assert "http" in recipe.source, recipe.name
        assert recipe.licence_url, recipe.name
        assert recipe.size, recipe.name
        assert recipe.splits, recipe.name
        assert "folder" not in recipe.make, recipe.name


@pytest.mark.parametrize("name", sorted(MINIATURES))
def test_a_miniature_in_the_published_layout_becomes_samples(name, tmp_path, media, request):
    recipe = PUBLISHED[name]
    expected = MINIATURES[name](tmp_path / "raw", media)
    report = make_shards(recipe, tmp_path / "data", overrides=overrides_for(recipe, tmp_path / "raw", request))
    assert report.written == expected.written
    assert report.dropped == expected.dropped
    for split, count in expected.written.items():
        kept = json.loads((report.folder / split / REPORT_NAME).read_text())
        assert kept["written"] == count
        source = source_of(recipe, report.folder, split)
        samples = [source.at(i) for i in range(len(source))]
        assert len(samples) == count
        for sample in samples:
            assert {span.modality for span in sample.spans if isinstance(span, MediaSpan)} == set(recipe.media)
            assert any(span.target and span.text for span in sample.spans if isinstance(span, TextSpan))
        if split in expected.says:
            assert spoken(samples[0]) == expected.says[split]


def spoken(sample):
    """The first question, without the chat's layout, and the first answer."""
    texts = [span for span in sample.spans if isinstance(span, TextSpan)]
    answer = next(span.text for span in texts if span.target)
    if len(texts) == 1:
        return None, answer
    question = next(span.text for span in texts if not span.target and "### Human" in span.text)
    return (
        question.removeprefix("### Human: ").removesuffix("\n### Assistant:"),
        answer.removeprefix(" ").removesuffix("\n###"),
    )
