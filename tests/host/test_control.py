"""Length, prompts over time, given frames, drafts, rates, masks: through the real server."""

import pytest
import torch
from graphs import FAST, Graph, add_stage, out
from safetensors.torch import load_file

SIZE = {"width": 16, "height": 16}


def clip(count: int, height: int = 16, width: int = 16) -> torch.Tensor:
    return torch.rand(count, height, width, 3, generator=torch.Generator().manual_seed(count))


def save(graph: Graph, images: list, file: str = "out.safetensors") -> Graph:
    graph.add("TestSaveFrames", images=images, file=file)
    return graph


def scheduled(graph: Graph, lines: str, frames: int) -> list:
    encoder = graph.add("Show1LoadTextEncoder", name="show-1-base")
    return graph.add(
        "Show1PromptSchedule",
        text_encoder=encoder,
        prompts=lines,
        num_frames=frames,
        transition=0,
    )


def test_a_long_clip_with_prompts_over_time(frames_of):
    """Through keyframes and interpolation; up to the switch it is the first prompt's clip."""

    def made(lines: str) -> torch.Tensor:
        graph = Graph()
        options = {"num_frames": 16, "window": 8, "overlap": 0, "seed": 4001}
        keys = add_stage(graph, "Show1Keyframes", **SIZE, **options)
        node = next(v for v in graph.prompt.values() if v["class_type"] == "Show1Keyframes")
        node["inputs"]["positive"] = scheduled(graph, lines, 16)
        images = add_stage(graph, "Show1Interpolate", keys, seed=4001, keep_given=True)
        return frames_of(save(graph, images))

    one, two = made("0: a red circle"), made("0: a red circle\n4s: a blue square")
    assert len(two) == 61
    assert torch.equal(one[:29:4], two[:29:4]) and not torch.equal(one[32::4], two[32::4])


def test_a_picture_becomes_a_clip_and_the_clip_goes_on(succeed, put_frames, server):
    """Image to video, then its last two frames are given to the next; a mended frame last."""
    graph = Graph()
    picture = graph.add("TestLoadFrames", file=put_frames(clip(1), "picture.safetensors"))
    given = {"indices": "", "take_last": 0, "strength": 1.0, "harmonise": 0}
    first = add_stage(graph, "Show1Keyframes", **SIZE, seed=4002)
    graph.prompt[first[0]]["inputs"]["given"] = graph.add(
        "Show1GivenFrames", images=picture, **given
    )
    second = add_stage(graph, "Show1Keyframes", **SIZE, seed=4003)
    graph.prompt[second[0]]["inputs"]["given"] = graph.add(
        "Show1GivenFrames", images=first, **given | {"take_last": 2, "harmonise": 1}
    )
    save(graph, first, "first.safetensors")
    save(graph, second, "second.safetensors")
    found = {path.name: load_file(path)["frames"] for path in succeed(graph)}
    one, two = found["first.safetensors"], found["second.safetensors"]
    assert torch.equal(one[:1], clip(1)) and torch.equal(two[:2], one[-2:])
    assert not torch.equal(two[2:], one[2:])


def test_a_draft_is_picked_and_shown(run, server):
    """Clip 2 is the run of the next seed; the node shows all of them with their numbers."""
    graph = Graph()
    drafts = add_stage(graph, "Show1Keyframes", **SIZE, seed=4004, drafts=3)
    picked = graph.add("Show1PickClip", images=drafts, clips=3, number=2)
    save(graph, picked, "picked.safetensors")
    save(graph, add_stage(graph, "Show1Keyframes", **SIZE, seed=4005), "single.safetensors")
    result = run(graph)
    assert result.status == "success", result.message
    output = server.base / "output"
    frames = [load_file(output / f"{name}.safetensors")["frames"] for name in ("picked", "single")]
    assert torch.equal(*frames) and len(frames[0]) == FAST["Show1Keyframes"]["num_frames"]
    assert [item["type"] for item in result.outputs[drafts[0]]["images"]] == ["temp"]


def test_video_to_video(frames_of, put_frames):
    graph = Graph()
    images = graph.add("TestLoadFrames", file=put_frames(clip(4), "four.safetensors"))
    keys = add_stage(graph, "Show1Keyframes", **SIZE, seed=4006, strength=0.0)
    graph.prompt[keys[0]]["inputs"]["images"] = images
    assert (frames_of(save(graph, keys)) - clip(4)).abs().max() < 1e-6


@pytest.mark.parametrize(
    "options, count, fps",
    [
        ({"factor": "2"}, 5, 4.0),
        ({"factor": "8", "loop": True}, 24, 16.0),
        ({"target_fps": 5.0}, 6, 5.0),
    ],
)
def test_rates(run, put_frames, server, options, count, fps):
    graph = Graph()
    images = graph.add("TestLoadFrames", file=put_frames(clip(3), "three.safetensors"))
    made = add_stage(graph, "Show1Interpolate", images, fps=2.0, seed=4007, **options)
    save(graph, made)
    result = run(save_rate(graph, made))
    assert result.status == "success", result.message
    assert len(load_file(server.base / "output" / "out.safetensors")["frames"]) == count
    assert [text for _, text in result.texts if text == f"{fps:g}"] or fps in rates(result)


def save_rate(graph: Graph, made: list) -> Graph:
    graph.add("PreviewAny", source=out(made, 1))
    return graph


def rates(result) -> list[float]:
    return [
        float(text)
        for output in result.outputs.values()
        for text in output.get("text", [])
        if isinstance(text, str)
    ]


def test_references_and_a_mask_in_pixel_sr(frames_of, put_frames):
    graph = Graph()
    images = graph.add("TestLoadFrames", file=put_frames(clip(9, 8, 8), "low.safetensors"))
    clean = graph.add("TestLoadFrames", file=put_frames(clip(1, 32, 32), "clean.safetensors"))
    made = add_stage(graph, "Show1PixelSR", images, seed=4008, reference_indices="4")
    graph.prompt[made[0]]["inputs"] |= {
        "reference_frames": clean,
        "mask": graph.add("SolidMask", value=0.0, width=16, height=16),
    }
    frames = frames_of(save(graph, made))
    # All of it is outside: the enlarged source, whatever the seed.
    graph.prompt[made[0]]["inputs"]["seed"] = 4009
    assert frames.shape == (9, 32, 32, 3) and torch.equal(frames, frames_of(graph))


def test_a_mask_in_the_expert(frames_of, put_frames):
    graph = Graph()
    images = graph.add("TestLoadFrames", file=put_frames(clip(3, 16, 24), "wide.safetensors"))
    made = add_stage(graph, "Show1LatentExpertSR", images, seed=4010, loop=True)
    graph.prompt[made[0]]["inputs"] |= {
        "width": 0,
        "height": 0,
        "mask": graph.add("SolidMask", value=0.0, width=24, height=16),
    }
    assert (frames_of(save(graph, made)) - clip(3, 16, 24)).abs().max() < 1e-6


def test_two_clips_beside_each_other(frames_of, put_frames):
    graph = Graph()
    a = graph.add("TestLoadFrames", file=put_frames(clip(3), "a.safetensors"))
    b = graph.add("TestLoadFrames", file=put_frames(clip(2), "b.safetensors"))
    words = {"label_a": "", "label_b": ""}
    both = graph.add("Show1CompareClips", a=a, b=b, mode="side by side", position=0.5, **words)
    frames = frames_of(save(graph, both))
    assert frames.shape == (3, 16, 34, 3)
    assert torch.equal(frames[:, :, :16], clip(3)) and torch.equal(frames[:2, :, 18:], clip(2))


def test_a_prompt_that_was_changed_on_the_way_is_refused(run):
    graph = Graph()
    keys = add_stage(graph, "Show1Keyframes", **SIZE, seed=4011)
    one, two = scheduled(graph, "0: a\n2: b", 4), scheduled(graph, "0: c\n2: d", 4)
    graph.prompt[keys[0]]["inputs"]["positive"] = graph.add(
        "ConditioningAverage",
        conditioning_to=one,
        conditioning_from=two,
        conditioning_to_strength=0.5,
    )
    assert "'positive' was changed between" in run(save(graph, keys)).message
    graph.prompt[keys[0]]["inputs"]["positive"] = graph.add(
        "ConditioningCombine", conditioning_1=one, conditioning_2=two
    )
    assert "holds 2 prompts" in run(graph).message
