"""What the processes of a small world do in tests: a file that each of them runs, with CALL set by who starts it."""

import importlib.util
import os
import pickle
import signal
import sys
import time
import traceback
from pathlib import Path

import torch

from modalign.models.shards import local
from modalign.runs.launch import Launch

NOTED = []  # what a function that is called before a training has to tell of it
SHOP = Path(__file__).resolve().parents[1] / "conftest.py"


def stages_module():
    """What the tests of the stages share."""
    if "stages_shop" not in sys.modules:
        spec = importlib.util.spec_from_file_location("stages_shop", SHOP)
        sys.modules["stages_shop"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["stages_shop"])
    return sys.modules["stages_shop"]


def shop_of(runs, data):
    """The training command on a folder of runs, as the tests of the stages have it."""
    return stages_module().Shop(Path(runs), Path(data))


def train(launch, runs, data, overrides, measured=False, before=None, **settings_of_before):
    """Run a training command as one of several processes; returns the slices that this one was given, by step.

    Nothing is measured or reported at the end, unless `measured`; `before` names a function here that is called first,
    to break things.
    """
    from modalign.config.compose import compose_settings
    from modalign.config.recipes import RecipeBook
    from modalign.config.specs import Planner
    from modalign.errors import ModalignError
    from modalign.stages.base import StageModule
    from modalign.stages.curriculum_run import run_all
    from modalign.stages.measure import Measure
    from modalign.stages.phase_run import PhaseRun

    seen = []
    step = StageModule.training_step

    def watched(self, batch, batch_idx):
        seen.append((self.trainer.global_step, batch.source, () if batch.idle else batch.keys))
        return step(self, batch, batch_idx)

    StageModule.training_step = watched
    if not measured:
        Measure.__call__ = lambda *_: None
        PhaseRun._report = lambda *_: None
    if before is not None:
        globals()[before](launch, **settings_of_before)
    shop = shop_of(runs, data)
    settings, plain = compose_settings(shop.overrides(*overrides))
    specs = Planner(settings, RecipeBook(settings)).plan()
    try:
        run_all(specs, settings, plain, ["train.py"], launch)
    except ModalignError as error:
        return {"seen": seen, "error": f"{type(error).__name__}: {error}", "code": error.exit_code}
    return {"seen": seen, "error": None, "code": 0, "noted": NOTED}


def exchange(launch):
    """Everything that goes from rank to rank."""
    from modalign.runs.ranks import joined

    with joined(launch) as ranks:
        own = torch.full((ranks.rank + 1,), float(ranks.rank), requires_grad=True)
        rows = ranks.rows(own)
        ((ranks.rank + 1) * rows.sum()).backward()
        return {
            "gathered": ranks.gather(str(ranks.rank)),
            "from_first": ranks.from_first(ranks.rank),
            "maximum": ranks.maximum([ranks.rank, 0]),
            "sum": float(ranks.add(torch.tensor(float(ranks.rank)))),
            "rows": rows.tolist(),
            "gradient": own.grad.tolist(),
        }


def meet_an_error(launch):
    """Errors of one rank, of one inside what all do, of the first; and a file that the first makes for all."""
    import tempfile

    from modalign.errors import ModalignError
    from modalign.runs.ranks import joined

    def fails(rank, words):
        if launch.rank == rank:
            raise ModalignError(words)

    def told(action):
        try:
            action()
        except ModalignError as error:
            return type(error).__name__, str(error)
        return None

    with joined(launch) as ranks:
        file = Path(ranks.from_first(tempfile.mkdtemp())) / "made"
        order = []

        def make():
            order.append("found" if file.exists() else "made")
            file.touch()

        ranks.first_then_all(make)
        return {
            "together": told(lambda: ranks.together(lambda: fails(1, "rank 1 has no disk"))),
            "nested": told(lambda: ranks.together(lambda: ranks.together(lambda: fails(2, "deep down")))),
            "first": told(lambda: ranks.of_first(lambda: fails(0, "locked"))),
            "order": order,
        }


def orthogonal_in_float32(launch):
    """Orthogonal steps as on a processor that does not multiply bfloat16 fast."""
    from modalign.stages import muon

    muon.NARROWEST_IN_HALF = sys.maxsize


def stop(launch, rank, step):
    """SIGTERM reaches one rank while a step is under way."""
    from modalign.callbacks.checkpoints import StepCheckpoints

    ended = StepCheckpoints.on_train_batch_end

    def told(self, trainer, pl_module, outputs, batch, batch_idx):
        if launch.rank == rank and trainer.global_step == step:
            signal.raise_signal(signal.SIGTERM)
        ended(self, trainer, pl_module, outputs, batch, batch_idx)

    StepCheckpoints.on_train_batch_end = told


def spoil(launch, rank, step, kind):
    """One rank's loss, or one of its gradients, is not finite in one step."""
    from modalign.stages.base import StageModule

    before, compute = StageModule.on_before_optimizer_step, StageModule.training_step

    def loss(self, batch, batch_idx):
        value = compute(self, batch, batch_idx)
        if kind == "loss" and launch.rank == rank and self.trainer.global_step + 1 == step:
            self._total = self._total * float("nan")
            return value * float("nan")
        return value

    def gradient(self, optimizer):
        if kind == "gradient" and launch.rank == rank and self.trainer.global_step + 1 == step:
            parameter = optimizer.param_groups[0]["params"][0]
            local(parameter.grad).view(-1)[:1] = float("inf")
        before(self, optimizer)

    StageModule.training_step, StageModule.on_before_optimizer_step = loss, gradient


def lose_samples(launch, positions):
    """The samples at these positions of every source are bad."""
    from modalign.data.dataset import Source
    from modalign.errors import BadSample

    stored = Source.stored

    def torn(self, position):
        if position in positions:
            raise BadSample(f"p{position}", "torn")
        return stored(self, position)

    Source.stored = torn


def fail(launch, rank, step, kind):
    """One rank meets an error of ours, an error of its own, or is killed, in the midst of a step."""
    from modalign.errors import ModalignError
    from modalign.stages.base import StageModule

    compute = StageModule.training_step

    def broken(self, batch, batch_idx):
        if launch.rank == rank and self.trainer.global_step + 1 == step:
            if kind == "told":
                raise ModalignError("the disk of this node is on fire")
            if kind == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            raise ValueError("a mistake in the code")
        return compute(self, batch, batch_idx)

    StageModule.training_step = broken


def hang(launch, rank, step):
    """One rank does not come back from a step."""
    from modalign.stages.base import StageModule

    compute = StageModule.training_step

    def stuck(self, batch, batch_idx):
        if launch.rank == rank and self.trainer.global_step + 1 == step:
            time.sleep(600)
        return compute(self, batch, batch_idx)

    StageModule.training_step = stuck


def write_late(launch):
    """Each checkpoint but the last is written only when its process has done another optimizer step."""
    stages_module().write_late(setattr, NOTED)


def count_bytes(launch):
    """Notes for each slice the bytes of gradients that are reduced over the processes, and those of what trains.

    `padded` is what trains with its first axis filled up to a multiple of the processes, as shards are cut.
    """
    import math

    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    from modalign.stages.base import StageModule

    class Traffic(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func.namespace == "c10d" and "reduce" in func._schema.name and NOTED and NOTED[-1]["backward"]:
                largest = max((leaf for leaf in tree_leaves(args) if isinstance(leaf, torch.Tensor)), key=torch.numel)
                # Whole numbers are no gradients: they say which parameters were used.
                NOTED[-1]["bytes"] += largest.nbytes if largest.is_floating_point() else 0
            return func(*args, **(kwargs or {}))

    compute, before = StageModule.training_step, StageModule.on_before_optimizer_step

    def slice_begins(self, batch, batch_idx):
        shapes = [tuple(p.shape) for p in self.model.parameters() if p.requires_grad]
        rows = [math.ceil(shape[0] / launch.world_size) * launch.world_size for shape in shapes]
        padded = sum(4 * n * math.prod(shape[1:]) for n, shape in zip(rows, shapes, strict=True))
        trains = sum(4 * math.prod(shape) for shape in shapes)
        NOTED.append({"slice": batch_idx, "bytes": 0, "trains": trains, "padded": padded, "backward": True})
        return compute(self, batch, batch_idx)

    def step_begins(self, optimizer):
        NOTED[-1]["backward"] = False
        before(self, optimizer)

    StageModule.training_step, StageModule.on_before_optimizer_step = slice_begins, step_begins
    Traffic().__enter__()


PHASES = {
    "align": ("stage=align", "modality=fmri", "curriculum.groups=[[image],[audio],[fmri]]"),
    "instruct": ("stage=instruct", "modality=[image,audio,fmri]"),
}  # fmt: skip


def phase_of(runs, data, stage):
    """A phase of three modalities with three experts, not trained; its parts have the weights that they start with."""
    from modalign.config.compose import compose_settings
    from modalign.config.recipes import RecipeBook
    from modalign.config.specs import Planner
    from modalign.models.freezing import plan_freeze
    from modalign.stages.assemble import build_model, find_text_tokenizer
    from modalign.stages.sources import SourceBook

    shop = shop_of(runs, data)
    settings, _ = compose_settings(shop.overrides(*PHASES[stage]))
    sources = SourceBook(settings, RecipeBook(settings))
    spec = Planner(settings, sources.book).plan()[-1]
    torch.manual_seed(0)
    text = next(Path(runs).glob("pretrain_text-*"))
    model = build_model(settings, spec.modalities, 3, find_text_tokenizer(settings, [text]))
    plan = plan_freeze(model, settings.stages[stage].train)
    plan.apply(model)
    return sources, model.train()


def cut_and_join(launch, runs, data):
    """Shard a model over the processes and gather it again."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule

    from modalign.models.shards import gathered
    from modalign.runs.ranks import joined
    from modalign.stages.parallel.sharded import shard

    with joined(launch) as ranks:
        _, model = phase_of(runs, data, "align")
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        count = sum(parameter.numel() for parameter in model.parameters())
        shard(model, init_device_mesh("cpu", (launch.world_size,)))
        held = sum(local(parameter).numel() for parameter in model.parameters())
        kept = gathered(model.state_dict(), ranks.first)
        equal = kept.keys() == before.keys() and all(torch.equal(before[name], kept[name]) for name in kept)
        units = [name for name, module in model.named_modules() if isinstance(module, FSDPModule)]
    return {"equal": equal, "kept": list(kept), "units": units, "held": held, "parameters": count}


def draw(launch, runs, data, stage, draws):
    """Forward and backward through batches whose modalities all ranks draw alike, and whose lengths each by itself."""
    import random

    from torch.distributed.device_mesh import init_device_mesh

    from modalign.data.collate import Collator
    from modalign.runs.ranks import joined
    from modalign.stages.parallel.sharded import Usage, shard
    from modalign.types import Sample, TextSpan

    common, own = random.Random(7), random.Random(100 + launch.rank)
    seen, lengths = [], []
    with joined(launch) as ranks:
        sources, model = phase_of(runs, data, stage)
        sources.ensure(["world_image", "world_audio", "world_fmri"])
        media = {m: media_of(sources, f"world_{m}", m) for m in ("image", "audio", "fmri")}
        shard(model, init_device_mesh("cpu", (launch.world_size,)))
        usage = Usage(model)
        tokenizer = model.text_tokenizer
        collate = Collator(tokenizer.encode, tokenizer.bos_id, tokenizer.eos_id, 48)
        for number in range(draws):
            chosen = common.sample(sorted(media), common.choice([1, 1, 2]))
            if stage == "instruct" and common.random() < 0.2:
                chosen = []
            samples = []
            for _ in range(own.randint(1, 3)):
                spans = [own.choice(media[m]) for m in chosen]
                words = " ".join(["a small red cube"] * own.randint(1, 9))
                lengths.append(len(words))
                samples.append(Sample(str(number), "drawn", (*spans, TextSpan(words, target=True, end=True))))
            loss = usage.note(model(collate(samples)).loss_sum)
            loss.backward()
            usage.forget(ranks.maximum(usage.flags()))
            assert bool(torch.isfinite(loss))
            model.zero_grad(set_to_none=True)
            seen.append("+".join(chosen))
    return {"draws": len(seen), "seen": seen, "lengths": lengths}


def media_of(sources, recipe, modality):
    """A few decoded samples."""
    from modalign.data.templates import CaptionTemplate

    source = sources.source(recipe, "train", CaptionTemplate())
    spans = [source.media(index)[1][0] for index in range(8)]
    return [span for span in spans if span.modality == modality]


def main(call):
    """Join the world that the call describes and write what came of it."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(call["port"])}
    torch.set_num_threads(1)
    launch = Launch(call["rank"], call["rank"], call["size"], call["size"])
    try:
        outcome = ("done", globals()[call["task"]](launch, **call["arguments"]))
    except BaseException:
        outcome = ("raised", traceback.format_exc())
    Path(call["result"]).write_bytes(pickle.dumps(outcome))


if __name__ == "world":
    main(CALL)
