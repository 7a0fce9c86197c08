"""What users do wrong, and what goes wrong: one clear line or a result, and the next run works."""

import shutil
import struct
import zipfile
from itertools import count

import pytest
import torch
from graphs import FAST, Graph, add_stage, keyframes_only, stage_on_frames

seeds = count(1000)  # a run that has to execute needs a seed of its own: the server keeps results


@pytest.fixture(autouse=True)
def next_run_works(frames_of):
    yield
    assert frames_of(keyframes_only(next(seeds))).isfinite().all()


@pytest.fixture
def refused(run):
    """A function that runs a graph that has to fail: the one line the user reads."""

    def refused(graph: Graph) -> str:
        result = run(graph)
        assert result.status in ("error", "rejected"), result.status
        assert len(result.message.splitlines()) == 1, result.message
        return result.message

    return refused


def weights_file(folder):
    return folder / "unet" / "diffusion_pytorch_model.safetensors"


def test_wrong_model_kind(refused, put_frames):
    file = put_frames(torch.rand(2, 16, 24, 3))
    message = refused(stage_on_frames("Show1Interpolate", file, model="show-1-base"))
    assert "Show1Interpolate needs an interpolation model (7 input channels)" in message
    assert "'show-1-base' is a keyframe model (3" in message


@pytest.mark.parametrize("stage", FAST)
def test_every_stage_refuses_the_first_frame_model(refused, put_frames, stage):
    graph, images = Graph(), None
    if stage != "Show1Keyframes":
        images = graph.add("TestLoadFrames", file=put_frames(torch.rand(2, 16, 24, 3)))
    graph.add(
        "TestSaveFrames",
        images=add_stage(graph, stage, images, model="IF-II-L-v1.0"),
        file="out.safetensors",
    )
    message = refused(graph)
    assert stage in message and "IF-II-L-v1.0" in message


def test_text_of_the_wrong_encoder(refused):
    """CLIP text for a stage that reads T5."""
    graph = Graph()
    encoder = graph.add("Show1LoadTextEncoder", name="show-1-sr2")
    images = graph.add(
        "Show1Keyframes",
        model=graph.add("Show1LoadModel", model_name="show-1-base"),
        positive=graph.add("Show1TextEncode", text_encoder=encoder, text="a"),
        **FAST["Show1Keyframes"],
    )
    graph.add("TestSaveFrames", images=images, file="out.safetensors")
    assert "Show1Keyframes" in refused(graph)


def test_model_that_is_not_there(refused):
    assert "no-such-model" in refused(keyframes_only(1, model="no-such-model"))


def test_missing_weights(refused, model_copy):
    weights_file(model_copy("show-1-base", "no-weights")).unlink()
    message = refused(keyframes_only(1, model="no-weights"))
    assert "no-weights" in message and "diffusion_pytorch_model" in message


def test_truncated_weights(refused, model_copy):
    file = weights_file(model_copy("show-1-base", "truncated"))
    file.write_bytes(file.read_bytes()[:-10_000])
    message = refused(keyframes_only(1, model="truncated"))
    assert "diffusion_pytorch_model.safetensors" in message


@pytest.mark.parametrize(
    "header", [b"", struct.pack("<Q", 1 << 40), struct.pack("<Q", 8) + b"not json"]
)
def test_garbage_instead_of_weights(refused, model_copy, header):
    file = weights_file(model_copy("show-1-base", "garbage"))
    file.write_bytes(header)
    assert "diffusion_pytorch_model.safetensors" in refused(keyframes_only(1, model="garbage"))


def test_weights_of_another_model(refused, model_copy, cascade):
    file = weights_file(model_copy("show-1-base", "mixed-up"))
    shutil.copy(weights_file(cascade / "show-1-interpolation"), file)
    message = refused(keyframes_only(1, model="mixed-up"))
    assert "diffusion_pytorch_model.safetensors" in message and "conv_in.weight" in message


def test_a_model_that_cannot_be_used_is_listed_and_run_says_why(server, refused, model_copy):
    folder = model_copy("show-1-base", "of-another-kind")
    config = folder / "unet" / "config.json"
    config.write_text(config.read_text().replace('"in_channels": 3', '"in_channels": 5'))
    kind, about = server.object_info()["Show1LoadModel"]["input"]["required"]["model_name"]
    listed = kind if isinstance(kind, list) else about["options"]
    label = "of-another-kind (cannot be used: Run says why)"
    assert label in listed and "of-another-kind" not in listed
    for name in (label, "of-another-kind"):
        message = refused(keyframes_only(1, model=name))
        assert "'of-another-kind' cannot be used: a UNet with 5 input channels" in message


class Payload:
    """Unpickled without protection it makes a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def test_pickle_with_code(refused, model_copy, tmp_path):
    folder = model_copy("show-1-base", "pickled")
    weights_file(folder).unlink()
    torch.save(
        {"conv_in.weight": Payload(tmp_path / "trap")},
        folder / "unet" / "diffusion_pytorch_model.bin",
    )
    message = refused(keyframes_only(1, model="pickled"))
    assert "diffusion_pytorch_model.bin" in message and not (tmp_path / "trap").exists()


def test_zip_that_is_no_checkpoint(refused, model_copy):
    folder = model_copy("show-1-base", "zipped")
    weights_file(folder).unlink()
    with zipfile.ZipFile(folder / "unet" / "diffusion_pytorch_model.bin", "w") as archive:
        archive.writestr("readme", "hello")
    assert "diffusion_pytorch_model.bin" in refused(keyframes_only(1, model="zipped"))


def test_config_that_is_not_json(refused, model_copy):
    folder = model_copy("show-1-base", "bad-config")
    (folder / "unet" / "config.json").write_text("{")
    assert "bad-config" in refused(keyframes_only(1, model="bad-config"))


@pytest.mark.parametrize("stage", list(FAST)[1:])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_frames_that_are_not_numbers(refused, put_frames, stage, value):
    frames = torch.rand(3, 16, 24, 3)
    frames[1, 4, 4] = value
    message = refused(
        stage_on_frames(stage, put_frames(frames, "nan.safetensors"), seed=next(seeds))
    )
    assert stage in message and "frame 1" in message and "images" in message


@pytest.mark.parametrize("setting", ["width", "height", "num_frames"])
def test_size_zero(refused, setting):
    assert setting in refused(keyframes_only(1, **{setting: 0}))


@pytest.mark.parametrize(
    "size, expected", [((0, 48), (48, 72)), ((72, 0), (48, 72)), ((0, 0), (16, 24))]
)
def test_size_zero_follows_the_input(frames_of, put_frames, size, expected):
    """The expert takes (width, height); frames are (height, width)."""
    file = put_frames(torch.rand(2, 16, 24, 3))
    frames = frames_of(
        stage_on_frames(
            "Show1LatentExpertSR", file, width=size[0], height=size[1], seed=next(seeds)
        )
    )
    assert frames.shape[1:3] == expected


def test_ten_thousand_steps(refused):
    assert "steps" in refused(keyframes_only(1, steps=10_000))


@pytest.mark.parametrize(
    "prompt", ["", " ", "\n", "\u00e9" * 500, "\U0001f3ac \u202e\u0000 (red:1.3) </s>"]
)
def test_odd_prompts_work(frames_of, prompt):
    assert frames_of(keyframes_only(next(seeds), prompt=prompt)).isfinite().all()


@pytest.mark.parametrize("stage", FAST)
def test_interrupt(server, run, put_frames, stage):
    """Stopped at the first step, long before the last."""

    def interrupt(kind: str, data: dict) -> None:
        if kind == "progress" and data["value"] == 1:
            server.request("POST", "/interrupt", {})

    if stage == "Show1Keyframes":
        graph = keyframes_only(next(seeds), steps=300)
    else:
        graph = stage_on_frames(
            stage, put_frames(torch.rand(3, 16, 24, 3)), steps=300, seed=next(seeds)
        )
    result = run(graph, on_event=interrupt)
    assert result.status == "interrupted"
    done, total = max(value for values in result.progress.values() for value in values)
    assert done < total / 2


def test_a_strip_of_one_row_has_previews_and_a_result(server, frames_of, put_frames):
    file = put_frames(torch.rand(2, 1, 3000, 3))
    assert frames_of(stage_on_frames("Show1Interpolate", file)).shape == (5, 1, 3000, 3)
    assert "A preview cannot be shown" not in server.log_text()
