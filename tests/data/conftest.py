"""Small real data for the tests of shards, order and loading: pictures, words, recipes, shards."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from modalign.data.recipes import Recipe
from modalign.data.shards import ShardWriter


def grey_png(value, size=8):
    file = io.BytesIO()
    Image.fromarray(np.full((size, size, 3), value, np.uint8)).save(file, "PNG")
    return file.getvalue()


def record(number):
    return {
        "caption": f"grey number {number}",
        "conversation": [{"question": "which number?", "answer": str(number)}],
        "attributes": {"number": str(number)},
    }


@pytest.fixture
def png():
    """A grey picture of one value as PNG."""
    return grey_png


@pytest.fixture
def make_split():
    """Write a split of `count` pictures whose grey value is their number; returns the folder."""

    def write(folder, count=20, samples_per_shard=7, words=record):
        with ShardWriter(folder, samples_per_shard) as writer:
            for number in range(count):
                writer.write(
                    f"s{number:04d}", {"png": grey_png(number % 256), "json": json.dumps(words(number)).encode()}
                )
        return folder

    return write


@pytest.fixture
def make_recipe_object():
    """A recipe with a few fields replaced."""

    def make(**changes):
        fields = {
            "name": "greys", "title": "Greys", "source": "generated", "licence": "CC0-1.0", "task": "caption",
            "media": {"image": "png"}, "folder": "greys",
        }  # fmt: skip
        return Recipe.model_validate(fields | changes)

    return make
