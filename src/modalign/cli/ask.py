"""`modalign ask RUN --audio file.flac "question"`: what a run says about any mix of its sensors."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modalign.cli.environment import prepare_environment
from modalign.cli.parser import VerbParser, several_folders
from modalign.cli.run_settings import changed_settings
from modalign.cli.terminal import say, warn, working
from modalign.config.recipes import RecipeBook
from modalign.config.schema import Settings
from modalign.config.variants import check_variant, variant_sizes
from modalign.data.extensions import check_media_extension
from modalign.errors import ModalignError, unknown_name
from modalign.runs.finished import answering_run
from modalign.runs.manifest import Manifest

if TYPE_CHECKING:
    from modalign.types import MediaSpan

SUMMARY = """Ask a run about files of its sensors: one option a modality (--image FILE …), as often as you like and in
the order in which the model shall see them. A run of align has learned no questions: it says a caption."""
EXAMPLES = (
    'modalign ask runs/instruct-1a2b3c4d --audio knock.flac "how loud is the sound?"',
    'modalign ask runs/instruct-1a2b3c4d --image a.jpg --audio a.flac "how big is it?"',
    "modalign ask runs/align-fmri-1a2b3c4d --fmri scan.npy --variant fmri=one",
)


def run(arguments: Sequence[str]) -> int:
    """Print the run's answer, and nothing else on stdout."""
    manifest = _manifest(arguments)
    options = _parser(manifest).parse(arguments)
    if manifest is None:
        raise ModalignError("name the run to ask first: modalign ask RUN …")
    settings = changed_settings(manifest, _overrides(options))
    variants = _variants(options.variant or (), manifest)
    for modality, name in options.media or ():
        sizes = variant_sizes(settings.modalities, modality)
        check_variant(sizes, variants.get(modality), f"--{modality} {name}", f"--variant {modality}={{}}")
    files = [(modality, name, _read(modality, name)) for modality, name in options.media or ()]
    chat = settings.stages[manifest.stage].template == "chat"
    asked = [modality for modality, *_ in files]
    question = _question(str(options.run), options.question, asked, chat, manifest, settings)
    prepare_environment()
    media = decode_files(settings, files, variants)
    with working(lambda: f"asking {manifest.name}"):
        answer = _answer(options.run, settings, media, question)
    say(answer or "(nothing: the model ended its answer at once)")
    return 0


def _manifest(arguments: Sequence[str]) -> Manifest | None:
    """The manifest of the run named first, None where only help is wanted."""
    named = next((word for word in arguments if not word.startswith("-")), None)
    if named is None or (not Path(named).exists() and {"-h", "--help"} & set(arguments)):
        return None
    return answering_run(Path(named))


def _parser(manifest: Manifest | None) -> Any:
    parser = VerbParser("ask", SUMMARY, EXAMPLES)
    parser.add_argument("run", metavar="RUN", type=Path, help="folder of a finished run (name it first)")
    for modality in _modalities(manifest) if manifest else ():
        parser.add_argument(f"--{modality}", action=_InOrder, metavar="FILE", help=_title(manifest, modality))
    if manifest is None:
        parser.add_argument("--MODALITY", metavar="FILE", help="one option for each modality of the run")
    parser.add_argument("question", nargs="*", default=[], help="what to ask, in quotes")
    parser.add_argument(
        "--variant", action="append", metavar="MODALITY=NAME", help="which variant a file is, such as fmri=one"
    )
    parser.add_argument("--max-new-tokens", type=int, metavar="N", help="longest answer in tokens")
    parser.set_defaults(media=None)
    return parser


class _InOrder(argparse.Action):
    """Keeps the files of all modalities in the order in which they were given."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        namespace.media = [*(namespace.media or []), (str(option_string)[2:], values)]


def _modalities(manifest: Manifest | None) -> list[str]:
    if manifest is None:
        return []
    return list(dict.fromkeys([*manifest.modalities["seen"], *manifest.modalities["new"]]))


def _title(manifest: Manifest | None, modality: str) -> str:
    declared = (manifest.config.get("modalities") or {}).get(modality, {}) if manifest else {}
    return str(declared.get("title", modality)).replace("%", "%%")


def _overrides(options: argparse.Namespace) -> list[str]:
    tokens = options.max_new_tokens
    return [] if tokens is None else [f"evaluation.max_new_tokens={tokens}"]


def _variants(words: Sequence[str], manifest: Manifest) -> dict[str, str]:
    variants = {}
    for word in words:
        modality, _, name = word.partition("=")
        if modality not in _modalities(manifest):
            raise unknown_name("modality", modality, _modalities(manifest), "--variant MODALITY=NAME")
        variants[modality] = name
    return variants


def _read(modality: str, name: str) -> bytes | tuple[bytes, ...]:
    """The bytes of a file; of several, joined by "+", where the modality's decoder takes them together."""
    paths = [Path(name)] if Path(name).exists() else [Path(part) for part in name.split("+")]
    contents = []
    for path in paths:
        check_media_extension(path.suffix[1:], f"--{modality} {path}")
        try:
            contents.append(path.read_bytes())
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise ModalignError(f"--{modality} {path}: cannot be read, {reason}") from None
    return tuple(contents) if len(contents) > 1 else contents[0]


def _question(
    run: str, words: Sequence[str], modalities: Sequence[str], chat: bool, manifest: Manifest, settings: Settings
) -> str | None:
    """What to ask; None for a bare caption."""
    if words and Path(words[0]).is_dir():
        raise ModalignError(f"'{words[0]}' is no question{several_folders(words[0], [run, *words])}")
    if len(words) > 1:
        raise ModalignError(f"{len(words)} questions were given ('{words[0]}', '{words[1]}'): put one in quotes")
    if not modalities and not (chat and words):
        options = " or ".join(f"--{modality} FILE" for modality in _modalities(manifest))
        more = ", or a question in words alone" if chat else ""
        raise ModalignError(f"nothing to ask about: give {options}{more}")
    if not chat:
        if words:
            raise ModalignError(
                f"run {manifest.name} is of stage {manifest.stage}, which learns captions and no questions: leave "
                f"'{words[0]}' out, or name a run of instruct"
            )
        warn(f"note: {manifest.name} is of stage {manifest.stage}: it says a bare caption, no question is put to it")
        return None
    if words:
        if not modalities:
            warn("note: no file was given: the answer comes from the words alone")
        return str(words[0])
    prompt = settings.modalities[modalities[0]].prompts[0]
    warn(f"note: no question was given; asked is '{prompt}'")
    return prompt


def decode_files(
    settings: Settings, files: Sequence[tuple[str, str, Any]], variants: dict[str, str]
) -> tuple[MediaSpan, ...]:
    """The files as the model's input, before it is loaded, so that a bad one, or a part cut off, is told at once."""
    from modalign.data.decoding import length_change
    from modalign.stages.asking import MediaFile, decode
    from modalign.stages.sources import SourceBook

    named = [MediaFile(m, content, variants.get(m), told=f"--{m} {name}") for m, name, content in files]
    sources = SourceBook(settings, RecipeBook(settings))
    spans = decode(named, sources)
    for modality, name, content in files:
        if (change := length_change(sources.decoder(modality), content)) is not None:
            what, why = change
            warn(f"note: --{modality} {name}: {why}: {what}")
    return spans


def _answer(folder: Path, settings: Settings, media: tuple[MediaSpan, ...], question: str | None) -> str:
    from modalign.stages.asking import open_run
    from modalign.stages.engine import set_threads
    from modalign.stages.notices import quiet_libraries

    quiet_libraries()
    set_threads(settings.trainer.threads, 0)
    return open_run(folder, settings).say([(media, question)])[0]
