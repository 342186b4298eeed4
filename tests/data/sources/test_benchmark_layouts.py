"""Every benchmark in miniature, in its published layout: to shards, asked, answered, scored, written for its scorer."""

import base64
import csv
import io
import json
import string
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from modalign.data.dataset import Source
from modalign.data.decoders import DepthDecoder, ImageDecoder, PointDecoder, SpectrogramDecoder, VideoDecoder
from modalign.data.make import make_shards
from modalign.data.order import Stream
from modalign.data.reader import ShardReader
from modalign.data.recipes import load_recipe
from modalign.data.templates import CaptionTemplate
from modalign.evaluation.benchmark_scores import answered, benchmark_scores, worded
from modalign.evaluation.predictions import prediction_files

RECIPES = Path(__file__).parents[3] / "data_recipes"
DECODERS = {
    "image": ImageDecoder(16), "video": VideoDecoder(2, 16), "audio": SpectrogramDecoder(8000, 8, 16),
    "point": PointDecoder(8), "depth": DepthDecoder(16, 10.0),
}  # fmt: skip
ONE_WORD = " Answer the question using a single word or phrase."
LETTER = " Answer with the option's letter from the given choices directly"
CAPTION = "Provide a one-sentence caption for the provided {}."
MISSING = "the file is missing"
MINIATURES = {}


@dataclass
class Layout:
    """What comes of a miniature: items, drops, what is asked first, and what its answers are worth.

    `says` are the answers in order (None: the right ones); `worth` the first metric's value for them; `predicts` the
    content of the file of predictions.
    """

    count: int
    asks: str
    worth: float
    predicts: object
    says: list | None = None
    dropped: dict = field(default_factory=dict)


def miniature(name):
    def note(build):
        MINIATURES[f"eval_{name}"] = build
        return build

    return note


def put(root, name, content):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())


def put_csv(root, name, header, rows, delimiter=","):
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter).writerows([header, *rows] if header else rows)
    put(root, name, text.getvalue().encode())


def talkie(value=0):
    """A film with a sound track."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        video = container.add_stream("h264", rate=5)
        video.width, video.height, video.pix_fmt = 32, 32, "yuv420p"
        audio = container.add_stream("aac", rate=16000, layout="mono")
        for number in range(3):
            pixels = np.full((32, 32, 3), (value * 20 + number * 10) % 255, np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        wave = 0.3 * np.sin(np.arange(8192, dtype=np.float32) * 0.1)[None]
        frame = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(audio.encode(frame))
        container.mux(video.encode())
        container.mux(audio.encode())
    return file.getvalue()


def ten(*counts):
    """Ten annotators' answers in VQA's form: ten("bus", 7, "car", 3)."""
    answers = [answer for answer, count in zip(counts[::2], counts[1::2], strict=True) for _ in range(count)]
    return [{"answer": a, "answer_confidence": "yes", "answer_id": n + 1} for n, a in enumerate(answers)]


@miniature("gqa")
def gqa(root, media):
    questions = {f"20{n}": {"question": f"What is {n}?", "imageId": f"n{n // 2}", "answer": "bus", "isBalanced": True}
                 for n in range(4)}  # fmt: skip
    put(root, "testdev_balanced_questions.json", questions)
    put(root, "images/n0.jpg", media.picture(0))
    predicts = [{"questionId": "200", "prediction": "bus"}, {"questionId": "201", "prediction": "car"}]
    return Layout(2, "What is 0?" + ONE_WORD, 0.5, predicts, ["Bus.", "a car"], {MISSING: 2})


def coco_questions(root, media, questions_file, annotations_file):
    questions = [{"image_id": 3, "question": f"What is {n}?", "question_id": 30 + n} for n in range(2)]
    annotations = [{"image_id": 3, "question_id": 30, "answers": ten("bus", 3, "car", 7)},
                   {"image_id": 3, "question_id": 31, "answers": ten("yes", 10)}]  # fmt: skip
    put(root, questions_file, {"info": {}, "questions": questions})
    put(root, annotations_file, {"info": {}, "annotations": annotations})
    put(root, "val2014/COCO_val2014_000000000003.jpg", media.picture(3))
    predicts = [{"question_id": 30, "answer": "bus"}, {"question_id": 31, "answer": "yes"}]
    return Layout(2, "What is 0?" + ONE_WORD, 0.95, predicts, ["A bus", "Yes."])


@miniature("vqav2")
def vqav2(root, media):
    names = "v2_OpenEnded_mscoco_val2014_questions.json", "v2_mscoco_val2014_annotations.json"
    return coco_questions(root, media, *names)


@miniature("okvqa")
def okvqa(root, media):
    return coco_questions(root, media, "OpenEnded_mscoco_val2014_questions.json", "mscoco_val2014_annotations.json")


@miniature("textvqa")
def textvqa(root, media):
    answers = ["nokia"] * 8 + ["Nokia phone", "toshiba"]
    data = [
        {"question": "what brand?", "question_id": 34602, "image_id": "003a", "answers": answers, "set_name": "val"}
    ]
    put(root, "TextVQA_0.5.1_val.json", {"dataset_type": "val", "data": data})
    put(root, "train_images/003a.jpg", media.picture(1))
    return Layout(1, "what brand?" + ONE_WORD, 1.0, [{"question_id": 34602, "answer": "nokia"}], ["Nokia"])


@miniature("vizwiz")
def vizwiz(root, media):
    rows = [{"image": "VizWiz_val_0.jpg", "question": "What is this?", "answers": ten("unanswerable", 6, "can", 4),
             "answer_type": "unanswerable", "answerable": 0}]  # fmt: skip
    put(root, "val.json", rows)
    put(root, "val/VizWiz_val_0.jpg", media.picture(1))
    asks = "What is this? When the provided information is insufficient, respond with 'Unanswerable'." + ONE_WORD
    return Layout(1, asks, 1.0, [{"image": "VizWiz_val_0.jpg", "answer": "unanswerable"}], ["Unanswerable"])


@miniature("mme")
def mme(root, media):
    """Two layouts of its tasks; OCR: both right; existence: one of two; code reasoning is no perception."""
    for task, folder, picture in (
        ("OCR", "", "png"),
        ("existence", "/questions_answers_YN", "jpg"),
        ("code", "", "png"),
    ):
        text = f'Is "{task}" there?\tYes\nIs it not?\tNo\n'
        put(root, f"{task}{folder}/0001.txt", text.encode())
        images = "/images" if folder else ""
        put(root, f"{task}{images}/0001.{picture}", media.picture(1, "PNG" if picture == "png" else "JPEG"))
    says = ["Yes", "No", "no", "No", "Yes, it is", "yes"]  # OCR, code, existence
    predicts = {"OCR": '0001\tIs "OCR" there?\tYes\tYes\n0001\tIs it not?\tNo\tNo\n'}
    return Layout(6, 'Is "OCR" there?' + ONE_WORD, 250.0, predicts, says)


@miniature("msvd_qa")
def msvd_qa(root, media):
    rows = [{"id": n, "question": f"who is {n}?", "answer": "man", "video_id": 1301 + n} for n in range(2)]
    put(root, "test_qa.json", rows)
    put(root, "youtube_mapping.txt", b"-4wsuPCjDBc_5_15 vid1301\nab_0_9 vid1302\n")
    put(root, "YouTubeClips/-4wsuPCjDBc_5_15.avi", media.film(1))
    predicts = [{"question_id": 0, "answer": "a man", "gt_answer": "man"}]
    return Layout(1, "who is 0?" + ONE_WORD, 1.0, predicts, ["a man"], {MISSING: 1})


@miniature("clotho_aqa")
def clotho_aqa(root, media):
    header = ["file_name", "QuestionText", "answer", "confidence"]
    rows = [["a b.wav", "Is it raining?", answer, "yes"] for answer in ("yes", "yes", "no")]
    put_csv(root, "clotho_aqa_test.csv", header, [*rows, ["a b.wav", "What sounds?", "rain", "yes"]])
    put(root, "audio_files/a b.wav", media.sound(1, "WAV"))
    predicts = "file_name,QuestionText,answer\na b.wav,Is it raining?,Yes\na b.wav,What sounds?,wind\n"
    return Layout(2, "Is it raining?" + ONE_WORD, 0.5, predicts, ["Yes", "wind"])


@miniature("music_avqa")
def music_avqa(root, media):
    rows = [{"video_id": "0001", "question_id": 5, "type": '["Audio-Visual", "Counting"]', "anser": "two",
             "question_content": "How many <Object> are louder than the <Object>?",
             "templ_values": '["flutes", "drum"]'}]  # fmt: skip
    put(root, "avqa-test.json", rows)
    put(root, "videos/0001.mp4", talkie())
    asks = "How many flutes are louder than the drum?" + ONE_WORD
    return Layout(1, asks, 1.0, [{"question_id": 5, "answer": "Two"}], ["Two"])


@miniature("scienceqa")
def scienceqa(root, media):
    problem = {"question": "Which is fast?", "choices": ["a snail", "a bird"], "answer": 1, "hint": "Look.",
               "image": "image.png", "subject": "natural science", "split": "test"}  # fmt: skip
    problems = {"4": problem, "5": problem | {"image": None}, "6": problem | {"split": "train"}}
    put(root, "problems.json", problems)
    put(root, "test/4/image.png", media.picture(1, "PNG"))
    asks = "Look. Which is fast? A. a snail B. a bird" + LETTER
    return Layout(1, asks, 1.0, {"results": {"4": 1}}, ["B"], {"no file named in the row": 1})


@miniature("mmbench")
def mmbench(root, media):
    picture = base64.b64encode(media.picture(1)).decode()
    header = ["index", "question", "hint", "A", "B", "C", "D", "answer", "category", "image", "source", "split"]
    rows = [
        [241, "Which?", "", "red", "blue", "", "", "B", "colour", picture, "x", "dev"],
        [1000241, "Which?", "", "blue", "red", "", "", "A", "colour", picture, "x", "dev"],
        [242, "Where?", "nan", "up", "down", "left", "right", "C", "place", picture, "x", "dev"],
    ]
    put_csv(root, "mmbench_dev_20230712.tsv", header, rows, "\t")
    predicts = "index\tquestion\tA\tB\tC\tD\tprediction\n241\tWhich?\tred\tblue\t\t\tB\n"
    return Layout(3, "Which? A. red B. blue" + LETTER, 0.5, predicts, ["B", "B", "C. left"])


@miniature("seed")
def seed(root, media):
    row = {"answer": "C", "choice_a": "one", "choice_b": "two", "choice_c": "three", "choice_d": "four",
           "data_id": "1454426_2591111986", "data_type": "image", "question": "How many?", "question_id": "101669",
           "question_type_id": 5}  # fmt: skip
    put(root, "SEED-Bench.json", {"questions": [row, row | {"data_type": "video"}], "question_type": {}})
    put(root, "SEED-Bench-image/1454426_2591111986", media.picture(1))
    asks = "How many? A. one B. two C. three D. four" + LETTER
    return Layout(1, asks, 1.0, [{"question_id": "101669", "prediction": "C"}], ["C. three"])


@miniature("nextqa")
def nextqa(root, media):
    header = [
        "video",
        "frame_count",
        "width",
        "height",
        "question",
        "answer",
        "qid",
        "type",
        *(f"a{n}" for n in range(5)),
    ]
    put_csv(root, "test.csv", header, [[4010, 9, 32, 32, "why jump", 3, 6, "CW", "a", "b", "c", "d", "e"]])
    put(root, "map_vid_vidorID.json", {"4010": "1101/4010", "9": "0/9"})
    put(root, "NExTVideo/1101/4010.mp4", media.film(1))
    asks = "why jump A. a B. b C. c D. d E. e" + LETTER
    return Layout(1, asks, 1.0, {"4010_6": {"prediction": 3, "answer": 3}}, ["D"])


@miniature("how2qa")
def how2qa(root, media):
    rows = [["xyz", "[10.0:19.5]", f"wrong {n}", "4", "6", f"How many eggs {n}?", "2"] for n in range(12)]
    put_csv(root, "how2QA_val_release.csv", None, rows)
    put(root, "videos/xyz.mp4", media.film(1))
    return Layout(12, "How many eggs 0?", 1.0, None)


@miniature("nocaps")
def nocaps(root, media):
    images = [{"id": n, "file_name": f"{n}f.jpg", "domain": "near-domain"} for n in range(2)]
    annotations = [
        {"image_id": n, "id": 10 * n + k, "caption": f"The cat {n} sees dog {k}."} for n in (0, 1) for k in (0, 1)
    ]
    put(root, "nocaps_val_4500_captions.json", {"images": images, "annotations": annotations})
    for n in range(2):
        put(root, f"val/{n}f.jpg", media.picture(n))
    predicts = [
        {"image_id": 0, "caption": "The cat 0 sees dog 0."},
        {"image_id": 1, "caption": "The cat 1 sees dog 0."},
    ]
    return Layout(2, CAPTION.format("image"), None, predicts)


@miniature("flickr30k")
def flickr30k(root, media):
    images = [{"filename": f"{n}.jpg", "imgid": n, "split": "test" if n < 2 else "train",
               "sentences": [{"raw": f"Man {n} walks {k}."} for k in range(5)]} for n in range(3)]  # fmt: skip
    put(root, "dataset_flickr30k.json", {"images": images, "dataset": "flickr30k"})
    for n in range(2):
        put(root, f"flickr30k-images/{n}.jpg", media.picture(n))
    predicts = [{"image_id": 0, "caption": "Man 0 walks 0."}, {"image_id": 1, "caption": "Man 1 walks 0."}]
    return Layout(2, CAPTION.format("image"), None, predicts)


@miniature("vatex")
def vatex(root, media):
    rows = [{"videoID": f"Gx_00000{n}_000010", "enCap": [f"Film {n} take {k}." for k in range(10)]} for n in range(2)]
    put(root, "vatex_public_test_english_v1.1.json", rows)
    for n in range(2):
        put(root, f"videos/Gx_00000{n}_000010.mp4", media.film(n))
    predicts = {"Gx_000000_000010": "Film 0 take 0.", "Gx_000001_000010": "Film 1 take 0."}
    return Layout(2, CAPTION.format("video"), None, predicts)


@miniature("valor")
def valor(root, media):
    put(root, "desc_test.json", [{"video_id": f"v{n}_30", "desc": f"Bell {n} rings."} for n in range(3)])
    put(root, "videos/v0_30.mp4", talkie(0))
    put(root, "videos/v1_30.mp4", talkie(1))
    put(root, "videos/v2_30.mp4", media.film(2))
    predicts = [{"image_id": "v0_30", "caption": "Bell 0 rings."}, {"image_id": "v1_30", "caption": "Bell 1 rings."}]
    return Layout(2, CAPTION.format("video"), None, predicts, None, {"the film has no sound": 1})


@miniature("clotho")
def clotho(root, media):
    header = ["file_name", *(f"caption_{n}" for n in range(1, 6))]
    rows = [[f"rain {n}.wav", *(f"Rain {n}, {k}" for k in range(5))] for n in range(2)]
    put_csv(root, "clotho_captions_evaluation.csv", header, rows)
    for n in range(2):
        put(root, f"evaluation/rain {n}.wav", media.sound(n, "WAV"))
    predicts = 'file_name,caption_predicted\nrain 0.wav,"Rain 0, 0"\nrain 1.wav,"Rain 1, 0"\n'
    return Layout(2, CAPTION.format("audio"), None, predicts)


@miniature("avsd")
def avsd(root, media):
    dialog = [{"question": f"What next {n}?", "answer": f"He sits {n}"} for n in range(2)]
    put(root, "valid_set4DSTC7-AVSD.json", {"dialogs": [{"image_id": "7UPGT", "dialog": dialog, "caption": "x"}]})
    put(root, "Charades_v1_480/7UPGT.mp4", talkie())
    asks = "What next 0? Answer the question and explain the reason in one sentence."
    predicts = [{"image_id": "7UPGT_0", "caption": "He sits 0"}, {"image_id": "7UPGT_1", "caption": "He sits 1"}]
    return Layout(2, asks, None, predicts)


def cloud(media):
    return media.array(np.random.default_rng(0).random((32, 6), np.float32))


@miniature("objaverse_caption")
def objaverse_caption(root, media):
    rows = [{"object_id": f"o{n}", "conversations": [{"from": "human", "value": "<point>\nWhat is it?"},
             {"from": "gpt", "value": f"Chair {n}."}]} for n in range(2)]  # fmt: skip
    put(root, "PointLLM_brief_description_val_200_GT.json", rows)
    for n in range(2):
        put(root, f"8192_npy/o{n}_8192.npy", cloud(media))
    results = [{"object_id": f"o{n}", "ground_truth": f"Chair {n}.", "model_output": f"Chair {n}."} for n in range(2)]
    return Layout(2, CAPTION.format("point cloud"), None, {"results": results})


@miniature("objaverse_class")
def objaverse_class(root, media):
    put(root, "lvis_annotations.json", {"armchair": ["o0", "gone"], "Bible": ["o1"]})
    for n in range(2):
        put(root, f"8192_npy/o{n}_8192.npy", cloud(media))
    results = [{"object_id": "o0", "ground_truth": "armchair", "model_output": "An armchair."},
               {"object_id": "o1", "ground_truth": "Bible", "model_output": "a book"}]  # fmt: skip
    return Layout(2, "What is this?", 0.5, {"results": results}, ["An armchair.", "a book"], {MISSING: 1})


def turned_map(metres):
    """A depth map as SUN RGB-D stores it: millimetres with their bits turned to the left by three."""
    values = np.full((12, 16), round(metres * 1000), np.uint16)
    file = io.BytesIO()
    Image.fromarray((values << 3) | (values >> 13)).save(file, "PNG")
    return file.getvalue()


@miniature("nyuv2")
def nyuv2(root, media):
    for n, scene in ((1, "kitchen"), (2, "study_room"), (3, "bedroom")):
        put(root, f"SUNRGBD/kv1/NYUdata/NYU000{n}/scene.txt", scene.encode())
        put(root, f"SUNRGBD/kv1/NYUdata/NYU000{n}/depth/NYU000{n}.png", turned_map(2.5))
    savemat(root / "splits.mat", {"trainNdxs": np.array([[3]]), "testNdxs": np.array([[1], [2]])})
    asks = (
        "bedroom, kitchen, living room, bathroom, dining room, office, home office, classroom, bookstore, others "
        "What is the category of this scene? Choose one class from the class sets."
    )
    predicts = [{"scene": "SUNRGBD/kv1/NYUdata/NYU0001", "label": "kitchen", "text": "A kitchen."},
                {"scene": "SUNRGBD/kv1/NYUdata/NYU0002", "label": "study_room", "text": "Others"}]  # fmt: skip
    dropped = {"no row in splits.mat for its {path:number}": 1}
    return Layout(2, asks, 1.0, predicts, ["A kitchen.", "Others"], dropped)


@miniature("sun_rgbd")
def sun_rgbd(root, media):
    places = {"kv2/kinect2data/000002_x": "living_room", "xtion/sun3ddata/a/b": "idk", "kv1/b3dodata/c": "lab"}
    for place, scene in places.items():
        put(root, f"SUNRGBD/{place}/scene.txt", scene.encode())
        put(root, f"SUNRGBD/{place}/depth/0000.png", turned_map(1.5))
    test = np.array([f"/n/fs/sun3d/data/SUNRGBD/{place}" for place in list(places)[:2]], dtype=object)
    folder = root / "SUNRGBDtoolbox" / "traintestSUNRGBD"
    folder.mkdir(parents=True)
    savemat(folder / "allsplit.mat", {"alltest": test, "alltrain": test[:1]})
    asks = "bathroom, bedroom, classroom, computer room"
    predicts = [{"scene": "SUNRGBD/kv2/kinect2data/000002_x", "label": "living_room", "text": "living room"}]
    dropped = {"no row in SUNRGBDtoolbox/traintestSUNRGBD/allsplit.mat for its /n/fs/sun3d/data/{path:parent}": 1}
    return Layout(1, asks, 1.0, predicts, ["living room"], dropped)


def benchmarks():
    return {path.stem: load_recipe(path) for path in sorted(RECIPES.glob("eval_*.yaml"))}


BENCHMARKS = benchmarks()


def test_every_evaluation_recipe_has_a_miniature_and_no_training_split():
    assert set(MINIATURES) == set(BENCHMARKS)
    for recipe in BENCHMARKS.values():
        assert "train" not in recipe.splits, recipe.name
        assert recipe.benchmark.split in recipe.splits, recipe.name
        assert "http" in recipe.source, recipe.name
        assert recipe.licence_url.startswith("http"), recipe.name
        assert recipe.benchmark.scorer.startswith("http"), recipe.name
        assert recipe.benchmark.metrics[0] in recipe.benchmark.published, recipe.name
        told = [number for number in recipe.benchmark.published.values() if number is not None]
        assert bool(told) == bool(recipe.benchmark.published_source), recipe.name


def read_back(files):
    """The files of predictions as what a scorer reads: JSON, lines of it, or text."""
    if list(files) != [name for name in files if name.startswith("predictions.")]:
        return {Path(name).stem: content.decode() for name, content in files.items()}
    ((name, content),) = files.items()
    text = content.decode()
    if name.endswith("jsonl"):
        return [json.loads(line) for line in text.splitlines()]
    return json.loads(text) if name.endswith("json") else text


@pytest.mark.parametrize("name", sorted(MINIATURES))
def test_from_the_published_layout_to_the_score_and_the_scorers_file(name, tmp_path, media):
    recipe, benchmark = BENCHMARKS[name], BENCHMARKS[name].benchmark
    expected = MINIATURES[name](tmp_path / "raw", media)
    report = make_shards(recipe, tmp_path / "data", overrides={"folder": str(tmp_path / "raw")})
    assert report.written == {benchmark.split: expected.count}
    assert report.dropped == expected.dropped
    reader = ShardReader(report.folder / benchmark.split)
    source = Source(recipe, reader, DECODERS, CaptionTemplate(), Stream(len(reader), 0, shuffle=False))
    found = [source.media(index) for index in range(len(source))]
    assert {span.modality for _, media_spans, _ in found for span in media_spans} == set(recipe.media)
    asked = [worded(benchmark, record) for _, _, record in found]
    assert asked[0].startswith(expected.asks)
    says = expected.says or [answered("", record, "", "").references[0] for _, _, record in found]
    items = [answered(key, record, q, text) for (key, _, record), q, text in zip(found, asked, says, strict=True)]
    scores = benchmark_scores(benchmark, items, name, "+".join(recipe.media))
    assert [score.metric for score in scores] == list(benchmark.metrics)
    if expected.worth is None:  # captions equal to a reference are at the top of BLEU's scale, or too short for it
        assert {s.metric: s.value for s in scores}["rougeL"] == pytest.approx(1.0)
        assert scores[0].value > 0.5
    else:
        assert scores[0].value == pytest.approx(expected.worth)
    predicted = read_back(prediction_files(benchmark.predictions, items))
    if isinstance(expected.predicts, str):
        assert predicted.startswith(expected.predicts)
    elif isinstance(expected.predicts, dict) and name == "eval_mme":
        assert predicted["OCR"] == expected.predicts["OCR"]
        assert set(predicted) == {"OCR", "code", "existence"}
    elif expected.predicts is not None:
        assert predicted == expected.predicts


def test_turned_depth_maps_become_millimetres_again(tmp_path, media):
    MINIATURES["eval_sun_rgbd"](tmp_path / "raw", media)
    overrides = {"folder": str(tmp_path / "raw")}
    report = make_shards(BENCHMARKS["eval_sun_rgbd"], tmp_path / "data", overrides=overrides)
    picture = Image.open(io.BytesIO(ShardReader(report.folder / "test").read(0).members["png"]))
    assert set(np.asarray(picture).ravel().tolist()) == {1500}


def test_choices_that_have_one_place_are_put_into_an_order_of_the_question_alone(tmp_path, media):
    orders = []
    for copy in ("a", "b"):
        MINIATURES["eval_how2qa"](tmp_path / copy / "raw", media)
        overrides = {"folder": str(tmp_path / copy / "raw")}
        report = make_shards(BENCHMARKS["eval_how2qa"], tmp_path / copy / "data", overrides=overrides)
        reader = ShardReader(report.folder / "val")
        turns = [json.loads(reader.read(n).members["json"])["conversation"][0] for n in range(len(reader))]
        orders.append([turn["answer"] for turn in turns])
        assert all(turn["options"][string.ascii_uppercase.index(turn["answer"])] == "2" for turn in turns)
    assert orders[0] == orders[1]
    assert len(set(orders[0])) > 2
