"""Files that are not what they should be: configs, weights, tokenizers, single files, LoRAs,
videos."""

import json
import random
import struct
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import Case, Wrong
from hostile import JSONS, PICKLES, VALUES, archive, byte_changes
from safetensors.torch import load_file, save_file
from scratch import MODELS, WEIGHTS, json_change, run_model, spoiled, try_model, try_text, written

from show1_engine.checkpoints.convert import convert
from show1_engine.loading import load_model
from show1_engine.lora.formats import lora_from, read_lora, spelled
from show1_engine.lora.merging import with_motion
from show1_engine.runtime import PlainRuntime
from show1_engine.training.motion import MotionTraining, TrainSettings
from show1_engine.video import VideoReader, write_mp4

STEM = "diffusion_pytorch_model.safetensors"
Change = Callable[[Path], None]


def _on(model: str, path: str, change: Change, attempt: Callable[[Path], None]) -> None:
    with spoiled(model, path, change) as folder:
        attempt(folder)


def _case(family: str, model: str, path: str, name: str, change: Change) -> Case:
    attempt = try_text if path.startswith(("text_encoder", "tokenizer")) else try_model
    return Case(family, f"{model}/{path}: {name}", partial(_on, model, path, change, attempt))


def _put(key: str, value: Any) -> Change:
    return json_change(lambda content: content.update({key: value}))


def _json_files(model: str) -> list[str]:
    return [
        str(path.relative_to(WEIGHTS / model))
        for path in sorted((WEIGHTS / model).rglob("*.json"))
        if path.name != "model_index.json"
    ]


def configs(rng: random.Random) -> Iterator[Case]:
    """Every key of every config with every hostile value, and configs that are no JSON."""
    for model in MODELS:
        for attempt, part in ((try_model, ""), (try_text, "text_encoder")):
            if not part or (WEIGHTS / model / part).is_dir():
                yield Case(
                    "config", f"{model} {part} as it is", partial(attempt, WEIGHTS / model), True
                )
        for path in _json_files(model):
            content = json.loads((WEIGHTS / model / path).read_text())
            for name, data in JSONS.items():
                yield _case("config", model, path, name, written(data))
            if "vocab" in path or path.endswith("tokenizer.json"):
                continue
            for key in [*content, "trained_betas", "extra_ids", "additional_special_tokens"]:
                for name, value in VALUES.items():
                    yield _case("config", model, path, f"{key} = {name}", _put(key, value))
                if key in content:
                    yield _case(
                        "config",
                        model,
                        path,
                        f"without {key}",
                        json_change(lambda c, k=key: c.pop(k)),
                    )
            for name, change in byte_changes(rng, 10):
                yield _case(
                    "config",
                    model,
                    path,
                    name,
                    lambda p, c=change: p.write_bytes(c(p.read_bytes())) and None,
                )
    for key, value in _large():
        path = {
            "extra_ids": "tokenizer/tokenizer_config.json",
            "num_layers": "text_encoder/config.json",
        }.get(key[0], key[1])
        yield _case("config", "show-1-base", path, f"{key[0]} large", _put(key[0], value))


def _large() -> Iterator[tuple[tuple[str, str], Any]]:
    unet, scheduler = "unet/config.json", "scheduler/scheduler_config.json"
    yield ("num_train_timesteps", scheduler), 10**9
    yield ("trained_betas", scheduler), [0.1] * 10**6
    yield ("layers_per_block", unet), 10**8
    yield ("block_out_channels", unet), [32] * 10**5
    yield ("block_out_channels", unet), [2**20] * 3
    yield ("transformer_layers_per_block", unet), 10**7
    yield ("extra_ids", ""), 10**8
    yield ("num_layers", ""), 10**8
    yield (
        ("additional_special_tokens", "tokenizer/tokenizer_config.json"),
        [f"<{i}>" for i in range(10**5)],
    )


def _tensors(change: Callable[[dict], Any]) -> Change:
    def apply(path: Path) -> None:
        weights = load_file(path)
        path.unlink()
        save_file(change(weights) or weights, path)

    return apply


def _spoil(kind: str, rng: random.Random) -> Callable[[dict], Any]:
    """One random tensor made into something else."""
    seed = rng.random()

    def change(weights: dict) -> None:
        key = random.Random(seed).choice(sorted(weights))
        value = weights[key]
        made = {
            "NaN": lambda: value.float().index_put_(
                (torch.tensor([0]),), torch.tensor(float("nan"))
            ),
            "infinity": lambda: value.float() + float("inf"),
            "huge": lambda: value.float() * 0 + 3e38,
            "1e20": lambda: value.float() * 0 + 1e20,
            "large": lambda: value.float() * 1e6,
            "integers": lambda: value.to(torch.int64),
            "truth values": lambda: value > 0,
            "float64": lambda: value.double(),
            "float8": lambda: value.float().to(torch.float8_e4m3fn),
            "bfloat16": lambda: value.bfloat16(),
            "complex": lambda: value.float().to(torch.complex64),
            "empty": lambda: value[:0],
            "flat": lambda: value.flatten(),
            "one more axis": lambda: value[None],
            "half of it": lambda: value[: max(1, len(value) // 2)].clone(),
            "zeros": lambda: value * 0,
            "nothing": lambda: torch.zeros(()),
        }.get(kind)
        if kind == "missing":
            del weights[key]
        elif kind == "renamed":
            weights[key + "x" * 500] = weights.pop(key)
        elif kind == "added":
            weights["what.is.this"] = torch.zeros(3)
        else:
            weights[key] = made().contiguous()

    return change


SPOILS = (
    "NaN",
    "infinity",
    "huge",
    "1e20",
    "large",
    "integers",
    "truth values",
    "float64",
    "float8",
    "bfloat16",
    "complex",
    "empty",
    "flat",
    "one more axis",
    "half of it",
    "zeros",
    "nothing",
    "missing",
    "renamed",
    "added",
)
HEADERS = {
    "length 2^63": struct.pack("<Q", 2**63),
    "length 0": struct.pack("<Q", 0) + b"{}",
    "length 99 MB": struct.pack("<Q", 99 * 2**20) + b"{",
    "no length": b"\x05",
    "offsets back": struct.pack("<Q", 72)
    + b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[8,4]}}'.ljust(72)
    + bytes(8),
    "shape of 2^62": struct.pack("<Q", 72)
    + b'{"a":{"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,4]}}'[:72]
    + bytes(4),
    "another type": struct.pack("<Q", 64)
    + b'{"a":{"dtype":"X9","shape":[1],"data_offsets":[0,4]}}'.ljust(64)
    + bytes(4),
    "names a million": struct.pack("<Q", 2**24) + b'{"__metadata__":{' + b" " * (2**24 - 17),
}


def weights(rng: random.Random) -> Iterator[Case]:
    files = [
        (model, part)
        for model in MODELS
        for part in ("unet", "vae", "text_encoder")
        if (WEIGHTS / model / part).is_dir()
    ]
    yield Case("weights", "as they are", partial(try_model, WEIGHTS / "show-1-sr2"), True)
    for model, part in files:
        path = f"{part}/{STEM if part != 'text_encoder' else 'model.safetensors'}"
        for kind in SPOILS:
            for i in range(2):
                yield _case("weights", model, path, f"{kind} {i}", _tensors(_spoil(kind, rng)))
        for name, change in byte_changes(rng, 30):
            yield _case(
                "weights",
                model,
                path,
                name,
                lambda p, c=change: p.write_bytes(c(p.read_bytes())) and None,
            )
        for name, data in {**HEADERS, **PICKLES}.items():
            yield _case("weights", model, path, name, written(data))
    for model, part in files[:3]:
        path = f"{part}/{STEM if part != 'text_encoder' else 'model.safetensors'}"
        yield from _pickles(model, path, rng)


def _as_bin(make: Callable[[Path, dict], None]) -> Change:
    def apply(path: Path) -> None:
        content = load_file(path)
        path.unlink()
        make(path.with_suffix(".bin"), content)

    return apply


def _pickles(model: str, path: str, rng: random.Random) -> Iterator[Case]:
    made: dict[str, Callable[[Path, dict], None]] = {
        "plain": lambda p, w: torch.save(w, p),
        "older format": lambda p, w: torch.save(w, p, _use_new_zipfile_serialization=False),
        "a list": lambda p, w: torch.save(list(w.values()), p),
        "whole numbers for names": lambda p, w: torch.save(dict(enumerate(w.values())), p),
        "values that are no tensors": lambda p, w: torch.save({key: [1, 2] for key in w}, p),
        "meta": lambda p, w: torch.save({key: value.to("meta") for key, value in w.items()}, p),
        "sparse": lambda p, w: torch.save(
            {key: value.float().to_sparse() for key, value in w.items()}, p
        ),
        "complex": lambda p, w: torch.save(
            {key: value.float().to(torch.complex64) for key, value in w.items()}, p
        ),
        "endless": lambda p, w: torch.save(
            {key: torch.zeros(1).expand(2**20, 2**20) for key in w}, p
        ),
        "one more name, of a million": lambda p, w: torch.save(
            w | {"k" * 10**6: torch.zeros(1)}, p
        ),
        "a surrogate's name": lambda p, w: torch.save(w | {"\ud800": torch.zeros(1)}, p),
        "parameters": lambda p, w: torch.save(
            {k: torch.nn.Parameter(v, False) for k, v in w.items()}, p
        ),
    }
    for name, data in PICKLES.items():
        made[f"archive of {name}"] = lambda p, w, d=data: archive(d, p)
        made[f"compressed archive of {name}"] = lambda p, w, d=data: archive(d, p, True)
        made[f"bare {name}"] = lambda p, w, d=data: p.write_bytes(d) and None
    for name, change in byte_changes(rng, 12):

        def damaged(p: Path, w: dict, c: Callable = change) -> None:
            torch.save(w, p)
            p.write_bytes(c(p.read_bytes()))

        made[f"plain, {name}"] = damaged
    for name, make in made.items():
        yield _case("weights", model, path, f"bin, {name}", _as_bin(make))


def tokenizers(rng: random.Random) -> Iterator[Case]:
    for model in ("show-1-base", "show-1-sr2"):
        yield Case("tokenizer", f"{model} as it is", partial(try_text, WEIGHTS / model), True)
        names = [path.name for path in sorted((WEIGHTS / model / "tokenizer").iterdir())]
        for name in names:
            path = f"tokenizer/{name}"
            yield _case("tokenizer", model, path, "missing", lambda p: p.unlink())
            for what, data in {**JSONS, **PICKLES}.items():
                if len(data) < 2**21:
                    yield _case("tokenizer", model, path, what, written(data))
            for what, change in byte_changes(rng, 25):
                yield _case(
                    "tokenizer",
                    model,
                    path,
                    what,
                    lambda p, c=change: p.write_bytes(c(p.read_bytes())) and None,
                )
            for other in names:
                copied = (WEIGHTS / model / "tokenizer" / other).read_bytes()
                yield _case("tokenizer", model, path, f"{other} instead", written(copied))
    for what, value in VALUES.items():
        for key in ("a", "<|endoftext|>"):
            yield _case(
                "tokenizer",
                "show-1-sr2",
                "tokenizer/vocab.json",
                f"{key} = {what}",
                _put(key, value),
            )
        yield _case(
            "tokenizer",
            "show-1-base",
            "tokenizer/tokenizer.json",
            f"model = {what}",
            _put("model", value),
        )
        yield _case(
            "tokenizer",
            "show-1-base",
            "tokenizer/tokenizer.json",
            f"added = {what}",
            _put("added_tokens", value),
        )
    yield _case(
        "tokenizer",
        "show-1-base",
        "tokenizer/tokenizer.json",
        "a million added tokens",
        _put("added_tokens", [{"id": i, "content": f"<{i}>"} for i in range(2 * 10**5)]),
    )


def single_files(rng: random.Random) -> Iterator[Case]:
    """One .safetensors with its configs in the header."""

    def attempt(model: str, change: Change) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "one.safetensors"
            convert(WEIGHTS / model, path)
            change(path)
            try_model(path)

    def metadata(text: str) -> Change:
        def apply(path: Path) -> None:
            held = load_file(path)
            save_file(held, path, {"show1": text})

        return apply

    for model in MODELS:
        yield Case(
            "single file", f"{model} as it is", partial(attempt, model, lambda p: None), True
        )
        for name, change in byte_changes(rng, 25):
            yield Case(
                "single file",
                f"{model} {name}",
                partial(
                    attempt, model, lambda p, c=change: p.write_bytes(c(p.read_bytes())) and None
                ),
            )
    for name, data in JSONS.items():
        if len(data) < 2**21:
            text = data.decode("latin-1")
            yield Case(
                "single file", f"metadata: {name}", partial(attempt, "show-1-base", metadata(text))
            )
    for part in ("unet", "scheduler", "noising", "vae", "format"):
        for name, value in VALUES.items():
            parts = {
                "format": 1,
                "unet": {},
                "scheduler": {},
                "noising": None,
                "vae": None,
                part: value,
            }
            text = json.dumps(parts)
            yield Case(
                "single file",
                f"metadata: {part} = {name}",
                partial(attempt, "show-1-base", metadata(text)),
            )


def loras(rng: random.Random) -> Iterator[Case]:
    """A trained LoRA, and everything a LoRA must not be."""

    def trained() -> tuple[Any, dict]:
        model = load_model(WEIGHTS / "show-1-base", PlainRuntime())
        training = MotionTraining(
            model,
            torch.rand(3, 16, 16, 3),
            torch.zeros(1, 77, 64),
            TrainSettings(steps=1, rank=2, window=2),
        )
        training.run()
        return model, spelled(training.lora)

    def attempt(change: Callable[[dict], Any], suffix: str = "", strength: float = 1.0) -> None:
        model, content = trained()
        content = change(content) or content
        if not suffix:
            run_model(with_motion(model, lora_from(content, model, "a LoRA"), strength))
            return
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / f"lora{suffix}"
            if isinstance(content, bytes):
                path.write_bytes(content)
            elif suffix == ".safetensors":
                save_file(content, path)
            else:
                torch.save(content, path)
            run_model(with_motion(model, read_lora(path, model), strength))

    yield Case("LoRA", "as it is", partial(attempt, lambda c: None), True)
    yield Case("LoRA", "as a file", partial(attempt, lambda c: None, ".safetensors"), True)
    first = next(iter(trained()[1])).rsplit(".", 2)[0]
    changes: dict[str, Callable[[dict], Any]] = {
        "diff_b without a bias": lambda c: {
            f"{first}.diff": torch.zeros(96, 96),
            f"{first}.diff_b": torch.zeros(96),
        },
        "only diff_b": lambda c: {f"{first}.diff_b": torch.zeros(96)},
        "a bias": lambda c: {f"{first}.bias": torch.zeros(96)},
        "alpha of no value": lambda c: c.update({f"{first}.alpha": torch.zeros(0)}),
        "alpha of two values": lambda c: c.update({f"{first}.alpha": torch.zeros(2)}),
        "alpha NaN": lambda c: c.update({f"{first}.alpha": torch.tensor(float("nan"))}),
        "alpha of whole numbers": lambda c: c.update({f"{first}.alpha": torch.tensor(4)}),
        "only alpha": lambda c: {f"{first}.alpha": torch.tensor(4.0)},
        "rank 0": lambda c: {
            key: value[:0] if "A" in key else value[:, :0] for key, value in c.items()
        },
        "nothing": lambda c: {"x": torch.zeros(1)},
        "whole numbers": lambda c: {k: v.long() for k, v in c.items()},
        "complex": lambda c: {k: v.to(torch.complex64) for k, v in c.items()},
        "meta": lambda c: {k: v.to("meta") for k, v in c.items()},
        "sparse": lambda c: {k: v.to_sparse() for k, v in c.items()},
        "whole numbers for names": lambda c: dict(enumerate(c.values())),
        "None for a name": lambda c: {None: torch.zeros(1)},
        "endless": lambda c: {k: torch.zeros(1).expand(2**30, 2**30) for k in c},
        "no tensors": lambda c: {k: 1 for k in c},
        "lists": lambda c: {k: [v] for k, v in c.items()},
        "a list": lambda c: list(c.values()),
        "an empty list": lambda c: [],
        "an empty object": lambda c: {1: 2},
        "NaN": lambda c: {k: v * float("nan") for k, v in c.items()},
        "1e30": lambda c: {k: v * 0 + 1e30 for k, v in c.items()},
        "3e8": lambda c: {k: v * 0 + 3e8 for k, v in c.items()},
        "half": lambda c: dict(list(c.items())[::2]),
        "flat": lambda c: {k: v.flatten() for k, v in c.items()},
        "three axes": lambda c: {k: v[None] for k, v in c.items()},
        "turned": lambda c: {k: v.T.contiguous() for k, v in c.items()},
        "long key": lambda c: c.update({"k" * 1_200_000: torch.zeros(1)}),
        "a surrogate's key": lambda c: c.update({"\ud800": torch.zeros(1)}),
        "float64": lambda c: {k: v.double() for k, v in c.items()},
        "float8": lambda c: {k: v.to(torch.float8_e4m3fn) for k, v in c.items()},
        "a number": lambda c: 3,
        "text": lambda c: "x",
        "keys of lines": lambda c: {f"{k}\n\x00": v for k, v in c.items()},
        "of Flux": lambda c: {f"double_blocks.{k}": v for k, v in c.items()},
    }
    for name, change in changes.items():
        yield Case("LoRA", name, partial(attempt, change))
        yield Case("LoRA", f"{name}, in a pickle", partial(attempt, change, ".pt"))
    for name, data in PICKLES.items():
        for suffix in (".safetensors", ".pt"):
            yield Case(
                "LoRA", f"{name}{suffix}", partial(attempt, lambda c, d=data: d or b"\0", suffix)
            )
    for strength in (0.0, -1.0, 10.0, -10.0, 1e3, 1e30, float("nan"), float("inf"), float("-inf")):
        yield Case("LoRA", f"strength {strength}", partial(attempt, lambda c: None, "", strength))


def videos(rng: random.Random) -> Iterator[Case]:
    def attempt(
        name: str, make: Change, valid: Callable[[torch.Tensor], bool] = lambda frames: True
    ) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / name
            make(path)
            with VideoReader(path) as video:
                frames = torch.stack(list(video))
            if not len(frames) or not frames.isfinite().all() or not valid(frames):
                raise Wrong(f"frames of shape {tuple(frames.shape)}")

    def clip(path: Path) -> None:
        write_mp4(path, torch.linspace(0, 1, 6 * 24 * 32 * 3).view(6, 24, 32, 3), 8.0)

    def damaged(change: Callable[[bytes], bytes]) -> Change:
        def make(path: Path) -> None:
            clip(path)
            path.write_bytes(change(path.read_bytes()))

        return make

    def picture(path: Path) -> None:
        from PIL import Image

        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(path, format="PNG")

    yield Case("video", "as it is", partial(attempt, "a.mp4", clip), True)
    for name, change in byte_changes(rng, 120):
        yield Case("video", name, partial(attempt, "a.mp4", damaged(change)))
    for i in range(60):
        seed = rng.random()
        yield Case(
            "video",
            f"data spoiled {i}",
            partial(attempt, "a.mp4", damaged(partial(_noise, seed=seed))),
        )
    yield Case("video", "a picture", partial(attempt, "a.mp4", picture))
    for name, data in {**JSONS, **PICKLES}.items():
        yield Case("video", name, partial(attempt, "a.mp4", written(data or b"\0")))
    for name in (
        "\udcff\udce9.mp4",
        "-.mp4",
        "concat:a.mp4",
        "%d.mp4",
        "a b\n.mp4",
        "x" * 200 + ".mp4",
    ):
        yield Case("video", f"named {name!r}", partial(attempt, name, _by_another_name(clip)))
    for text in (
        b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
        b"ffconcat version 1.0\nfile /etc/passwd\n",
    ):
        yield Case(
            "video", f"a list of files {text[:8]!r}", partial(attempt, "a.mp4", written(text))
        )


def _by_another_name(clip: Change) -> Change:
    def make(path: Path) -> None:
        plain = path.with_name("plain.mp4")
        clip(plain)
        plain.rename(path)

    return make


def _noise(data: bytes, seed: float) -> bytes:
    rng, new = random.Random(seed), bytearray(data)
    for _ in range(60):
        new[rng.randrange(40, len(new))] = rng.randrange(256)
    return bytes(new)


FAMILIES = {
    "config": configs,
    "weights": weights,
    "tokenizer": tokenizers,
    "single file": single_files,
    "LoRA": loras,
    "video": videos,
}
