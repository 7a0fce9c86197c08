"""Model files as they come: every published layout is read, every broken one is refused in one
clear line.
"""

import json
import os
import pickle
import sys
from pathlib import Path

import pytest
import reference
import torch
from safetensors.torch import load_file, save, save_file
from torch import nn

from show1_engine.checkpoints.convert import convert
from show1_engine.checkpoints.find import (
    cascade_in,
    find_models,
    find_text_encoders,
    list_models,
    missing_model,
)
from show1_engine.checkpoints.read import (
    load_strict,
    read_checkpoint,
    read_json,
    read_text_encoder,
    read_weights,
)
from show1_engine.errors import CheckpointError, InputError, ModelKindError
from show1_engine.models.unet import UNet

STEM = "diffusion_pytorch_model"
WEIGHTS = {
    "conv_in.weight": torch.arange(24.0).reshape(2, 3, 4),
    "conv_in.bias": torch.tensor([0.5, -0.0]),
}
UNET = {
    "in_channels": 3,
    "block_out_channels": [32],
    "down_block_types": ["ResnetDownsampleBlock3D"],
    "up_block_types": ["ResnetUpsampleBlock3D"],
}
SCHEDULER = {"_class_name": "DPMSolverMultistepScheduler", "lambda_min_clipped": float("-inf")}
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 3454123456\n"
HTML = b"<!DOCTYPE html>\n<html><head><title>Access to model is restricted</title></head></html>"


class Code:
    """Runs a command when a careless reader unpickles it."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def write_json(path: Path, content) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def write_weights(path: Path, weights: dict = WEIGHTS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        save_file(weights, path)
    else:
        torch.save(weights, path)
    return path


def write_shards(folder: Path, index: str, kind: str, weights: dict = WEIGHTS) -> Path:
    """One tensor a shard."""
    places = {key: f"model-{i:05}-of-{len(weights):05}{kind}" for i, key in enumerate(weights, 1)}
    for key, name in places.items():
        write_weights(folder / name, {key: weights[key]})
    return write_json(folder / index, {"metadata": {"total_size": 104}, "weight_map": places})


def write_model(
    folder: Path, unet: dict = UNET, suffix: str = ".safetensors", **parts: dict
) -> Path:
    write_json(folder / "unet" / "config.json", unet)
    write_weights(folder / "unet" / (STEM + suffix))
    write_json(folder / "scheduler" / "scheduler_config.json", SCHEDULER)
    if "noising" in parts:
        write_json(folder / "image_noising_scheduler" / "scheduler_config.json", parts["noising"])
    if "vae" in parts:
        write_json(folder / "vae" / "config.json", parts["vae"])
        write_weights(folder / "vae" / (STEM + suffix), {"encoder.conv_in.weight": torch.ones(3)})
    return folder


def write_text(folder: Path, kind: str = "t5", weights: dict = WEIGHTS) -> Path:
    write_json(folder / "text_encoder" / "config.json", {"model_type": kind})
    write_weights(folder / "text_encoder" / "model.safetensors", weights)
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer" / ("spiece.model" if kind == "t5" else "vocab.json")).touch()
    return folder


def refused(function, *arguments, error=CheckpointError) -> str:
    """The message: one line that names a file and says something about it."""
    with pytest.raises(error) as caught:
        function(*arguments)
    message = str(caught.value)
    assert "\n" not in message and "'" in message and len(message) < 600
    return message


# JSON


@pytest.mark.parametrize(
    "text", ['{"a": -Infinity}', '\ufeff{"a": -Infinity}'], ids=["plain", "with a mark"]
)
def test_json_may_hold_infinity_and_a_byte_order_mark(tmp_path, text):
    assert read_json(write_json(tmp_path / "c.json", text)) == {"a": float("-inf")}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (LFS, "git-lfs pointer"),
        (HTML, "web page"),
        (b"\0" * 100, "zeros"),
        (b'{"in_channels": 3, "down', "not valid JSON"),
        (b"\xff\xfe\x00", "not valid JSON"),
        (b"[" * 100_000, "not valid"),
        (b"[1, 2]", "no JSON object"),
    ],
    ids=["empty", "lfs", "html", "zeros", "cut", "binary", "nested", "list"],
)
def test_a_broken_config_is_refused_by_name(tmp_path, content, says):
    path = tmp_path / "config.json"
    path.write_bytes(content)
    message = refused(read_json, path)
    assert says in message and str(path) in message


def test_a_missing_config_is_refused_by_name(tmp_path):
    assert "is missing" in refused(read_json, tmp_path / "config.json")
    assert "is a folder" in refused(read_json, tmp_path)


# Layouts


@pytest.mark.parametrize(
    "name",
    [f"{STEM}{variant}{kind}" for variant in ("", ".fp16") for kind in (".safetensors", ".bin")],
)
def test_a_whole_file_is_read(tmp_path, name):
    path = write_weights(tmp_path / name)
    weights, file = read_weights(tmp_path, (STEM,))
    assert same(weights, WEIGHTS) and file == path


@pytest.mark.parametrize("kind", [".safetensors", ".bin"])
@pytest.mark.parametrize(
    "index", ["model{}.index.json", "model.fp16{}.index.json", "model{}.index.fp16.json"]
)
def test_shards_are_read(tmp_path, kind, index):
    path = write_shards(tmp_path, index.format(kind), kind)
    weights, file = read_weights(tmp_path, ("model",))
    assert same(weights, WEIGHTS) and file == path


def test_safetensors_come_before_pickles_and_plain_files_before_half_precision(tmp_path):
    order = [f"{STEM}.safetensors", f"{STEM}.fp16.safetensors", f"{STEM}.bin", f"{STEM}.fp16.bin"]
    for name in order:
        write_weights(tmp_path / name)
    assert read_weights(tmp_path, (STEM,), prefer_fp16=True)[1].name == order[1]
    for name in order:
        assert read_weights(tmp_path, (STEM,))[1].name == name
        (tmp_path / name).unlink()


def test_a_stem_of_another_library_is_found(tmp_path):
    write_weights(tmp_path / "pytorch_model.bin")
    assert read_weights(tmp_path, ("model", "pytorch_model"))[1].name == "pytorch_model.bin"


def test_the_older_torch_format_is_read(tmp_path):
    torch.save(WEIGHTS, tmp_path / f"{STEM}.bin", _use_new_zipfile_serialization=False)
    assert same(read_weights(tmp_path, (STEM,))[0], WEIGHTS)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc")
@pytest.mark.parametrize("name", [f"{STEM}.safetensors", f"{STEM}.bin"])
def test_weights_are_mapped_not_copied(tmp_path, name):
    path = write_weights(tmp_path / name, {"a": torch.zeros(1_000_000)})
    weights, _ = read_weights(tmp_path, (STEM,))
    assert str(path) in Path("/proc/self/maps").read_text()
    assert weights["a"].sum() == 0


def test_a_shard_may_be_a_link_into_a_download_cache(tmp_path):
    write_shards(tmp_path / "snapshot", "model.safetensors.index.json", ".safetensors")
    shard = next((tmp_path / "snapshot").glob("*.safetensors"))
    shard.rename(tmp_path / "blob")
    shard.symlink_to(tmp_path / "blob")
    assert same(read_weights(tmp_path / "snapshot", ("model",))[0], WEIGHTS)


# Broken weights


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (LFS, "git-lfs pointer"),
        (HTML, "web page"),
        (b"Entry not found", "is text"),
        (b"\0" * 1000, "zeros"),
        (save(WEIGHTS)[:50], "is damaged"),
        (save(WEIGHTS)[:-7], "is cut short"),
        (save(WEIGHTS) + b"more", "is damaged"),
        (os.urandom(16) + b"\xff" * 100, "is damaged"),
        ((100).to_bytes(8, "little") + b"{" * 100, "is damaged"),
        (b"PK\x03\x04" + b"\0" * 100, "under a safetensors name"),
    ],
    ids=[
        "empty",
        "lfs",
        "html",
        "text",
        "zeros",
        "cut header",
        "cut",
        "longer",
        "noise",
        "no JSON",
        "pickle",
    ],
)
def test_a_broken_safetensors_file_is_refused_by_name(tmp_path, content, says):
    path = tmp_path / f"{STEM}.safetensors"
    path.write_bytes(content)
    message = refused(read_weights, tmp_path, (STEM,))
    assert says in message and str(path) in message


def zipped() -> bytes:
    from io import BytesIO

    buffer = BytesIO()
    torch.save(WEIGHTS, buffer)
    return buffer.getvalue()


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (LFS, "git-lfs pointer"),
        (HTML, "web page"),
        (b"Entry not found", "is text"),
        (b"\0" * 1000, "zeros"),
        (zipped()[:50], "is cut short or damaged"),
        (zipped()[:-7], "is cut short or damaged"),
        (zipped()[:-400], "is cut short or damaged"),
        (zipped()[:200] + os.urandom(300) + zipped()[500:], "damaged"),
        (b"\x80\x02" + os.urandom(200), "damaged"),
        (b"\xff" * 200, "damaged"),
        (pickle.dumps([1, 2], 2), "damaged"),
    ],
    ids=[
        "empty",
        "lfs",
        "html",
        "text",
        "zeros",
        "start",
        "cut",
        "cut more",
        "overwritten",
        "noise",
        "ones",
        "list",
    ],
)
def test_a_broken_pickle_is_refused_by_name(tmp_path, content, says):
    path = tmp_path / f"{STEM}.bin"
    path.write_bytes(content)
    message = refused(read_weights, tmp_path, (STEM,))
    assert says in message and str(path) in message and "weights_only" not in message


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("zip_format", [True, False])
def test_a_pickle_cut_anywhere_is_refused(tmp_path, zip_format):
    path = tmp_path / f"{STEM}.bin"
    torch.save({"a": torch.ones(30)}, path, _use_new_zipfile_serialization=zip_format)
    whole = path.read_bytes()
    for length in range(0, len(whole), 3):
        path.write_bytes(whole[:length])
        assert str(path) in refused(read_weights, tmp_path, (STEM,))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("zip_format", [True, False])
def test_code_in_a_pickle_is_refused_and_not_run(tmp_path, zip_format):
    mark = tmp_path / "mark"
    torch.save(
        {**WEIGHTS, "extra": Code(mark)},
        tmp_path / f"{STEM}.bin",
        _use_new_zipfile_serialization=zip_format,
    )
    message = refused(read_weights, tmp_path, (STEM,))
    assert "Python code" in message and "system" in message and "weights_only" not in message
    assert not mark.exists()


@pytest.mark.parametrize(
    "content",
    [
        [1, 2],
        {"epoch": 3},
        {"state_dict": WEIGHTS},
        {1: torch.ones(1)},
        {"a": torch.eye(3).to_sparse()},
    ],
)
def test_a_pickle_of_something_else_is_refused(tmp_path, content):
    torch.save(content, tmp_path / f"{STEM}.bin")
    assert "no weights by name" in refused(read_weights, tmp_path, (STEM,))


def test_pickles_are_refused_where_torch_cannot_read_them_safely(tmp_path, monkeypatch):
    write_weights(tmp_path / f"{STEM}.bin")
    monkeypatch.setattr(torch, "__version__", type(torch.__version__)("2.5.1+cpu"))
    assert "2.6" in refused(read_weights, tmp_path, (STEM,))
    monkeypatch.setattr(torch, "__version__", type(torch.__version__)("2.10.0"))
    assert same(read_weights(tmp_path, (STEM,))[0], WEIGHTS)


def test_an_unfinished_download_is_named(tmp_path):
    (tmp_path / f"{STEM}.safetensors.part").touch()
    write_json(tmp_path / "config.json", UNET)
    message = refused(read_weights, tmp_path, (STEM,))
    assert f"only {STEM}.safetensors.part" in message and "config.json" not in message
    assert "no such folder" in refused(read_weights, tmp_path / "vae", (STEM,))


# Shards


def test_missing_shards_are_named(tmp_path):
    write_shards(tmp_path, "model.safetensors.index.json", ".safetensors")
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    message = refused(read_weights, tmp_path, ("model",))
    assert "model-00002-of-00002.safetensors" in message and "00001" not in message


def test_a_damaged_shard_is_named(tmp_path):
    write_shards(tmp_path, "model.safetensors.index.json", ".safetensors")
    shard = tmp_path / "model-00001-of-00002.safetensors"
    shard.write_bytes(shard.read_bytes()[:-4])
    assert f"'{shard}' is cut short" in refused(read_weights, tmp_path, ("model",))


def test_an_index_of_another_model_is_refused(tmp_path):
    index = write_shards(tmp_path, "model.safetensors.index.json", ".safetensors")
    places = json.loads(index.read_text())["weight_map"]
    write_json(
        index, {"weight_map": {**places, "conv_out.weight": "model-00001-of-00002.safetensors"}}
    )
    message = refused(read_weights, tmp_path, ("model",))
    assert (
        "conv_out.weight" in message
        and "model-00001-of-00002.safetensors" in message
        and str(index) in message
    )


@pytest.mark.parametrize("content", [{}, {"weight_map": {}}, {"weight_map": ["model.safetensors"]}])
def test_an_index_without_a_map_is_refused(tmp_path, content):
    write_json(tmp_path / "model.safetensors.index.json", content)
    assert "weight_map" in refused(read_weights, tmp_path, ("model",))


@pytest.mark.parametrize(
    "name",
    [
        "../secret.safetensors",
        "/etc/secret.safetensors",
        "..\\secret.safetensors",
        "C:secret.safetensors",
        "sub/secret.safetensors",
        "secret.bin",
        "..",
        "",
        3,
        None,
        "secret\0.safetensors",
    ],
)
def test_an_index_cannot_lead_out_of_its_folder_nor_to_a_pickle(tmp_path, name):
    folder = tmp_path / "model"
    for place in (tmp_path, folder, folder / "sub"):
        write_weights(place / "secret.safetensors")
    torch.save({"extra": Code(tmp_path / "mark")}, folder / "secret.bin")
    write_json(folder / "model.safetensors.index.json", {"weight_map": {"conv_in.weight": name}})
    assert "names the shard" in refused(read_weights, folder, ("model",))
    assert not (tmp_path / "mark").exists()


# Model folders


def test_a_model_folder_is_read(tmp_path):
    model = read_checkpoint(write_model(tmp_path / "show-1-base-0.0"))
    assert (model.name, model.kind) == ("show-1-base-0.0", "keyframes")
    assert model.unet_config.items() >= UNET.items() and model.scheduler_config == SCHEDULER
    assert model.unet_config["norm_eps"] == 1e-5, "what the class itself assumes"
    assert model.noising_config is None and model.vae_config is None
    weights, file = model.weights("unet")
    assert (
        same(weights, WEIGHTS)
        and file == tmp_path / "show-1-base-0.0" / "unet" / f"{STEM}.safetensors"
    )


def test_optional_parts_are_read(tmp_path):
    model = read_checkpoint(
        write_model(
            tmp_path / "m", noising={"steps_offset": 1, "n": 1}, vae={"v": 2, "scaling_factor": 0.5}
        )
    )
    assert model.noising_config == {"steps_offset": 1} and model.vae_config == {
        "scaling_factor": 0.5
    }
    assert list(model.weights("vae")[0]) == ["encoder.conv_in.weight"]


def test_weights_are_read_only_when_asked_for(tmp_path):
    folder = write_model(tmp_path / "m")
    (folder / "unet" / f"{STEM}.safetensors").write_bytes(HTML)
    model = read_checkpoint(folder)
    assert "web page" in refused(model.weights, "unet")


def test_half_precision_can_be_preferred(tmp_path):
    folder = write_model(tmp_path / "m")
    write_weights(
        folder / "unet" / f"{STEM}.fp16.safetensors", {k: v.half() for k, v in WEIGHTS.items()}
    )
    model = read_checkpoint(folder)
    assert model.weights("unet")[0]["conv_in.bias"].dtype == torch.float32
    assert model.weights("unet", prefer_fp16=True)[0]["conv_in.bias"].dtype == torch.float16


@pytest.mark.parametrize(
    ("path", "says"),
    [("unet/config.json", "not a model folder"), ("scheduler/scheduler_config.json", "is missing")],
)
def test_a_missing_config_is_named(tmp_path, path, says):
    folder = write_model(tmp_path / "m")
    (folder / path).unlink()
    message = refused(read_checkpoint, folder)
    assert says in message and path in message


@pytest.mark.parametrize(
    "change",
    [
        {"in_channels": "3"},
        {"in_channels": [3]},
        {"down_block_types": None},
        {"down_block_types": []},
        {"down_block_types": "ResnetDownsampleBlock3D"},
        {"down_block_types": [1]},
    ],
)
def test_a_config_of_something_else_is_refused(tmp_path, change):
    assert "no UNet config" in refused(
        read_checkpoint, write_model(tmp_path / "m", {**UNET, **change})
    )


def test_another_architecture_is_refused(tmp_path):
    stable_diffusion = {
        "in_channels": 4,
        "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    }
    with pytest.raises(ModelKindError):
        read_checkpoint(write_model(tmp_path / "m", stable_diffusion))
    with pytest.raises(ModelKindError):
        read_checkpoint(write_model(tmp_path / "n", {**UNET, "in_channels": 9}))


def test_a_path_that_is_no_model_is_refused(tmp_path):
    assert "does not exist" in refused(read_checkpoint, tmp_path / "none")
    assert "does not exist" in refused(read_checkpoint, tmp_path / "none.safetensors")
    write_weights(tmp_path / "model.ckpt")
    assert "neither a model folder nor" in refused(read_checkpoint, tmp_path / "model.ckpt")


def test_attention_keys_of_an_old_vae_get_todays_names(tmp_path):
    folder = write_model(tmp_path / "m", vae={})
    old = {
        f"decoder.mid_block.attentions.0.{name}.weight": torch.ones(1)
        for name in ("query", "key", "value", "proj_attn", "group_norm")
    }
    write_weights(folder / "vae" / f"{STEM}.safetensors", old)
    assert sorted(key.split(".0.", 1)[1] for key in read_checkpoint(folder).weights("vae")[0]) == [
        "group_norm.weight",
        "to_k.weight",
        "to_out.0.weight",
        "to_q.weight",
        "to_v.weight",
    ]


# Single files


@pytest.mark.parametrize("suffix", [".safetensors", ".fp16.safetensors", ".bin"])
def test_a_converted_model_is_the_same_model(tmp_path, suffix):
    folder = write_model(tmp_path / "m", suffix=suffix, noising={"n": 1}, vae={"v": 2})
    convert(folder, tmp_path / "m.safetensors")
    before, after = read_checkpoint(folder), read_checkpoint(tmp_path / "m.safetensors")
    assert after.name == "m" and after.kind == before.kind
    for part in ("unet_config", "scheduler_config", "noising_config", "vae_config"):
        assert getattr(after, part) == getattr(before, part)
    for part in ("unet", "vae"):
        weights, file = after.weights(part)
        assert same(weights, before.weights(part)[0]) and file == tmp_path / "m.safetensors"
    assert set(load_file(tmp_path / "m.safetensors")) == {
        "unet.conv_in.weight",
        "unet.conv_in.bias",
        "vae.encoder.conv_in.weight",
    }
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["m", "m.safetensors"]


def test_conversion_changes_the_type_of_floating_weights_only(tmp_path):
    folder = write_model(tmp_path / "m")
    write_weights(
        folder / "unet" / f"{STEM}.safetensors", {"a": torch.ones(2), "ids": torch.tensor([70000])}
    )
    convert(folder, tmp_path / "m.safetensors", torch.bfloat16)
    convert(tmp_path / "m.safetensors", tmp_path / "again.safetensors", torch.float16)
    weights, _ = read_checkpoint(tmp_path / "again.safetensors").weights("unet")
    assert weights["a"].dtype == torch.float16 and weights["ids"].tolist() == [70000]


def test_tensors_that_share_memory_or_are_strided_are_converted(tmp_path):
    whole = torch.arange(6.0).reshape(2, 3)
    folder = write_model(tmp_path / "m", suffix=".bin")
    write_weights(
        folder / "unet" / f"{STEM}.bin", {"a": whole, "b": whole, "c": whole[1], "d": whole.T}
    )
    convert(folder, tmp_path / "m.safetensors")
    weights, _ = read_checkpoint(tmp_path / "m.safetensors").weights("unet")
    assert same(weights, {"a": whole, "b": whole, "c": whole[1], "d": whole.T})


def test_a_model_without_vae_has_no_vae_weights(tmp_path):
    convert(write_model(tmp_path / "m"), tmp_path / "m.safetensors")
    assert "no vae weights" in refused(read_checkpoint(tmp_path / "m.safetensors").weights, "vae")


def test_a_file_without_our_metadata_is_refused_by_name(tmp_path):
    path = write_weights(tmp_path / "unet.safetensors")
    message = refused(read_checkpoint, path)
    assert (
        str(path) in message
        and "python -m show1_engine convert MODEL_FOLDER unet.safetensors" in message
    )


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        ("{", "damaged"),
        ("[1]", "damaged"),
        ("{}", "damaged"),
        ('{"format": 1}', "damaged"),
        ("[" * 10_000, "damaged"),
        ('{"format": 2, "unet": {}, "scheduler": {}, "noising": null, "vae": null}', "format 2"),
        (
            '{"format": 1, "unet": 3, "scheduler": {}, "noising": null, "vae": null}',
            "no unet config",
        ),
        (
            '{"format": 1, "unet": {}, "scheduler": null, "noising": null, "vae": null}',
            "no scheduler config",
        ),
        ('{"format": 1, "unet": {}, "scheduler": {}, "noising": null, "vae": 5}', "no vae config"),
        (
            '{"format": 1, "unet": {}, "scheduler": {}, "noising": null, "vae": null}',
            "no UNet config",
        ),
    ],
)
def test_foreign_metadata_is_refused(tmp_path, metadata, says):
    save_file(WEIGHTS, tmp_path / "m.safetensors", {"show1": metadata})
    assert says in refused(read_checkpoint, tmp_path / "m.safetensors")


def test_a_single_file_cut_short_is_refused(tmp_path):
    path = tmp_path / "m.safetensors"
    convert(write_model(tmp_path / "m"), path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    assert "is cut short" in refused(read_checkpoint(path).weights, "unet")
    path.write_bytes(whole[:100])
    assert "is damaged" in refused(read_checkpoint, path)


def test_conversion_refuses_a_target_it_cannot_write(tmp_path):
    folder = write_model(tmp_path / "m")
    assert "is not a .safetensors file name" in refused(
        convert, folder, tmp_path / "m.ckpt", error=InputError
    )
    assert "is not a .safetensors file name" in refused(convert, folder, tmp_path, error=InputError)
    assert "does not exist" in refused(
        convert, folder, tmp_path / "no" / "m.safetensors", error=InputError
    )
    with pytest.raises(InputError, match="int64"):
        convert(folder, tmp_path / "m.safetensors", torch.int64)
    convert(folder, tmp_path / "m.safetensors")
    assert "into itself" in refused(
        convert, tmp_path / "m.safetensors", tmp_path / "m.safetensors", error=InputError
    )


def test_conversion_refuses_weights_that_do_not_fit_the_type(tmp_path):
    folder = write_model(tmp_path / "m")
    write_weights(folder / "unet" / f"{STEM}.safetensors", {"a": torch.tensor([1e6])})
    with pytest.raises(InputError, match="a are too large for torch.float16"):
        convert(folder, tmp_path / "m.safetensors", torch.float16)
    assert not (tmp_path / "m.safetensors").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="needs resource limits")
def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path):
    import resource

    folder, target = write_model(tmp_path / "m"), tmp_path / "m.safetensors"
    convert(folder, target)
    before = target.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))  # a file may not grow past 100 bytes
    try:
        message = refused(convert, folder, target, torch.float16)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "cannot be written" in message and target.read_bytes() == before
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["m", "m.safetensors"]


# Text encoders


@pytest.mark.parametrize("kind", ["t5", "clip_text_model"])
def test_the_text_encoder_of_a_model_folder_is_read(tmp_path, kind):
    text = read_text_encoder(write_text(tmp_path / "m", kind, {"shared.weight": torch.ones(2)}))
    assert text.model_type == kind and text.config["model_type"] == kind
    assert text.tokenizer_folder == tmp_path / "m" / "tokenizer"
    weights, file = text.weights()
    assert (
        list(weights) == ["shared.weight"]
        and file == tmp_path / "m" / "text_encoder" / "model.safetensors"
    )


@pytest.mark.parametrize("place", [".", "tokenizer", "../tokenizer"])
def test_a_bare_text_encoder_is_read(tmp_path, place):
    folder = write_json(tmp_path / "t5" / "config.json", {"model_type": "t5"}).parent
    write_shards(folder, "pytorch_model.bin.index.json", ".bin")
    assert "no tokenizer" in refused(read_text_encoder, folder)
    (folder / place).mkdir(exist_ok=True)
    (folder / place / "tokenizer.json").touch()
    text = read_text_encoder(folder)
    assert text.tokenizer_folder.resolve() == (folder / place).resolve()


def test_the_decoder_of_a_whole_t5_is_left_out(tmp_path):
    names = ("shared.weight", "encoder.block.0.weight", "decoder.block.0.weight", "lm_head.weight")
    text = read_text_encoder(
        write_text(tmp_path / "m", "t5", {name: torch.ones(1) for name in names})
    )
    assert sorted(text.weights()[0]) == ["encoder.block.0.weight", "shared.weight"]


def test_another_text_encoder_is_refused(tmp_path):
    message = refused(read_text_encoder, write_text(tmp_path / "m", "umt5"))
    assert "'umt5'" in message and str(tmp_path / "m") in message
    (tmp_path / "empty").mkdir()
    assert "is no text encoder" in refused(read_text_encoder, tmp_path / "empty")


# Into a module


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(2, 3), nn.Linear(3, 1)
        self.register_buffer("count", torch.zeros(1, dtype=torch.int64))


def small_weights() -> dict:
    return {key: torch.full_like(value, 2) for key, value in Small().state_dict().items()}


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_weights_go_into_a_module_as_they_are(tmp_path, device):
    with torch.device(device):
        module = Small()
    weights = small_weights() | {"first.bias": torch.ones(3, dtype=torch.float16)}
    load_strict(module, weights, tmp_path / "f")
    assert module.first.bias.dtype == torch.float16
    assert all(
        module.state_dict()[key].data_ptr() == value.data_ptr() for key, value in weights.items()
    )


def test_every_fault_of_the_weights_is_in_one_message(tmp_path):
    weights = small_weights()
    del weights["first.weight"]
    weights["other.weight"] = torch.ones(1)
    weights["second.weight"] = torch.ones(3, 1)
    weights["second.bias"] = torch.ones(1, dtype=torch.int64)
    module = Small()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    message = refused(load_strict, module, weights, tmp_path / "file.safetensors")
    for part in (
        str(tmp_path / "file.safetensors"),
        "1 missing: first.weight",
        "1 unknown: other.weight",
        "1 of another shape: second.weight ((3, 1) instead of (1, 3))",
        "1 of another type: second.bias (torch.int64)",
    ):
        assert part in message
    assert same(before, module.state_dict())


def test_a_long_list_of_keys_is_cut(tmp_path):
    module = nn.Sequential(*(nn.Linear(1, 1) for _ in range(100)))
    assert "200 missing: 0.weight, 0.bias, 1.weight and 197 more" in refused(
        load_strict, module, {}, tmp_path / "f"
    )


def test_position_ids_are_harmless(tmp_path):
    load_strict(
        Small(),
        {**small_weights(), "embeddings.position_ids": torch.arange(77)[None]},
        tmp_path / "f",
    )


@pytest.mark.parametrize(
    "names",
    [
        ("shared.weight",),
        ("encoder.embed_tokens.weight",),
        ("shared.weight", "encoder.embed_tokens.weight"),
    ],
)
def test_t5_knows_one_embedding_by_two_names(tmp_path, names):
    weights = {name: torch.ones(5, 2) for name in names}
    for module in (
        nn.ModuleDict({"shared": nn.Embedding(5, 2)}),
        nn.ModuleDict(
            {
                "shared": nn.Embedding(5, 2),
                "encoder": nn.ModuleDict({"embed_tokens": nn.Embedding(5, 2)}),
            }
        ),
    ):
        load_strict(module, weights, tmp_path / "f")
        assert all(bool((value == 1).all()) for value in module.state_dict().values())


def test_the_prefix_of_clip_comes_and_goes_with_the_library(tmp_path):
    bare = nn.ModuleDict({"embeddings": nn.ModuleDict({"token_embedding": nn.Embedding(5, 2)})})
    prefixed = nn.ModuleDict({"text_model": nn.ModuleDict(dict(bare))})
    for module, weights in ((bare, prefixed.state_dict()), (prefixed, bare.state_dict())):
        load_strict(
            module, {key: torch.ones_like(value) for key, value in weights.items()}, tmp_path / "f"
        )
        assert all(bool((value == 1).all()) for value in module.state_dict().values())


# Finding


def test_models_are_found_one_and_two_levels_deep(tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    write_model(first / "show-1-base")
    write_model(first / "showlab" / "show-1-sr1", {**UNET, "in_channels": 6})
    write_model(first / "too" / "deep" / "model")
    write_model(first / ".cache")
    convert(write_model(second / "show-1-base"), second / "single.safetensors")
    found = find_models([first, tmp_path / "none", second])
    assert {name: item.kind for name, item in found.items()} == {
        "show-1-base": "keyframes",
        "showlab/show-1-sr1": "pixel_sr",
        "single.safetensors": "keyframes",
    }
    assert (
        found["show-1-base"].path == first / "show-1-base"
        and found["showlab/show-1-sr1"].name in found
    )


def test_what_is_broken_is_not_found_and_does_no_harm(tmp_path):
    write_model(tmp_path / "other", {"in_channels": 4, "down_block_types": ["DownBlock2D"]})
    write_json(tmp_path / "cut" / "unet" / "config.json", '{"in_ch')
    write_json(tmp_path / "list" / "unet" / "config.json", "[]")
    (tmp_path / "folder" / "unet" / "config.json").mkdir(parents=True)
    (tmp_path / "folder.safetensors").mkdir()
    (tmp_path / "empty.safetensors").touch()
    (tmp_path / "noise.safetensors").write_bytes(os.urandom(100))
    (tmp_path / "gone.safetensors").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop").symlink_to(tmp_path)
    write_weights(tmp_path / "foreign.safetensors")
    write_text(tmp_path / "bert", "bert")
    write_model(tmp_path / "good")
    assert list(find_models([tmp_path])) == ["good", "loop/good"]
    assert find_text_encoders([tmp_path, tmp_path / "good" / "unet" / "config.json"]) == {}


def test_a_model_that_cannot_be_used_is_listed_last_with_the_reason(tmp_path):
    write_model(tmp_path / "another", {**UNET, "in_channels": 5})
    write_model(tmp_path / "class", {**UNET, "_class_name": "UNetMotionModel"})
    write_json(tmp_path / "cut" / "unet" / "config.json", '{"in_ch')
    write_json(tmp_path / "half" / "model_index.json", "{}")
    (tmp_path / "half" / "unet").mkdir()
    (write_model(tmp_path / "lab" / "no-weights") / "unet" / f"{STEM}.safetensors").unlink()
    (write_model(tmp_path / "no-scheduler") / "scheduler" / "scheduler_config.json").unlink()
    save_file(WEIGHTS, tmp_path / "old.safetensors", {"show1": '{"format": 0}'})
    write_model(tmp_path / "zero")
    listed = list_models([tmp_path])
    assert {name: item.reason for name, item in find_models([tmp_path]).items()} == {"zero": ""}
    assert list(listed) == [
        "zero",
        "another",
        "class",
        "cut",
        "half",
        "lab/no-weights",
        "no-scheduler",
        "old.safetensors",
    ]
    for name, says in {
        "another": "5 input channels",
        "class": "UNetMotionModel",
        "cut": "not valid JSON",
        "half": "unet/config.json is missing",
        "lab/no-weights": "holds no weights",
        "no-scheduler": "scheduler_config.json",
        "old.safetensors": "damaged Show-1 metadata",
    }.items():
        assert says in listed[name].reason and "\n" not in listed[name].reason, name
        assert listed[name].kind == ""


def test_what_is_no_model_is_not_listed(tmp_path):
    for name in ("unet", "vae/unet", "text"):
        (tmp_path / name).mkdir(parents=True)
    write_json(tmp_path / "pipeline" / "model_index.json", "{}")  # its network is a transformer/
    write_json(tmp_path / "pipeline" / "transformer" / "config.json", "{}")
    (tmp_path / "empty.safetensors").touch()
    (tmp_path / "noise.safetensors").write_bytes(os.urandom(100))
    (tmp_path / "gone.safetensors").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop").symlink_to(tmp_path)
    write_weights(tmp_path / "t5xxl.safetensors")
    write_text(tmp_path / "bert", "bert")
    assert list_models([tmp_path, tmp_path / "none", tmp_path / "empty.safetensors"]) == {}


def test_a_whole_model_goes_before_a_broken_one_of_the_same_name(tmp_path):
    write_json(tmp_path / "a" / "show-1-base" / "unet" / "config.json", "[]")
    write_model(tmp_path / "b" / "show-1-base")
    found = list_models([tmp_path / "a", tmp_path / "b"])
    assert (
        found["show-1-base"].path == tmp_path / "b" / "show-1-base"
        and not found["show-1-base"].reason
    )


def test_a_pickle_that_this_pytorch_cannot_read_is_told_when_models_are_listed(
    tmp_path, monkeypatch
):
    write_model(tmp_path / "pickled", suffix=".bin")
    assert not list_models([tmp_path])["pickled"].reason
    monkeypatch.setattr(torch, "__version__", type(torch.__version__)("2.5.1"))
    assert "Update to PyTorch 2.6" in list_models([tmp_path])["pickled"].reason


def test_show_1_under_the_name_that_carries_its_code_is_a_model(tmp_path):
    """sayakpaul/show-1-base-with-code."""
    write_model(tmp_path / "with-code", {**UNET, "_class_name": "ShowOneUNet3DConditionModel"})
    assert find_models([tmp_path])["with-code"].kind == "keyframes"


def test_a_missing_model_is_told_with_those_that_cannot_be_used(tmp_path):
    assert "holds no interpolation model" in str(missing_model(tmp_path, "interpolation"))
    write_json(tmp_path / "cut" / "unet" / "config.json", "[]")
    message = str(missing_model(tmp_path, "interpolation"))
    assert "that can be used ('cut': " in message and "no JSON object" in message
    assert "'cut': " in refused(cascade_in, tmp_path)


def test_text_encoders_are_found(tmp_path):
    write_text(tmp_path / "show-1-base")
    write_text(tmp_path / "showlab" / "show-1-sr2", "clip_text_model")
    write_json(tmp_path / "t5" / "config.json", {"model_type": "t5"})
    assert {name: item.kind for name, item in find_text_encoders([tmp_path]).items()} == {
        "show-1-base": "t5",
        "showlab/show-1-sr2": "clip",
        "t5": "t5",
    }


def test_a_cascade_takes_the_published_names(tmp_path):
    write_model(tmp_path / "show-1-base-0.0")
    write_model(tmp_path / "a-copy")
    write_model(
        tmp_path / "IF-II-L-v1.0",
        {"in_channels": 6, "down_block_types": ["ResnetDownsampleBlock2D"]},
    )
    assert cascade_in(tmp_path) == {
        "keyframes": tmp_path / "show-1-base-0.0",
        "first_frame_sr": tmp_path / "IF-II-L-v1.0",
    }
    convert(tmp_path / "show-1-base-0.0", tmp_path / "show-1-base.safetensors")
    assert cascade_in(tmp_path)["keyframes"] == tmp_path / "show-1-base.safetensors"
    write_model(tmp_path / "showlab" / "show-1-base")
    assert cascade_in(tmp_path)["keyframes"] == tmp_path / "showlab" / "show-1-base"


def test_a_cascade_asks_when_it_cannot_choose(tmp_path):
    assert "no Show-1 model" in refused(cascade_in, tmp_path)
    assert "no Show-1 model" in refused(cascade_in, tmp_path / "none")
    write_model(tmp_path / "one")
    assert cascade_in(tmp_path) == {"keyframes": tmp_path / "one"}
    write_model(tmp_path / "two")
    message = refused(cascade_in, tmp_path)
    assert "'one', 'two'" in message and "keyframes" in message


# The recorded models


def recorded(model: str) -> Path:
    folder = reference.reference_root() / "models" / model
    return folder if folder.is_dir() else reference.reference_root() / "models-variants" / model


@pytest.mark.parametrize(
    "model",
    [
        "show-1-base",
        "show-1-interpolation",
        "show-1-sr1",
        "IF-II-L-v1.0",
        "show-1-sr2",
        "show-1-base-bin",
        "show-1-base-fp16",
    ],
)
def test_recorded_models_fit_their_unet(model):
    checkpoint = read_checkpoint(recorded(model))
    with torch.device("meta"):
        unet = UNet(checkpoint.unet_config)
    load_strict(unet, *checkpoint.weights("unet"))
    assert not any(value.is_meta for value in unet.state_dict().values())


@pytest.mark.parametrize("model", ["unet-crossattn", "unet-transformer-in"])
def test_recorded_configs_give_the_recorded_keys(model):
    config = read_json(recorded(model) / "unet" / "config.json")
    with torch.device("meta"):
        unet = UNet(config)
    shapes = {key: list(value.shape) for key, value in unet.state_dict().items()}
    assert shapes == read_json(reference.reference_root() / "keys" / f"{model}.unet.json")


def test_the_three_forms_of_the_base_are_one_model():
    forms = [
        read_checkpoint(recorded(name)).weights("unet")[0]
        for name in ("show-1-base", "show-1-base-bin", "show-1-base-fp16")
    ]
    first, *others = [{key: value.float() for key, value in weights.items()} for weights in forms]
    assert all(same(first, other) for other in others)


def test_the_recorded_cascade_is_found():
    folder = reference.reference_root() / "models"
    assert {kind: path.name for kind, path in cascade_in(folder).items()} == {
        "keyframes": "show-1-base",
        "interpolation": "show-1-interpolation",
        "pixel_sr": "show-1-sr1",
        "first_frame_sr": "IF-II-L-v1.0",
        "latent_expert": "show-1-sr2",
    }
    kinds = {name: item.kind for name, item in find_text_encoders([folder]).items()}
    assert kinds == dict.fromkeys(
        ("show-1-base", "show-1-interpolation", "show-1-sr1", "IF-II-L-v1.0"), "t5"
    ) | {"show-1-sr2": "clip", "show-1-sr2-own": "clip"}


def test_a_recorded_model_survives_conversion(tmp_path):
    folder = recorded("show-1-sr2")
    convert(folder, tmp_path / "sr2.safetensors")
    before, after = read_checkpoint(folder), read_checkpoint(tmp_path / "sr2.safetensors")
    assert after.kind == "latent_expert" and after.vae_config == before.vae_config
    for part in ("unet", "vae"):
        assert same(before.weights(part)[0], after.weights(part)[0])
