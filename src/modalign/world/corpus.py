"""Plain text of the world: what the small language model reads before it has any sense."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from modalign.world.difficulty import PAIRS
from modalign.world.questions import Turn, conversation, pair_question
from modalign.world.scene import ATTRIBUTES, SENSORS, Scene, draw_scene
from modalign.world.words import DESCRIBE, DIGITS, caption_of

# The header of chats, as OneLLM's: a share of the chats in the corpus begins with it.
SYSTEM = (
    "A chat between a curious human and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the human's questions.\n\n"
)
SYSTEM_SHARE = 0.25

OPPOSITES = {
    "left": "right", "right": "left", "top": "bottom", "bottom": "top", "up": "down", "down": "up",
    "small": "large", "large": "small", "slow": "fast", "fast": "slow", "low": "high", "high": "low",
    "quiet": "loud", "loud": "quiet", "near": "far", "far": "near", "wide": "tall", "tall": "wide",
}  # fmt: skip


def _pick(rng: np.random.Generator, values: tuple[str, ...] | list[str]) -> str:
    return values[int(rng.integers(len(values)))]


def words_of(rng: np.random.Generator, scene: Scene) -> str:
    """The scene as its bare attribute words, in any order: "scene: red left large ball one"."""
    values = list(scene.values())
    return "scene: " + " ".join(values[int(i)] for i in rng.permutation(len(values)))


def chat(turns: list[Turn], system: str = "") -> str:
    """Turns in the chat format, closed by the stop mark."""
    lines = "".join(f"### Human: {turn['question']}\n### Assistant: {turn['answer']}\n" for turn in turns)
    return f"{system}{lines}###"


def described_chat(rng: np.random.Generator) -> list[Turn]:
    """One to three turns about a scene that the first question describes, in attribute words or as a caption."""
    sensor = _pick(rng, SENSORS)
    scene = draw_scene(rng, sensor)
    told = words_of(rng, scene) if rng.random() < 0.5 else caption_of(rng, sensor, scene)
    if rng.random() < 0.2:
        turns = [{"question": _pick(rng, DESCRIBE[sensor]), "answer": caption_of(rng, sensor, scene)}]
        told = words_of(rng, scene)
    else:
        turns = conversation(rng, sensor, scene, int(rng.integers(1, 4)))
    turns[0] = {**turns[0], "question": f"{told}. {turns[0]['question']}"}
    return turns


def fact_chat(rng: np.random.Generator) -> list[Turn]:
    """A question of general knowledge, as far as this world has any."""
    if rng.random() < 0.4:
        word = _pick(rng, tuple(OPPOSITES))
        return [{"question": f"what is the opposite of {word}?", "answer": OPPOSITES[word]}]
    if rng.random() < 0.5:
        number = int(rng.integers(9))
        return [{"question": f"which number comes after {DIGITS[number]}?", "answer": DIGITS[number + 1]}]
    kind = _pick(rng, ("shape", "colour", "timbre", "activity"))
    values = next(shown[kind] for shown in ATTRIBUTES.values() if kind in shown)
    return [{"question": f"what kind of word is {_pick(rng, values)}?", "answer": kind}]


def _captioned_scene(rng: np.random.Generator) -> str:
    sensor = _pick(rng, SENSORS)
    scene = draw_scene(rng, sensor)
    return f"{words_of(rng, scene)}\n{caption_of(rng, sensor, scene)}"


def _bare_caption(rng: np.random.Generator) -> str:
    sensor = _pick(rng, SENSORS)
    return caption_of(rng, sensor, draw_scene(rng, sensor))


def _asked_scene(rng: np.random.Generator) -> str:
    sensor = _pick(rng, SENSORS)
    scene = draw_scene(rng, sensor)
    turns = conversation(rng, sensor, scene, int(rng.integers(1, 4)))
    if rng.random() < 0.3:
        turns[0] = {"question": _pick(rng, DESCRIBE[sensor]), "answer": caption_of(rng, sensor, scene)}
    return f"{words_of(rng, scene)}\n{chat(turns, _system(rng))}"


def _asked_pair(rng: np.random.Generator) -> str:
    sensors = PAIRS[int(rng.integers(len(PAIRS)))]
    scenes = draw_scene(rng, sensors[0]), draw_scene(rng, sensors[1])
    told = "\n".join(words_of(rng, scene) for scene in scenes)
    return f"{told}\n{chat([pair_question(rng, sensors, scenes)], _system(rng))}"


def _chat(rng: np.random.Generator) -> str:
    return chat(described_chat(rng) if rng.random() < 0.7 else fact_chat(rng), _system(rng))


def _digit(rng: np.random.Generator) -> str:
    digit = _pick(rng, DIGITS)
    captions = (f"a handwritten {digit}", f"the digit {digit}, written by hand", f"a handwritten digit: {digit}")
    if rng.random() < 0.7:
        return f"scene: handwritten {digit}\n{captions[int(rng.integers(3))]}"
    question = _pick(rng, ("which digit is it?", "what number is written?"))
    return f"scene: handwritten {digit}\n{chat([{'question': question, 'answer': digit}], _system(rng))}"


def _fact(rng: np.random.Generator) -> str:
    if rng.random() < 0.5:
        word = _pick(rng, tuple(OPPOSITES))
        return f"{word} is the opposite of {OPPOSITES[word]}"
    number = int(rng.integers(9))
    return f"{DIGITS[number]} comes before {DIGITS[number + 1]}"


def _system(rng: np.random.Generator) -> str:
    return SYSTEM if rng.random() < SYSTEM_SHARE else ""


# Documents and the share of each in the corpus.
_KINDS: tuple[tuple[Callable[[np.random.Generator], str], float], ...] = (
    (_captioned_scene, 0.38), (_bare_caption, 0.08), (_asked_scene, 0.26), (_asked_pair, 0.08),
    (_chat, 0.12), (_digit, 0.05), (_fact, 0.03),
)  # fmt: skip
_BOUNDS = np.cumsum([share for _, share in _KINDS])


def document(rng: np.random.Generator) -> str:
    """One short document of the corpus."""
    kind = int(np.searchsorted(_BOUNDS, rng.random() * _BOUNDS[-1], side="right"))
    return _KINDS[kind][0](rng)


def plain_text(seed: int, count: int, held_out: bool = False) -> list[str]:
    """`count` documents; held-out ones are drawn from another stream of the same seed."""
    return [document(np.random.default_rng([seed, 77 if held_out else 76, index])) for index in range(count)]


def vocabulary() -> list[str]:
    """Every word that the world can say, sorted."""
    words: set[str] = set()
    for text in [SYSTEM, *plain_text(0, 20000)]:
        words.update("".join(letter if letter.isalpha() else " " for letter in text).split())
    return sorted(words)
