"""`modalign wandb-report EXPERIMENT RUN …`: the experiment's W&B workspace, or a report, over the runs of its group."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from modalign.cli.parser import VerbParser
from modalign.cli.terminal import say, warn
from modalign.errors import ModalignError

SUMMARY = (
    "Build the W&B workspace of an experiment (--report: a report), from the folders of its runs. EXPERIMENT is the "
    "group under which they were logged. With --to a workspace is written to a file, and nothing is sent."
)


def run(arguments: Sequence[str]) -> int:
    """Build, then save in W&B or write to a file."""
    examples = [
        "modalign wandb-report no_replay runs/align-* --entity me",
        "modalign wandb-report no_replay runs/align-* --to workspace.json",
    ]
    parser = VerbParser("wandb-report", SUMMARY, examples)
    parser.add_argument(
        "experiment", metavar="EXPERIMENT", help="the runs' group: conf/experiment/<name>, logger.group"
    )
    parser.add_argument("folders", metavar="RUN|CURRICULUM", type=Path, nargs="+")
    parser.add_argument("--report", action="store_true", help="a report that can be shared, instead of a workspace")
    parser.add_argument("--entity", default="", help="W&B user or team (WANDB_ENTITY)")
    parser.add_argument("--project", default="modalign", help="modalign")
    parser.add_argument("--to", metavar="FILE", type=Path, help="write JSON there instead of saving it in W&B")
    options = parser.parse(arguments)
    from modalign.evaluation.report.comparison import run_folders
    from modalign.evaluation.report.source import read_run
    from modalign.evaluation.report.wandb_workspace import build_report, build_workspace
    from modalign.runs.grouping import group_of

    entity = options.entity or os.environ.get("WANDB_ENTITY", "")
    if not entity and options.to is None:
        raise ModalignError("modalign wandb-report: whose project is it? name a W&B user or team with --entity")
    build = build_report if options.report else build_workspace
    runs = [read_run(folder) for folder in run_folders(options.folders)]
    groups = {group_of(run.manifest) for run in runs}
    if options.experiment not in groups:
        named = ", ".join(sorted(filter(None, groups))) or "none"
        warn(
            f"note: none of these runs was logged under the group '{options.experiment}' (the groups that they name: "
            f"{named}), so its panels may stay empty: name the group that they have in W&B"
        )
    built = build(runs, entity or "entity", options.project, options.experiment)
    try:
        if options.to is None:
            built.save()
            say(built.url)
            return 0
        content = json.loads(built._to_model().model_dump_json(by_alias=True, exclude_none=True))
    except Exception as error:  # of any kind: no login, no such project, no network
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModalignError(
            f"modalign wandb-report: W&B did not take it ({reason}); log in with `wandb login`, or write a workspace "
            f"to a file with --to (a report asks W&B even for that)"
        ) from None
    options.to.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    say(str(options.to))
    return 0
