"""Motion LoRAs in the host: trained, saved, loaded again in another host, stacked, cancelled,
refused.
"""

from itertools import count

import pytest
import torch
from comfyui_server import Server
from graphs import Graph, Link, out, run_graph
from safetensors.torch import load_file, save_file

from show1_engine.bundled import WEIGHTS
from show1_engine.loading import load_model
from show1_engine.lora.merging import MotionLora
from show1_engine.lora.student import student_settings
from show1_engine.lora.targets import student_layers
from show1_engine.models.patches import LowRank
from show1_engine.runtime import PlainRuntime
from show1_engine.training.result import write_lora
from show1_engine.training.student import student_config
from show1_engine.video import write_mp4
from show1_micro.motions import clip as moving
from show1_micro.world import Scene

MODEL = "micro/show-1-base"
CLIP = moving(Scene("square", "blue", "right", "white", "plain"), "orbit", 10)
seeds = count(3000)


class Motion(Graph):
    """A graph with micro's keyframe model and text in it."""

    def __init__(self):
        super().__init__()
        self.model = self.add("Show1LoadModel", model_name=MODEL)
        encoder = self.add("Show1LoadTextEncoder", name=MODEL)
        self.text = self.add(
            "Show1TextEncode",
            text_encoder=encoder,
            text="a plain blue square on a white background",
        )

    def train(self, file: str, **settings) -> Link:
        quick = {
            "steps": 4,
            "rank": 2,
            "learning_rate": 0.02,
            "window": 4,
            "gradient_checkpointing": False,
        }
        return self.add(
            "Show1TrainMotionLoRA",
            model=self.model,
            images=self.add("TestLoadFrames", file=file),
            positive=self.text,
            **quick | {"seed": next(seeds)} | settings,
        )

    def apply(self, name: str, strength: float, model: Link | None = None, **options) -> Link:
        return self.add(
            "Show1MotionLoRA",
            model=model or self.model,
            lora_name=name,
            strength=strength,
            **options,
        )

    def keyframes(self, model: Link, file: str, **settings) -> None:
        images = self.add(
            "Show1Keyframes",
            model=model,
            positive=self.text,
            width=16,
            height=16,
            num_frames=3,
            cfg=2.0,
            seed=5,
            **{"steps": 2} | settings,
        )
        self.add("TestSaveFrames", images=images, file=file)


@pytest.fixture(scope="module")
def clip(server) -> str:
    save_file({"frames": CLIP.contiguous()}, server.base / "input" / "orbit.safetensors")
    return "orbit.safetensors"


@pytest.fixture(scope="module")
def trained(server, clip) -> dict:
    """One training with its graph's other results: the run, the LoRA's name, frames made with it at
    once.
    """
    graph = Motion()
    lora = graph.train(clip, steps=5, sample_every=2)
    graph.add("SaveLoRA", lora=lora, prefix="loras/orbit")
    graph.add("LossGraphNode", loss=out(lora, 1), filename_prefix="loss")
    graph.keyframes(graph.apply("none", 1.0, lora=lora), "trained.safetensors")
    run = run_graph(server, graph)
    assert run.status == "success", f"{run.message}\n{server.log_tail()}"
    (path,) = (server.base / "output" / "loras").glob("orbit*.safetensors")
    frames = saved(server, "trained.safetensors")
    return {"run": run, "node": lora[0], "name": path.name, "path": path, "frames": frames}


def saved(server: Server, file: str) -> torch.Tensor:
    return load_file(server.base / "output" / file)["frames"]


def test_training_reports_and_shows_samples(trained):
    run, node = trained["run"], trained["node"]
    assert [step for step, _ in run.progress[node]][-1] == 5
    assert (
        len([preview for preview in run.previews if preview.node == node]) >= 3
    )  # steps 2, 4 and 5
    assert run.executed  # core's graph of losses ran on LOSS_MAP
    assert any("images" in output for output in run.outputs.values())


def test_file_is_peft_named_and_only_temporal_attention(trained):
    tensors = load_file(trained["path"])
    assert len(tensors) == 64
    assert all(
        key.startswith("unet.") and "temp_attentions" in key and ".attn" in key and "lora_" in key
        for key in tensors
    )


def test_saved_and_applied_in_a_fresh_host(server, comfyui, trained):
    """Identical frames: from the link, from the file in this host, from the file in another."""

    def graph(file: str) -> Motion:
        motion = Motion()
        motion.keyframes(motion.apply(trained["name"], 1.0), file)
        return motion

    run_graph(server, graph("here.safetensors"))
    assert torch.equal(saved(server, "here.safetensors"), trained["frames"])
    options = {
        "base": server.base,
        "args": ("--cpu", "--disable-api-nodes"),
        "log": server.base / "fresh.log",
    }
    with Server(comfyui, **options) as fresh:
        result = run_graph(fresh, graph("fresh.safetensors"))
    assert result.status == "success", result.message
    assert torch.equal(saved(server, "fresh.safetensors"), trained["frames"])


def test_stacked_negative_zero_and_clean_afterwards(server, trained):
    graph, name = Motion(), trained["name"]
    graph.keyframes(graph.model, "before.safetensors")
    graph.keyframes(graph.apply(name, 0.0), "zero.safetensors")
    graph.keyframes(graph.apply(name, 0.5, graph.apply(name, 0.5)), "halves.safetensors")
    graph.keyframes(graph.apply(name, -1.0, graph.apply(name, 1.0)), "undone.safetensors")
    graph.keyframes(graph.apply(name, -1.0), "negative.safetensors")
    graph.keyframes(graph.model, "after.safetensors", sampler="default")
    run = run_graph(server, graph)
    assert run.status == "success", run.message
    before, zero, halves, undone, negative, after = (
        saved(server, f"{name}.safetensors")
        for name in ("before", "zero", "halves", "undone", "negative", "after")
    )
    assert torch.equal(before, zero) and torch.equal(before, after)
    assert torch.allclose(halves, trained["frames"], atol=1e-4) and torch.allclose(
        undone, before, atol=1e-4
    )
    assert (trained["frames"] - before).abs().max() > 1e-3 and not torch.allclose(
        negative, before, atol=1e-4
    )


def test_a_texture_of_super_resolution(server, clip):
    """The same nodes on the model that draws fine detail: trained from one clip, applied, and seen
    in its frames.
    """
    graph = Motion()
    keyframe_model, graph.model = (
        graph.model,
        graph.add("Show1LoadModel", model_name="micro/show-1-sr1"),
    )
    frames = graph.add("TestLoadFrames", file=clip)
    lora = graph.train(clip, steps=2, targets="attention", objective="plain")
    for file, model in (("without", graph.model), ("with", graph.apply("none", 1.0, lora=lora))):
        images = graph.add(
            "Show1PixelSR",
            model=model,
            images=frames,
            positive=graph.text,
            steps=2,
            cfg=1.0,
            seed=1,
            noise_level=20,
        )
        graph.add("TestSaveFrames", images=images, file=f"{file}.safetensors")
    run = run_graph(server, graph)
    assert run.status == "success", f"{run.message}\n{server.log_tail()}"
    without, textured = (saved(server, f"{file}.safetensors") for file in ("without", "with"))
    assert textured.shape == (10, 64, 64, 3) and (textured - without).abs().max() > 1e-3
    graph.keyframes(graph.apply("none", 1.0, keyframe_model, lora=lora), "never.safetensors")
    assert "does not fit" in run_graph(server, graph).message


def test_cancel_keeps_what_is_learned_and_the_next_run_trains_again(server, clip):
    graph = Motion()
    lora = graph.train(clip, steps=500, sample_every=0)
    graph.add("SaveLoRA", lora=lora, prefix="loras/cancelled")
    done, asked = [], []

    def cancel(kind: str, data: dict) -> None:
        if kind == "progress" and data["node"] == lora[0]:
            done.append(data["value"])
            if data["value"] >= 3 and not asked:  # newer hosts do not send every step
                asked.append(data["value"])
                server.request("POST", "/interrupt")

    for runs in (1, 2):
        done.clear()
        asked.clear()
        run = run_graph(server, graph, on_event=cancel)
        assert run.status == "success", run.message
        assert 3 <= max(done) < 500 and lora[0] not in run.cached
        assert len(list((server.base / "output" / "loras").glob("cancelled*"))) == runs


def test_a_file_for_something_else_is_refused(server, run):
    folder = server.base / "models" / "loras"
    folder.mkdir(exist_ok=True)
    save_file(
        {"down_blocks.0.motion_modules.0.temporal_transformer.proj_in.weight": torch.zeros(4, 4)},
        folder / "animatediff.safetensors",
    )
    graph = Motion()
    graph.keyframes(graph.apply("animatediff.safetensors", 1.0), "never.safetensors")
    result = run(graph)
    assert result.status == "error" and len(result.message.splitlines()) == 1
    assert (
        "'animatediff.safetensors' is an AnimateDiff motion LoRA" in result.message
        and MODEL in result.message
    )


@pytest.fixture(scope="module")
def student(server) -> dict[str, str]:
    """LoRAs of students of three steps, by what is wrong with them: nothing, or their steps."""
    model = load_model(WEIGHTS / "show-1-base", PlainRuntime())
    source = torch.Generator().manual_seed(0)
    changes = {
        f"{name}.weight": LowRank(
            torch.randn(len(layer.weight), 2, generator=source) * 0.01,
            torch.randn(2, layer.in_features, generator=source),
        )
        for name, layer in student_layers(model.network).items()
    }
    settings = student_settings(student_config(model.scheduler_config, 3, model.kind))
    for name, given in (("student", settings), ("odd", {**settings, "student_steps": 99})):
        lora = MotionLora(name, changes, given)
        write_lora(server.base / "models" / "loras" / f"{name}.safetensors", lora, "a card")
    return {"sound": "student.safetensors", "odd": "odd.safetensors"}


def test_a_student_brings_its_steps(server, run, student, trained):
    """Alone, with a motion, and not at strength 0: whatever the stage is asked for."""
    graph, name = Motion(), student["sound"]
    moved = graph.apply(trained["name"], 0.5, graph.apply(name, 1.0))
    for file, model in (
        ("student", graph.apply(name, 1.0)),
        ("student moved", moved),
        ("none", graph.apply(name, 0.0)),
    ):
        graph.keyframes(model, f"{file}.safetensors", steps=5, sampler="ddpm")
    result = run(graph)
    assert result.status == "success", result.message
    plans = [text for _, text in result.texts if text.startswith("3 frames 16x16")]
    assert sum("; 3 steps (a student's own)" in plan for plan in plans) == 2
    assert sum("; 5 steps" in plan for plan in plans) == 1
    assert sorted(bars[-1] for bars in result.progress.values() if bars[-1][1] in (3, 5)) == [
        (3, 3),
        (3, 3),
        (5, 5),
    ]
    one, other, none = (
        saved(server, f"{file}.safetensors") for file in ("student", "student moved", "none")
    )
    assert not torch.allclose(one, other, atol=1e-4) and not torch.allclose(one, none, atol=1e-4)


def test_one_student_alone_and_none_that_is_odd(run, student):
    graph, name = Motion(), student["sound"]
    graph.keyframes(graph.apply(name, 1.0, graph.apply(name, 1.0)), "never.safetensors")
    message = run(graph).message
    assert "is a student of 3 steps" in message and len(message.splitlines()) == 1
    graph = Motion()
    graph.keyframes(graph.apply(student["odd"], 1.0), "never.safetensors")
    message = run(graph).message
    assert "'odd.safetensors'" in message and "'student_steps' is 99" in message
    assert len(message.splitlines()) == 1


def test_no_lora_chosen(run):
    graph = Motion()
    graph.keyframes(graph.apply("none", 1.0), "never.safetensors")
    assert "'lora_name' is 'none'" in run(graph).message


def test_a_video_serves_as_its_frames(server):
    """Where a clip is only looked at, a file goes in as it is: the same LoRA, the same frames."""
    write_mp4(server.base / "input" / "orbit.mp4", CLIP, 8.0)
    graph = Motion()
    video = graph.add("LoadVideo", file="orbit.mp4")
    for name, clip in (("video", video), ("frames", graph.add("GetVideoComponents", video=video))):
        lora = graph.train("orbit.safetensors", steps=2, seed=1)
        graph.prompt[lora[0]]["inputs"]["images"] = clip
        graph.keyframes(
            graph.apply("none", 1.0, lora=lora), f"{name}.safetensors", motion_from=clip
        )
    run = run_graph(server, graph)
    assert run.status == "success", f"{run.message}\n{server.log_tail()}"
    assert torch.equal(saved(server, "video.safetensors"), saved(server, "frames.safetensors"))


def test_starting_from_a_clips_noise(server, clip):
    graph = Motion()
    graph.keyframes(graph.model, "random.safetensors")
    graph.keyframes(
        graph.model,
        "started.safetensors",
        motion_from=graph.add("TestLoadFrames", file=clip),
        motion_mix=0.6,
    )
    run = run_graph(server, graph)
    assert run.status == "success", run.message
    assert not torch.allclose(
        saved(server, "random.safetensors"), saved(server, "started.safetensors"), atol=1e-2
    )
