"""From raw data to shards that are known to be whole: world, shards, recipes, index, verify, show."""

import csv
import io
import json
import tarfile

import numpy as np
import pytest
import yaml
from PIL import Image

from modalign.cli.ask import decode_files
from modalign.cli.show import recipes_of
from modalign.config.compose import compose_settings
from modalign.config.recipes import RecipeBook
from modalign.data.manifest import read_manifest

WORLD = ["--world", "tiny"]


def picture(value):
    file = io.BytesIO()
    Image.fromarray(np.full((16, 16, 3), value, np.uint8)).save(file, "PNG")
    return file.getvalue()


def foreign_tar(path, count=6, first=0):
    """A WebDataset tar as another tool would write it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for number in range(first, first + count):
            words = json.dumps({"caption": f"grey number {number}"}).encode()
            for extension, content in (("png", picture(number)), ("json", words), ("meta", b"x")):
                entry = tarfile.TarInfo(f"s{number:03d}.{extension}")
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))


@pytest.fixture
def captioned(tmp_path):
    """A folder of pictures with a caption table, in which one file is missing and one caption empty."""
    folder = tmp_path / "mine"
    folder.mkdir()
    with (folder / "captions.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file", "caption"])
        for number in range(20):
            table.writerow([f"{number}.png", "" if number == 3 else f"grey {number}"])
            if number != 7:
                (folder / f"{number}.png").write_bytes(picture(number))
    recipes = tmp_path / "recipes"
    recipes.mkdir()
    content = {
        "name": "greys", "title": "Greys", "source": "here", "licence": "CC0-1.0", "task": "caption",
        "media": {"image": "png"}, "folder": "greys",
        "make": {"_target_": "modalign.data.sources.FolderSource", "table": str(folder / "captions.csv")},
    }  # fmt: skip
    (recipes / "greys.yaml").write_text(yaml.safe_dump(content))
    return folder, recipes


def test_shards_of_a_recipe_count_what_was_dropped_and_why(modalign, captioned, tmp_path):
    folder, recipes = captioned
    said = modalign(
        "shards", "greys", f"make.folder={folder}", f"paths.recipes=[{recipes}]", "--data", tmp_path / "data"
    )
    assert said.code == 0
    assert "18 written, 2 dropped" in said.out
    assert "1 dropped: empty caption (the first: 00000003-3)" in said.out
    assert "1 dropped: the file cannot be read (No such file or directory) (the first: 00000007-7)" in said.out
    made = sum(read_manifest(path.parent).samples for path in (tmp_path / "data/greys").glob("*/manifest.json"))
    assert made == 18
    assert "18 of them, spread over all, decode" in said.out


def test_shards_tell_samples_that_occur_more_than_once(modalign, captioned, tmp_path):
    folder, recipes = captioned
    words = ["shards", "greys", f"make.folder={folder}", f"paths.recipes=[{recipes}]", "--data"]
    assert "more than once" not in modalign(*words, tmp_path / "once").out
    with (folder / "captions.csv").open("a") as file:
        file.write("".join(f"{number}.png,grey {number}\n" for number in (0, 1, 2)))
    said = modalign(*words, tmp_path / "again").out
    assert "21 written, 2 dropped" in said
    assert "3 samples occur more than once (the first: 00000020-0)\n" in said
    for number in range(3):
        (folder / f"copy-{number}.png").write_bytes(picture(number))
    names = [f"{number}.png" for number in range(3)] + [f"copy-{number}.png" for number in range(3)]
    rows = [
        f"{name},a grey,{split}" for name, split in zip(names, ["train"] * 3 + ["test", "test", "train"], strict=True)
    ]
    (folder / "captions.csv").write_text("\n".join(["file,caption,fold", *rows]))
    said = modalign(*words, tmp_path / "copies", "make.labels={split: fold}").out
    assert "3 samples occur more than once (the first: 00000003-copy-0), 2 of them in another split than before" in said


def test_shards_whose_files_do_not_decode_say_so_at_once(modalign, captioned, tmp_path):
    folder, recipes = captioned
    words = ["shards", "greys", f"make.folder={folder}", f"paths.recipes=[{recipes}]", "--data"]
    (folder / "5.png").write_bytes(b"no picture")
    said = modalign(*words, tmp_path / "some")
    assert said.code == 0
    assert "1 of 18 samples that were tried do not decode, the first: " in said.out
    assert "00000005-5: " in said.out
    assert "`modalign verify greys --decode` names all" in said.out
    for path in folder.glob("*.png"):
        path.write_bytes(b"no picture")
    said = modalign(*words, tmp_path / "none")
    assert said.code == 2
    assert "recipe greys: 18 of 18 samples that were tried do not decode" in said.error


def test_series_that_are_cut_or_padded_are_told_with_their_number(modalign, tmp_path, capsys):
    folder, recipes = tmp_path / "moves", tmp_path / "recipes"
    for place in (folder, recipes):
        place.mkdir()
    steps = {0: 100, 1: 100, 2: 240, 3: 60, 4: 160}
    for number, length in steps.items():
        np.save(folder / f"{number}.npy", np.zeros((length, 6), np.float32))
    rows = [f"{number}.npy,a move,train" for number in steps]
    (folder / "captions.csv").write_text("\n".join(["file,caption,fold", *rows]))
    make = {
        "_target_": "modalign.data.sources.FolderSource", "folder": str(folder), "table": str(folder / "captions.csv"),
        "labels": {"split": "fold"},
    }  # fmt: skip
    content = {
        "name": "moves", "title": "Moves", "source": "here", "licence": "CC0-1.0", "task": "caption",
        "media": {"imu": "npy"}, "folder": "moves", "make": make,
    }  # fmt: skip
    (recipes / "moves.yaml").write_text(yaml.safe_dump(content))
    words = ["moves", f"paths.recipes=[{recipes}]", "--data", tmp_path / "data"]
    cut = "cut, the first: 00000002-2: 240 steps where num_steps=100 (see `mode` of its decoder)\n"
    padded = "padded with zeros, the first: 00000003-3: 60 steps where num_steps=100 (see `mode` of its decoder)\n"
    made = modalign("shards", *words).out
    assert "imu: 2 of 5 that were tried " + cut in made
    assert "imu: 1 of 5 that were tried " + padded in made
    read = modalign("verify", *words, "--decode").out
    assert "imu: 2 " + cut in read
    assert "imu: 1 " + padded in read
    assert "num_steps" not in modalign("verify", *words, "--decode", "+modalities.imu.decoder.mode=resample").out
    refused = modalign("verify", *words, "--decode", "+modalities.imu.decoder.mode=at_most")
    assert "240 steps are more than num_steps=100" in refused.out
    capsys.readouterr()
    settings, _ = compose_settings([])
    assert decode_files(settings, [("imu", "2.npy", (folder / "2.npy").read_bytes())], {})
    assert "note: --imu 2.npy: 240 steps where num_steps=100: cut" in capsys.readouterr().err


def test_shards_need_what_the_recipe_leaves_open(modalign, captioned, tmp_path):
    _, recipes = captioned
    words = ["shards", "greys", f"paths.recipes=[{recipes}]", "--data", tmp_path]
    assert "needs folder: give it as make.folder=" in modalign(*words).error
    assert "did you mean 'folder'?" in modalign(*words, "make.foldr=x").error


def test_an_unknown_recipe_names_the_nearest(modalign):
    for verb in ("shards", "show", "verify"):
        assert "unknown recipe 'digitz' in data_recipes: did you mean 'digits'?" in modalign(verb, "digitz").error


def test_a_misspelt_modality_of_a_recipe_is_told_with_the_nearest(modalign, captioned, tmp_path):
    folder, recipes = captioned
    words = ["greys", f"paths.recipes=[{recipes}]", "--data", tmp_path / "data"]
    file = recipes / "greys.yaml"
    file.write_text(file.read_text().replace("image: png", "imagge: png"))
    made = modalign("shards", *words, f"make.folder={folder}")
    assert made.code == 0
    assert "recipe greys: no modality 'imagge' yet (did you mean 'image'?): nothing was decoded\n" in made.out
    for verb in (["show", *words], ["verify", *words, "--decode"]):
        message = "unknown modality 'imagge' in recipe greys: media: did you mean 'image'? known: audio, "
        assert message in modalign(*verb).error
    file.write_text(file.read_text().replace("imagge: png", "xyzzy: png"))
    (tmp_path / "data").rename(tmp_path / "before")
    assert "no modality 'xyzzy' yet: nothing was decoded\n" in modalign("shards", *words, f"make.folder={folder}").out


def test_a_measured_split_of_few_samples_is_warned_of_once(modalign, captioned, tmp_path):
    folder, recipes = captioned
    words = ["shards", "greys", f"make.folder={folder}", f"paths.recipes=[{recipes}]", "--data"]
    said = modalign(*words, tmp_path / "few").out
    assert said.count("note: few samples to measure with: test (2); of fewer than 20 ") == said.count("note: ") == 1
    (folder / "captions.csv").write_text("file,caption\n" + "".join(f"0.png,grey {n}\n" for n in range(20)))
    labels = "make.labels={splits: {train: 0.0, test: 1.0}}"
    assert "few samples" not in modalign(*words, tmp_path / "enough", labels).out


def test_a_misspelt_split_is_told_with_the_nearest(modalign, captioned, tmp_path):
    folder, recipes = captioned
    words = ["greys", f"paths.recipes=[{recipes}]", "--data", tmp_path]
    assert modalign("shards", *words, f"make.folder={folder}").code == 0
    told = "unknown split 'tset' in recipe greys: did you mean 'test'? known: test, train, val"
    assert modalign("show", *words, "--split", "tset").error == told
    assert modalign("show", *words, "--split", "test").code == 0


def test_shards_that_are_there_are_not_written_over(modalign, captioned, tmp_path):
    folder, recipes = captioned
    words = ["shards", "greys", f"make.folder={folder}", f"paths.recipes=[{recipes}]", "--data", tmp_path / "data"]
    assert modalign(*words).code == 0
    assert "holds shards already" in modalign(*words).error


def test_a_data_folder_that_cannot_be_written_is_told_in_one_line(modalign, captioned, tmp_path):
    folder, recipes = captioned
    (tmp_path / "file").write_text("in the way")
    words = ["shards", "greys", f"make.folder={folder}", f"paths.recipes=[{recipes}]"]
    assert "cannot write" in modalign(*words, "--data", tmp_path / "file" / "below").error


def test_the_world_is_made_once_and_reused(modalign, tmp_path):
    first = modalign("world", *WORLD, "--data", tmp_path)
    assert first.code == 0
    assert "0 were there already" in first.out
    assert "world_fmri" in first.out
    again = modalign("shards", "world_fmri", *WORLD, "--data", tmp_path)
    assert ": 0 splits made, 4 were there already" in again.out


def test_recipes_are_listed_with_their_size_and_presence(modalign, tmp_path):
    modalign("shards", "world_imu", *WORLD, "--data", tmp_path)
    rows = {line.split()[0]: line for line in modalign("recipes", *WORLD, "--data", tmp_path).out.splitlines() if line}
    assert "none" in rows["digits"]
    assert "CC-BY-4.0" in rows["digits"]
    assert "train 24, val 12" in rows["world_imu"]
    assert "kB" in rows["world_imu"]


def test_the_paper_s_recipes_are_listed_with_licence_and_size_whether_present_or_not(modalign, tmp_path):
    said = modalign("recipes", *WORLD, "--data", tmp_path)
    rows = {line.split()[0]: line for line in said.out.splitlines() if line}
    assert "none" in rows["laion400m"]
    assert "train 407,314,954" in rows["laion400m"]
    assert "about 10 TB at 256 px" in rows["laion400m"]
    assert "* NSD Terms and Conditions" in rows["nsd_fmri"]
    assert "*: must be accepted first" in said.out


def test_a_licence_is_accepted_by_an_option_and_remembered(modalign, captioned, tmp_path):
    folder, recipes = captioned
    file = recipes / "greys.yaml"
    content = yaml.safe_load(file.read_text())
    content["make"] = {
        "_target_": "modalign.data.sources.AnnotationSource", "rows": {"train": "captions.csv"},
        "media": {"png": "{file}"}, "words": {"caption": "caption"},
    }  # fmt: skip
    terms = {"licence": "Stern Terms", "licence_url": "https://example.org/terms", "accept_licence": True}
    file.write_text(yaml.safe_dump(content | terms))
    words = ["shards", "greys", f"make.folder={folder}", f"paths.recipes=[{recipes}]", "--data", tmp_path / "data"]
    refused = modalign(*words).error
    assert "its data are under Stern Terms (https://example.org/terms), which you must accept" in refused
    assert "data.accept_licences=[greys]" in refused
    assert not (tmp_path / "data").exists()
    said = modalign(*words, "--accept-licence", "--workers", "1")
    assert said.code == 0, said.err
    assert "18 written, 2 dropped" in said.out
    assert "1 dropped: no caption (the first: 3)" in said.out
    assert json.loads((tmp_path / "data/greys/licence.json").read_text())["licence"] == "Stern Terms"
    assert "18" in modalign("verify", "greys", f"paths.recipes=[{recipes}]", "--data", tmp_path / "data").out


def test_shards_are_not_made_behind_a_url(modalign):
    assert (
        "shards are made on a disk, and paths.data is s3://b" in modalign("shards", "digits", "--data", "s3://b").error
    )
    assert "paths.data is s3://b" in modalign("world", *WORLD, "--data", "s3://b").error


def test_a_foreign_folder_is_indexed_and_becomes_a_recipe(modalign, tmp_path):
    foreign = tmp_path / "theirs"
    foreign_tar(foreign / "train" / "a.tar")
    foreign_tar(foreign / "train" / "b.tar", first=6)
    foreign_tar(foreign / "test" / "a.tar", count=2)
    recipes, data = tmp_path / "recipes", tmp_path / "data"
    words = ["--write-recipe", "theirs", "--recipes", recipes, "--data", data]
    refused = modalign("index", foreign, *words)
    assert ".png may be depth, image, normal: say which" in refused.error
    said = modalign("index", foreign, *words, "--media", "image=png")
    assert said.code == 0
    assert "12 samples in 2 tars" in said.out
    assert ".meta 14" in said.out
    assert "+data.align.image=[theirs]" in said.out
    assert not list(foreign.rglob("*.json")), "somebody else's folder was written to"
    whole = modalign("verify", "theirs", f"paths.recipes=[{recipes}]", "--data", data, "--decode")
    assert whole.code == 0, whole.err
    assert "whole" in whole.out
    shown = modalign("show", "theirs", f"paths.recipes=[{recipes}]", "--data", data, "-n", "1")
    assert "«grey number" in shown.out


def test_a_recipe_is_not_indexed_over_shards_or_another_recipe(modalign, tmp_path):
    foreign_tar(tmp_path / "theirs" / "a.tar")
    foreign_tar(tmp_path / "data" / "mine" / "train" / "a.tar")
    words = ["index", tmp_path / "theirs", "--data", tmp_path / "data", "--media", "image=png"]
    assert "holds shards of its own" in modalign(*words, "--write-recipe", "mine").error
    assert "there is a recipe 'digits' already" in modalign(*words, "--write-recipe", "digits").error
    assert "cannot name a recipe" in modalign(*words, "--write-recipe", "Bad-Name").error


def test_indexing_twice_needs_to_be_asked_for(modalign, tmp_path):
    foreign_tar(tmp_path / "a.tar")
    assert modalign("index", tmp_path).code == 0
    assert "indexed already" in modalign("index", tmp_path).error
    assert modalign("index", tmp_path, "--again").code == 0


@pytest.mark.parametrize("make", [lambda folder: None, lambda folder: folder.mkdir()], ids=["missing", "empty"])
def test_a_folder_without_shards_is_told_in_one_line(modalign, tmp_path, make):
    make(tmp_path / "there")
    assert "there" in modalign("index", tmp_path / "there").error
    if (tmp_path / "there").exists():
        assert "no shards" in modalign("verify", tmp_path / "there").error


def test_verify_counts_every_sample_and_names_the_damaged(modalign, tmp_path):
    foreign_tar(tmp_path / "a.tar", count=10)
    modalign("index", tmp_path)
    content = bytearray((tmp_path / "a.tar").read_bytes())
    place = content.find(b"grey number 4")
    content[place] ^= 1
    (tmp_path / "a.tar").write_bytes(content)
    said = modalign("verify", tmp_path)
    assert "damage in" in said.error
    assert "1 samples cannot be read" in said.error
    assert "bad: s004: .json is damaged" in said.out
    (row,) = [line for line in said.out.splitlines() if line.startswith(str(tmp_path))]
    samples, readable, bad = map(int, row.split()[-3:])
    assert (samples, readable, bad) == (10, 9, 1)


def test_verify_with_decoding_finds_what_is_no_picture(modalign, tmp_path):
    folder = tmp_path / "theirs"
    folder.mkdir()
    with tarfile.open(folder / "a.tar", "w") as tar:
        for name, content in (("one.png", b"no picture"), ("one.json", b'{"caption": "x"}')):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    recipes, data = tmp_path / "recipes", tmp_path / "data"
    named = ["--write-recipe", "broken", "--recipes", recipes, "--media", "image=png"]
    assert modalign("index", folder, *named, "--data", data).code == 0
    words = ["--data", data, f"paths.recipes=[{recipes}]"]
    assert modalign("verify", "broken", *words).code == 0
    decoded = modalign("verify", "broken", "--decode", *words)
    assert "1 samples cannot be read" in decoded.error
    assert "does not decode as image" in decoded.out


def test_show_marks_supervised_tokens_and_gives_their_share(modalign, tmp_path):
    said = modalign(
        "show", "world_audio", *WORLD, "--data", tmp_path, f"paths.runs={tmp_path}", "-n", "2", "--over", "5"
    )
    assert said.code == 0, said.err
    assert said.out.count("[audio]«") == 2
    assert "audio: 1 x 32 x 96" in said.out
    assert "words stand in for tokens" in said.out
    assert "in 5 samples" in said.out


def test_show_of_several_recipes_gives_the_share_of_each(modalign, tiny_runs):
    named = ["world_video", "world_chat", "world_text"]
    said = modalign("show", *named, "--stage", "instruct", *tiny_runs.settings, "--over", "6")
    assert said.code == 0, said.err
    rows = {line.split()[0]: line.split() for line in said.out.splitlines() if line.endswith("%")}
    assert list(rows) == named
    shares = {}
    for name in ("world_video", "world_chat", "world_text"):
        _, samples, tokens, supervised, share = rows[name]
        assert samples == "6"
        shares[name] = int(supervised) / int(tokens)
        assert share == f"{shares[name]:.0%}"
    # Plain text is supervised but for its beginning; of a conversation the answers alone are.
    assert shares["world_text"] > 0.8 > shares["world_chat"] > 0
    assert said.out.count("[video]") == 1


def test_show_without_a_recipe_shows_all_that_feed_the_stage(modalign, tiny_runs):
    said = modalign("show", "--stage", "pretrain_text", *tiny_runs.settings, "--over", "3")
    assert "world_text/train, 200 samples, laid out for stage pretrain_text" in said.out
    settings, _ = compose_settings(tiny_runs.settings)
    book = RecipeBook(settings)
    assert recipes_of(settings, book, "instruct") == list(settings.data.instruct)
    assert recipes_of(settings, book, "align") == [f"world_{modality}" for modality in settings.modalities]


def test_show_of_a_recipe_whose_samples_carry_no_loss_is_an_error_that_names_it(modalign, tmp_path):
    words = ["world_audio", "--stage", "align", "--split", "train", "--over", "2", "-n", "1"]
    assert modalign("show", *words, *WORLD, "--data", tmp_path, f"paths.runs={tmp_path}").code == 0
    folder = next((tmp_path / "world").glob("*/world_audio/train"))
    empty = tmp_path / "own" / "train"
    from modalign.data.reader import ShardReader
    from modalign.data.shards import ShardWriter

    raw = ShardReader(folder).read(0)
    with ShardWriter(empty) as writer:
        writer.write("quiet", {**raw.members, "json": b'{"caption": ""}'})
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "quiet.yaml").write_text(
        "name: quiet\ntitle: quiet\nsource: here\nlicence: none\ntask: caption\nmedia: {audio: flac}\n"
        "text: json\nsplits: {train: 1}\nfolder: own\n"
    )
    said = modalign("show", "quiet", f"paths.recipes=[{tmp_path / 'recipes'}]", "--data", tmp_path)
    assert "no sample shown of quiet has a supervised token" in said.error


def test_show_lays_conversations_out_with_answers_alone_supervised(modalign, tiny_runs):
    said = modalign("show", "world_video", "--stage", "instruct", *tiny_runs.settings, "-n", "3")
    assert "tokens are the language model's" in said.out
    assert "### Human:" in said.out.replace("«", "")
    for text in said.out.split("«")[1:]:
        assert "Human" not in text.split("»")[0]


def test_show_refuses_an_unknown_stage_or_no_sample(modalign):
    assert "did you mean 'align'?" in modalign("show", "digits", "--stage", "aling").error
    assert "-n 0" in modalign("show", "digits", "-n", "0").error
    assert "name a recipe" in modalign("show", "-n", "1").error
    assert "did you mean 'digits'?" in modalign("show", "digit").error
