"""Models come and go: one at a time on the command line, and of a file no more in memory than is
in use.
"""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch.multiprocessing.reductions import StorageWeakRef

from show1_engine import cascade
from show1_engine.__main__ import main
from show1_engine.bundled import SETTINGS, WEIGHTS
from show1_engine.commands import train
from show1_engine.loading import load_model
from show1_engine.lora.formats import spelled
from show1_engine.lora.merging import MotionLora
from show1_engine.lora.targets import temporal_layers
from show1_engine.models.kinds import FIRST_FRAME_SR, KEYFRAMES
from show1_engine.models.patches import LowRank
from show1_engine.progress import silent
from show1_engine.runtime import PlainRuntime
from show1_engine.stages.registry import STAGES
from show1_engine.video import write_mp4

needs_proc = pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc")


@pytest.fixture
def followed(monkeypatch):
    """follow(module, loader): from now on it loads only where nothing is left of the weights that
    were loaded before; `follow.loaded` names what was.
    """

    def follow(module, name: str) -> None:
        load = getattr(module, name)

        def loading(*arguments, **options):
            left = [name for name, weights in follow.held if not all(w.expired() for w in weights)]
            assert left == []
            loaded = load(*arguments, **options)
            for handle in loaded.handles():
                weights = [w.untyped_storage() for w in handle.module.parameters()]
                follow.held.append((loaded.name, [StorageWeakRef(w) for w in weights]))
            return loaded

        monkeypatch.setattr(module, name, loading)

    follow.held = []
    return follow


def quick() -> dict:
    """The stages' settings with next to nothing to compute."""
    found = {}
    for kind, stage in STAGES.items():
        steps = 5 if stage.option == "expert" else 1 if kind == FIRST_FRAME_SR else 2
        found[kind] = replace(stage.settings, **{**SETTINGS[stage.field], "steps": steps})
    found[KEYFRAMES] = replace(found[KEYFRAMES], num_frames=2)
    return found


def lora(file: Path) -> Path:
    """A file with one for micro's keyframes."""
    layers = temporal_layers(load_model(WEIGHTS / "show-1-base", PlainRuntime()).network)
    pairs = {
        f"{name}.weight": LowRank(
            torch.ones(layer.weight.shape[0], 1), torch.ones(1, layer.weight.shape[1]), None
        )
        for name, layer in layers.items()
    }
    save_file(spelled(MotionLora("ones", pairs), "peft"), file)
    return file


@pytest.mark.parametrize("more", [False, True], ids=["plain", "prompts over time and a LoRA"])
def test_a_model_is_gone_before_the_next_is_loaded(followed, tmp_path, more):
    followed(cascade, "load_model")
    followed(cascade, "load_text_encoder")
    asked = cascade.Cascade(WEIGHTS, "a red circle", settings=quick())
    if more:
        loras = {KEYFRAMES: [(lora(tmp_path / "lora.safetensors"), 0.01)]}
        asked = replace(asked, prompts="0: a red circle\n1: a blue square", loras=loras)
    names = [name for name, _ in cascade.run(asked, PlainRuntime(), lambda name: silent)]
    assert names[-1] == "latent_expert_sr"
    # The stages with models of their own, the expert's VAE, two text encoders.
    assert len(followed.held) == 4 + 1 + 2


def test_training_lets_go_of_the_text_encoder(followed, tmp_path):
    followed(cascade, "load_text_encoder")
    followed(train, "load_model")
    write_mp4(tmp_path / "clip.mp4", torch.rand(3, 16, 16, 3), 4.0)
    words = [str(tmp_path / name) for name in ("clip.mp4", "motion.safetensors")]
    assert main(["train", *words, "--prompt", "a cat", "--steps", "1", "--window", "2"]) == 0
    assert len(followed.held) == 2


@needs_proc
def test_weights_in_their_own_dtype_stay_in_the_file():
    folder = WEIGHTS / "show-1-base"
    model = load_model(folder, PlainRuntime(dtype=torch.float16))
    (file,) = (folder / "unet").glob("*.safetensors")
    lines = Path("/proc/self/maps").read_text().splitlines()
    places = [line.split()[0].split("-") for line in lines if line.endswith(str(file.resolve()))]
    mapped = [range(int(start, 16), int(stop, 16)) for start, stop in places]
    weights = list(model.network.parameters())
    assert weights and all(any(w.data_ptr() in place for place in mapped) for w in weights)


CAST = """
import sys
from pathlib import Path

import torch
from torch import nn

from show1_engine.checkpoints.files import read_safetensors
from show1_engine.loading import filled
from show1_engine.models import bare
from show1_engine.models.handle import UNET
from show1_engine.runtime import PlainRuntime

def resident(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))

file = Path(sys.argv[1])
with torch.device("meta"):
    network = nn.ModuleList(bare.Linear(2048, 2048) for _ in range(50))
before = resident("VmRSS")
filled(UNET, network, network, found=(read_safetensors(file), file), runtime=PlainRuntime())
assert network[0].weight.dtype == torch.float32
print(resident("VmHWM") - before)
"""


@needs_proc
def test_a_cast_holds_little_more_than_its_result(tmp_path, pack):
    """float16 to float32: twice the file, and the stretch of it that is being read."""
    file = tmp_path / "weights.safetensors"
    sizes = {"weight": (2048, 2048), "bias": (2048,)}
    save_file(
        {
            f"{layer}.{name}": torch.zeros(size, dtype=torch.float16)
            for layer in range(50)
            for name, size in sizes.items()
        },
        file,
    )
    words = [sys.executable, "-c", CAST, str(file)]
    done = subprocess.run(words, cwd=pack, stdout=subprocess.PIPE, text=True, check=True)
    assert 2.0 < int(done.stdout) / file.stat().st_size < 2.3
