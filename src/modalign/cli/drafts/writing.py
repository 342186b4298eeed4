"""A draft as a commented YAML file, checked by running it on the sample before anything is written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from modalign.cli.drafts.host import Host
from modalign.cli.drafts.kinds import FEWEST_TOKENS, MOST_TOKENS, Draft
from modalign.cli.drafts.sample import SampleFile
from modalign.config.build import build
from modalign.config.schema import FROM_CAPTIONS, ModalitySettings
from modalign.errors import ModalignError

_COMMENT_COLUMN = 34


def yaml_text(name: str, title: str, sample: SampleFile, host: Host, draft: Draft, recipes: list[str]) -> str:
    """The file's text: what it is, then every setting, with a comment where one may want another value."""
    what = f"{title}: read as {sample.kind} from {sample.path.name} ({sample.why})."
    lines = [f"# {what}", "# Written by `modalign new-modality`; every number may be changed."]
    lines.append(f"title: {_flow(title)}")
    lines += ["decoder:", *_block(draft.decoder, draft.comments)]
    lines += ["tokenizer:", *_block(draft.tokenizer, draft.tokenizer_comments)]
    frames = f", num_frames: {draft.num_frames}" if draft.num_frames else ""
    lines.append(f"positions: {{learned: true{frames}}}")
    lines += [f"encoder: {_flow(host.encoder)}", f"projector: {host.projector}"]
    prompt = f"Provide a one-sentence caption for the provided {title.lower()}."
    lines += ["prompts:", f"  - {_flow(prompt)}"]
    lines.append(f"start: {{from: {host.start}}}")
    lines.append(_noted(f"learning_rate_scale: {host.rate_scale:g}", "of its own parts, in the phase that adds it"))
    if draft.tokenizer.get("start") == FROM_CAPTIONS:
        lines.append(_noted("tokenizer_rate_scale: 0.1", "its start is fitted; larger steps learn samples by heart"))
    missing = "" if recipes else "name its recipe here: without one it sits out"
    lines.append(_noted(f"recipes: {_flow(recipes)}", missing))
    lines.append(f"display: {_flow(draft.display)}")
    return "\n".join(lines) + "\n"


def _block(settings: Mapping[str, Any], comments: Mapping[str, str]) -> list[str]:
    return [_noted(f"  {key}: {_flow(value)}", comments.get(key, "")) for key, value in settings.items()]


def _noted(line: str, comment: str) -> str:
    return f"{line:<{_COMMENT_COLUMN}}  # {comment}" if comment else line


def _flow(value: Any) -> str:
    """A value as YAML in one line."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6, sort_keys=False, allow_unicode=True)
    return text.removesuffix("...\n").strip()


def try_out(name: str, written: str, sample: SampleFile, host: Host) -> tuple[int, int]:
    """Read the text as training does, and run decoder and tokenizer on the sample; (tokens, frames)."""
    import torch

    from modalign.data.decoding import standardised

    try:
        settings = ModalitySettings.model_validate(yaml.safe_load(written))
    except ValidationError as error:
        raise ModalignError(f"the draft for {name} is not valid: {str(error).splitlines()[0]}") from error
    decoder = build(settings.decoder, f"modalities.{name}.decoder")
    own = {key: value for key, value in settings.tokenizer.items() if key != "start"}
    tokenizer = build(own, f"modalities.{name}.tokenizer")
    try:
        value = standardised(decoder, decoder(sample.data, None))
    except ValueError as error:
        raise ModalignError(f"{sample.path} does not decode as {sample.kind}: {error}") from None
    with torch.no_grad():
        tokens = tokenizer(value[None], (None,))
    _, frames, count, width = tokens.shape
    if width != host.width or count != tokenizer.num_tokens or not bool(torch.isfinite(tokens).all()):
        given = list(tokens.shape)
        raise ModalignError(f"the tokenizer drafted for {name} gives {given}, not finite tokens of width {host.width}")
    return count, frames


def token_warning(count: int) -> str:
    """What to say of a number of tokens that is out of the ordinary; nothing else."""
    if FEWEST_TOKENS <= count <= MOST_TOKENS:
        return ""
    advice = "a smaller stride gives more" if count < FEWEST_TOKENS else "a larger stride gives fewer"
    return f"{count} tokens are few or many ({FEWEST_TOKENS} to {MOST_TOKENS} are usual): {advice}"


def place_of(set_name: str, name: str, folder: Path) -> Path:
    """Where a modality's YAML lies below a configuration folder."""
    return folder / "modalities" / set_name / f"{name}.yaml"
