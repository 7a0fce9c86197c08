"""Downloads from a hub on this machine, over real sockets: never a half model that looks whole."""

import itertools
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from email.utils import formatdate
from pathlib import Path

import huggingface_hub
import pytest
import torch
from huggingface_hub import constants

from show1_engine.__main__ import main
from show1_engine.checkpoints.download import DownloadError, download
from show1_engine.checkpoints.find import find_models, find_text_encoders
from show1_engine.checkpoints.registry import (
    ABSENT,
    PUBLISHED,
    absent,
    advice,
    needed_files,
    trained_latents,
)

# The helper lies beside this file, wherever the tests are started from.
sys.path.insert(0, str(Path(__file__).parent))
from fake_hub import (
    CHANNELS,
    EXPERTS,
    TOKEN,
    UNET,
    FakeHub,
    Fault,
    clip_repository,
    digest,
    repository,
    unet_config,
    weights,
)  # noqa: E402

BASE = "show-1-base"
SCORE = "clip-vit-base-patch32"
FAST = (0, 0, 0, 0)  # four more tries at once


class Cancelled(Exception):
    pass


@pytest.fixture
def hub(monkeypatch):
    """A hub with every published repository. The tests' huggingface_hub is offline otherwise."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 1)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    new_session()
    with FakeHub() as hub:
        for item in PUBLISHED.values():
            if item.name in CHANNELS:
                hub.add(item.repo, repository(item.name), gated=item.gated)
        hub.add(PUBLISHED[SCORE].repo, clip_repository())
        yield hub
    new_session()


def new_session() -> None:
    """Sessions remember whether the hub was offline when they were made."""
    getattr(
        huggingface_hub, "close_session", getattr(huggingface_hub, "configure_http_backend", None)
    )()


@pytest.fixture
def fetch(hub, tmp_path):
    """A function that downloads from the hub into a folder of its own."""

    def fetch(name: str = BASE, **options) -> Path:
        return download(
            name,
            tmp_path / "show1",
            **{"accept_license": True, "endpoint": hub.url, "waits": FAST, **options},
        )

    return fetch


def files_in(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def refused(fetch, *args, **options) -> str:
    with pytest.raises(DownloadError) as caught:
        fetch(*args, **options)
    message = str(caught.value)
    assert len(message) < 900 and "\n" not in message
    return message


def nothing_looks_whole(folder: Path) -> None:
    assert find_models([folder]) == {} and find_text_encoders([folder]) == {}
    assert not folder.exists() or all(
        path.name.startswith(".partial-") for path in folder.iterdir()
    )


def partial_file(tmp_path: Path, path: str = UNET) -> Path:
    return next((tmp_path / "show1" / f".partial-{BASE}").glob(f"{path}.*.part"))


# What comes


def test_only_the_needed_files_come_and_every_byte_is_right(hub, fetch):
    folder = fetch()
    published = hub.repos["showlab/show-1-base"].files
    assert folder.name == BASE
    assert files_in(folder) == {
        name: published[name]
        for name in (
            "README.md",
            "model_index.json",
            "unet/config.json",
            UNET,
            "scheduler/scheduler_config.json",
        )
    }
    assert [path.name for path in folder.parent.iterdir()] == [BASE]


def test_every_published_model_comes_and_is_found(hub, fetch, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    for name in PUBLISHED:
        folder = fetch(name)
    models = {name: found.kind for name, found in find_models([folder.parent]).items()}
    assert models == {
        item.name: item.kind
        for item in PUBLISHED.values()
        if item.kind not in ("t5", "t5_tokenizer", "scorer")
    }
    # One T5, and the latent experts' own encoders.
    encoders = {name: found.kind for name, found in find_text_encoders([folder.parent]).items()}
    assert encoders == {"t5-v1_1-xxl": "t5", **dict.fromkeys(EXPERTS, "clip")}
    assert sorted(files_in(folder.parent / "t5-tokenizer")) == [
        "tokenizer/spiece.model",
        "tokenizer/tokenizer_config.json",
    ]
    assert sorted(files_in(folder.parent / SCORE)) == sorted(
        clip_repository().keys() - {"tf_model.h5"}
    )
    assert "image_noising_scheduler" in os.listdir(folder.parent / "show-1-sr1")
    assert "image_noising_scheduler" not in os.listdir(folder.parent / BASE)


def test_a_model_that_is_there_is_left_alone(hub, fetch):
    folder = fetch()
    hub.requests.clear()
    assert fetch() == fetch(accept_license=False) == folder
    assert hub.requests == []


def test_a_folder_that_is_not_whole_is_not_taken_for_the_model(fetch, tmp_path):
    (tmp_path / "show1" / BASE / "unet").mkdir(parents=True)
    (tmp_path / "show1" / BASE / "unet" / "config.json").write_text("{}")
    message = refused(fetch)
    assert str(tmp_path / "show1" / BASE) in message and "holds no weights in unet/" in message
    assert (tmp_path / "show1" / BASE / "unet" / "config.json").is_file()


def test_a_repository_of_another_model_is_refused(hub, fetch, tmp_path):
    hub.repos["showlab/show-1-base"].files["unet/config.json"] = unet_config(
        7, "SimpleCrossAttnDownBlock3D"
    )
    assert "of kind interpolation, not keyframes" in refused(fetch)
    nothing_looks_whole(tmp_path / "show1")


def test_bytes_are_reported_from_none_to_all(fetch):
    told = []
    folder = fetch(report=lambda *values: told.append(values))
    total = sum(map(len, files_in(folder).values()))
    assert told[0] == (0, 1, "asking the hub for its files")
    assert told[-1] == (total, total, "complete")
    assert [done for done, _, _ in told] == sorted(done for done, _, _ in told)


def test_speed_and_time_left_are_told(hub, fetch):
    hub.faults[UNET] = iter([Fault("slow", seconds=0.15)])
    told = []
    fetch(report=lambda done, total, text: told.append(text))
    assert any(
        re.fullmatch(rf"0\.00 of 0\.00 GB, \d\.\d MB/s, \d s left\n{UNET}", text) for text in told
    ), told


def test_an_unknown_name_is_refused_with_the_known_ones(fetch):
    assert all(name in refused(fetch, "show-2") for name in ("'show-2'", *PUBLISHED))


# Which files


CONFIG = ["unet/config.json", "scheduler/scheduler_config.json"]


@pytest.mark.parametrize(
    ("there", "taken"),
    [
        (["m.bin"], ["m.bin"]),
        (["m.bin", "m.safetensors"], ["m.safetensors"]),
        (["m.bin", "m.fp16.bin"], ["m.fp16.bin"]),
        (["m.safetensors", "m.fp16.safetensors", "m.bin", "m.fp16.bin"], ["m.fp16.safetensors"]),
        (["m.safetensors", "m.fp16.bin"], ["m.safetensors"]),
        (["m.non_ema.safetensors", "m.msgpack", "m.bin"], ["m.bin"]),
        (
            ["m-00001-of-00002.bin", "m-00002-of-00002.bin", "m.bin.index.json"],
            ["m.bin.index.json", "m-00001-of-00002.bin", "m-00002-of-00002.bin"],
        ),
        (
            ["m.fp16-00001-of-00001.safetensors", "m.safetensors.index.fp16.json", "m.safetensors"],
            ["m.safetensors.index.fp16.json", "m.fp16-00001-of-00001.safetensors"],
        ),
        # What a conversion bot offers for show-1-base's T5: shards without an index, which nothing
        # can read.
        (
            ["m-00001-of-00001.safetensors", "m-00001-of-00001.bin", "m.bin.index.json"],
            ["m.bin.index.json", "m-00001-of-00001.bin"],
        ),
        (["m-00001-of-00002.safetensors", "m.safetensors.index.json", "m.bin"], ["m.bin"]),
        (["m.safetensors", "m.bin.index.json"], ["m.safetensors"]),
    ],
)
def test_one_form_of_the_weights_is_chosen(there, taken):
    def full(names):
        return [f"unet/{'diffusion_pytorch_model' + name[1:]}" for name in names]

    chosen = needed_files(PUBLISHED[BASE], CONFIG + full(there))
    assert sorted(chosen) == sorted(CONFIG + full(taken))


@pytest.mark.parametrize(
    "there", [[], ["m.msgpack"], ["m.ckpt"], ["m-00001-of-00002.bin", "m.bin.index.json"]]
)
def test_weights_that_cannot_be_used_are_refused(there):
    files = CONFIG + [f"unet/{'diffusion_pytorch_model' + name[1:]}" for name in there]
    with pytest.raises(DownloadError, match="holds no weights in unet/"):
        needed_files(PUBLISHED[BASE], files)


def test_no_name_leads_out_of_the_folder():
    odd = [
        "unet/..\\x.json",
        "unet/c:x.json",
        "scheduler/../../x.json",
        "/etc/x.json",
        "../unet/config.json",
        "unet/sub/config.json",
    ]
    chosen = needed_files(PUBLISHED[BASE], [*CONFIG, "unet/diffusion_pytorch_model.bin", *odd])
    assert sorted(chosen) == sorted([*CONFIG, "unet/diffusion_pytorch_model.bin"])


def test_a_repository_without_the_files_is_refused_before_any_comes(hub, fetch, tmp_path):
    del hub.repos["showlab/show-1-base"].files["scheduler/scheduler_config.json"]
    assert "holds no files in scheduler/" in refused(fetch)
    assert hub.requests == [] and not (tmp_path / "show1").exists()


def test_what_is_not_there_is_labelled_and_explained():
    labels = absent(["micro/show-1-base", "show-1-sr1", "showlab/show-1-sr2"])
    assert labels == [
        name + ABSENT
        for name in (
            BASE,
            "show-1-base-0.0",
            "show-1-interpolation",
            "zeroscope_v2_XL",
            "zeroscope_v2_576w",
            "text-to-video-ms-1.7b",
            "IF-II-L-v1.0",
        )
    ]
    assert absent([], text_encoders=True) == ["t5-v1_1-xxl" + ABSENT]
    text = advice(labels[0])
    assert all(
        part in text
        for part in (
            "Show1DownloadModel",
            "download show-1-base",
            "unet/, scheduler/",
            "https://huggingface.co/showlab/show-1-base",
            "models/show1/show-1-base/",
        )
    )
    assert advice("another") is None


def test_pickles_that_this_pytorch_cannot_read_are_not_fetched(hub, fetch, monkeypatch, tmp_path):
    files = hub.repos["showlab/show-1-base"].files
    del files[UNET]  # as published: .bin alone
    monkeypatch.setattr(torch, "__version__", type(torch.__version__)("2.5.1"))
    message = refused(fetch)
    assert "published as .bin" in message and "Update to PyTorch 2.6" in message
    assert not any(request.path.endswith(".bin") for request in hub.requests)


# What experts were trained on


@pytest.mark.parametrize(
    ("name", "size", "side"),
    [
        ("show-1-sr2", 32, 72),
        ("zeroscope_v2_576w", 32, 72),
        ("cerspense/zeroscope_v2_XL", 32, 128),
        ("ZEROSCOPE_V2_XL.safetensors", 32, 128),
        ("text-to-video-ms-1.7b", 32, 32),
        ("mine", 32, 72),
        ("mine", None, 72),
        ("mine", 16, 72),
        ("mine", "odd", 72),
        ("mine", [40, 72], 72),
        ("mine", [72, 128], 128),
        ("mine", 64, 64),
    ],
)
def test_the_size_an_expert_was_trained_on(name, size, side):
    """ModelScope's sample_size of 32 is copied along by models that were trained on larger
    frames.
    """
    assert trained_latents(name, {"sample_size": size}) == side


# Licences and doors


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (BASE, ("CC BY-NC 4.0", "non-commercial")),
        ("t5-v1_1-xxl", ("CC BY-NC 4.0", "CLIPLoader")),
        (
            "IF-II-L-v1.0",
            (
                "DeepFloyd IF licence",
                "non-commercial",
                "gated",
                "https://huggingface.co/DeepFloyd/IF-II-L-v1.0",
                "hf auth login",
                "first_frame",
            ),
        ),
    ],
)
def test_the_licence_is_explained_before_anything_is_asked_for(hub, fetch, tmp_path, name, words):
    hub.faults["api"] = iter([Fault("status", status=500)])
    message = refused(fetch, name, accept_license=False)
    assert all(
        word in message
        for word in (*words, "Nothing was downloaded", "accept_license", "--accept-license")
    )
    assert next(hub.faults["api"]) and not (tmp_path / "show1").exists()


@pytest.mark.parametrize(("token", "status"), [(None, 401), ("hf_other", 403)])
def test_a_gated_model_is_explained_when_the_door_is_shut(
    fetch, tmp_path, monkeypatch, token, status
):
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    message = refused(fetch, "IF-II-L-v1.0")
    assert all(
        word in message
        for word in (f"({status})", "accept its licence on", "hf auth login", "first_frame")
    )
    nothing_looks_whole(tmp_path / "show1")


def test_the_token_opens_the_door(hub, fetch, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert fetch("IF-II-L-v1.0").is_dir()
    assert {request.token for request in hub.requests} == {TOKEN}


@pytest.mark.parametrize("place", ["api", UNET])
@pytest.mark.parametrize("status", [401, 403])
def test_a_public_model_that_is_refused_is_explained_too(hub, fetch, tmp_path, place, status):
    hub.faults[place] = iter([Fault("status", status=status)])
    message = refused(fetch)
    assert (
        f"({status})" in message
        and "token is wrong" in message
        and "https://huggingface.co/showlab" in message
    )
    nothing_looks_whole(tmp_path / "show1")
    assert fetch().is_dir()


def test_a_repository_that_is_gone_is_told(hub, fetch):
    del hub.repos["showlab/show-1-base"]
    assert "withdrawn" in refused(fetch)


@pytest.mark.parametrize("place", ["api", UNET])
def test_404_is_one_clear_error(hub, fetch, tmp_path, place):
    hub.faults[place] = iter([Fault("status", status=404)])
    message = refused(fetch)
    assert "404" in message and "look at https://huggingface.co/showlab/show-1-base" in message
    assert (UNET if place == UNET else "list of files") in message
    nothing_looks_whole(tmp_path / "show1")


# Too many requests


@pytest.mark.parametrize("place", ["api", UNET])
@pytest.mark.parametrize("headers", [{"Retry-After": "1"}, {"RateLimit": '"resolvers";r=0;t=1'}])
def test_429_is_waited_for_as_long_as_the_hub_asks(hub, fetch, place, headers):
    hub.faults[place] = iter([Fault("status", status=429, headers=headers)])
    told, start = [], time.monotonic()
    assert fetch(report=lambda done, total, text: told.append(text)).is_dir()
    assert 1 <= time.monotonic() - start < 10
    assert any("429" in text and "trying again in" in text for text in told)


@pytest.mark.parametrize("after", ["900", "date"])
def test_429_for_long_is_one_clear_error(hub, fetch, tmp_path, after):
    after = formatdate(time.time() + 900, usegmt=True) if after == "date" else after
    hub.faults[UNET] = iter([Fault("status", status=429, headers={"Retry-After": after})])
    message = refused(fetch)
    assert "429" in message and "15 min" in message and "run it again later" in message
    nothing_looks_whole(tmp_path / "show1")


def test_429_without_end_is_one_clear_error(hub, fetch):
    hub.faults[UNET] = itertools.repeat(
        Fault("status", status=429, headers={"Retry-After": "nonsense"})
    )
    assert "429" in refused(fetch)
    assert len(hub.fetched(UNET)) == 1 + len(FAST)


# Lines that break


RESETS = [
    Fault("reset", after=50_000),
    Fault("reset"),
    Fault("truncate", after=30_000),
    Fault("reset", after=70_000),
]


def test_resets_and_cut_bodies_are_survived_from_where_they_happened(hub, fetch):
    hub.faults[UNET] = iter(RESETS)
    folder = fetch()
    assert (folder / UNET).read_bytes() == hub.repos["showlab/show-1-base"].files[UNET]
    starts = [int(text.strip("bytes=-")) if text else 0 for text in hub.fetched(UNET)]
    assert len(starts) >= 4 and starts == sorted(starts) and starts[-1] > 100_000


@pytest.mark.parametrize(
    "fault",
    [
        Fault("reset"),
        Fault("truncate", after=0),
        Fault("status", status=503),
        Fault("stall", seconds=1.5),
    ],
    ids=lambda fault: fault.kind,
)
def test_a_line_that_stays_dead_is_one_clear_error_and_what_came_is_kept(
    hub, fetch, tmp_path, fault
):
    hub.faults[UNET] = itertools.chain([Fault("truncate", after=70_000)], itertools.repeat(fault))
    message = refused(fetch, waits=(0, 0))
    assert BASE in message and UNET in message and "run it again" in message
    nothing_looks_whole(tmp_path / "show1")
    kept = partial_file(tmp_path).stat().st_size
    assert kept >= 65_536
    del hub.faults[UNET]
    hub.requests.clear()
    assert fetch().is_dir()
    assert hub.fetched(UNET) == [f"bytes={kept}-"]


@pytest.mark.parametrize(
    "fault", [Fault("reset"), Fault("status", status=502)], ids=lambda fault: fault.kind
)
def test_the_list_of_files_is_asked_for_again(hub, fetch, fault):
    hub.faults["api"] = iter([fault, fault])
    assert fetch().is_dir()


def test_no_hub_at_all_is_one_clear_error(hub, fetch, tmp_path):
    message = refused(fetch, endpoint="http://127.0.0.1:9", waits=(0,))
    assert "no connection to the hub" in message and not (tmp_path / "show1").exists()


def test_offline_mode_is_named(hub, fetch, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    new_session()
    assert "HF_HUB_OFFLINE" in refused(fetch)


def test_a_hub_that_cannot_resume_begins_anew(hub, fetch):
    hub.faults[UNET] = iter([Fault("truncate", after=70_000), Fault("no_range")])
    assert (fetch() / UNET).read_bytes() == hub.repos["showlab/show-1-base"].files[UNET]


def test_a_hub_that_cannot_resume_on_a_bad_line_comes_to_an_end(hub, fetch):
    hub.faults[UNET] = itertools.repeat(Fault("no_range", after=70_000))
    assert "ended early" in refused(fetch) or "no connection" in refused(fetch)
    assert len(hub.fetched(UNET)) <= 2 * (2 + len(FAST))


def test_a_line_that_breaks_again_and_again_is_survived_while_it_makes_headway(hub, fetch):
    hub.repos["showlab/show-1-base"].files[UNET] = weights(200_000)
    hub.faults[UNET] = itertools.repeat(Fault("truncate", after=70_000))
    assert fetch().is_dir() and len(hub.fetched(UNET)) > 2 + len(FAST)


def test_other_bytes_than_asked_for_are_not_taken(hub, fetch):
    hub.faults[UNET] = iter([Fault("truncate", after=70_000), Fault("wrong_range")])
    assert "206" in refused(fetch)


# Wrong bytes


@pytest.mark.parametrize("path", [UNET, "unet/config.json"])
def test_wrong_bytes_are_fetched_once_more(hub, fetch, path):
    hub.faults[path] = iter([Fault("wrong")])
    assert (fetch() / path).read_bytes() == hub.repos["showlab/show-1-base"].files[path]
    assert hub.fetched(path) == [None, None]


@pytest.mark.parametrize("path", [UNET, "unet/config.json"])
def test_bytes_that_stay_wrong_are_one_clear_error(hub, fetch, tmp_path, path):
    hub.faults[path] = itertools.repeat(Fault("wrong"))
    message = refused(fetch)
    assert path in message and "showlab/show-1-base" in message and "wrong bytes" in message
    nothing_looks_whole(tmp_path / "show1")
    assert list(tmp_path.rglob("*.part")) == [] and list(tmp_path.rglob(Path(path).name)) == []


@pytest.mark.parametrize(
    "fault", [Fault("html"), Fault("short", after=20)], ids=lambda fault: fault.kind
)
def test_something_else_than_the_file_never_passes_for_it(hub, fetch, tmp_path, fault):
    hub.faults[UNET] = itertools.repeat(fault)
    assert UNET in refused(fetch)
    nothing_looks_whole(tmp_path / "show1")


def test_a_login_page_instead_of_the_list_is_told(hub, fetch):
    hub.faults["api"] = itertools.repeat(Fault("html"))
    assert "login" in refused(fetch)


def test_a_listing_without_checksums_is_refused(hub, fetch):
    hub.repos["showlab/show-1-base"].sizes["unet/config.json"] = None
    assert "without sizes and checksums" in refused(fetch)


# Going on another time


def cancel_after(size: int):
    def report(done: int, total: int, text: str) -> None:
        if done >= size:
            raise Cancelled

    return report


def test_a_cancel_comes_through_at_once_and_the_next_run_goes_on(hub, fetch, tmp_path):
    hub.faults[UNET] = iter([Fault("slow", seconds=0.15)])
    start = time.monotonic()
    with pytest.raises(Cancelled):
        fetch(report=cancel_after(60_000))
    assert time.monotonic() - start < 5
    nothing_looks_whole(tmp_path / "show1")
    kept = partial_file(tmp_path).stat().st_size
    assert 60_000 <= kept < 200_000
    hub.requests.clear()
    assert fetch().is_dir()
    assert hub.fetched(UNET) == [f"bytes={kept}-"] and hub.fetched("unet/config.json") == []


def test_a_cancel_comes_through_while_it_waits_to_try_again(hub, fetch):
    hub.faults[UNET] = itertools.repeat(Fault("status", status=503))
    start = time.monotonic()

    def report(done: int, total: int, text: str) -> None:
        if "trying again" in text:
            raise Cancelled

    with pytest.raises(Cancelled):
        fetch(report=report, waits=(60,))
    assert time.monotonic() - start < 5


def test_a_file_that_was_damaged_in_the_meantime_is_fetched_again(hub, fetch, tmp_path):
    hub.faults[UNET] = iter([Fault("slow", seconds=0.15)])
    with pytest.raises(Cancelled):
        fetch(report=cancel_after(100_000))
    part = partial_file(tmp_path)
    part.write_bytes(bytes(len(part.read_bytes())))
    config_file = tmp_path / "show1" / f".partial-{BASE}" / "unet" / "config.json"
    config_file.write_bytes(bytes(config_file.stat().st_size))
    assert files_in(fetch())[UNET] == hub.repos["showlab/show-1-base"].files[UNET]


def test_a_file_longer_than_published_is_fetched_again(hub, fetch, tmp_path):
    hub.faults[UNET] = iter([Fault("slow", seconds=0.15)])
    with pytest.raises(Cancelled):
        fetch(report=cancel_after(100_000))
    partial_file(tmp_path).write_bytes(bytes(300_000))
    assert fetch().is_dir()


def test_a_new_version_is_not_mixed_with_the_old_one(hub, fetch, tmp_path):
    hub.faults[UNET] = iter([Fault("slow", seconds=0.15)])
    with pytest.raises(Cancelled):
        fetch(report=cancel_after(100_000))
    files = hub.repos["showlab/show-1-base"].files
    old = files.pop(UNET)
    files["unet/diffusion_pytorch_model.fp16.safetensors"] = weights(30_000)
    files["unet/config.json"] = unet_config(3, "SimpleCrossAttnDownBlock3D", new=True)
    folder = fetch()
    assert {name for name in files_in(folder) if name.startswith("unet/")} == {
        "unet/config.json",
        "unet/diffusion_pytorch_model.fp16.safetensors",
    }
    assert files_in(folder)["unet/config.json"] == files["unet/config.json"] and old


def test_a_process_that_is_killed_leaves_something_to_go_on_from(hub, fetch, tmp_path):
    """kill -9 in the middle of a file."""
    hub.faults[UNET] = iter([Fault("slow", seconds=0.4)])
    code = (
        f"from show1_engine.checkpoints.download import download\n"
        f"download({BASE!r}, {str(tmp_path / 'show1')!r}, True, endpoint={hub.url!r})"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"HF_HUB_OFFLINE": "0"},
    )
    deadline = time.monotonic() + 60
    while (
        not any(part.stat().st_size >= 65_536 for part in tmp_path.rglob("*.part"))
        and time.monotonic() < deadline
    ):
        time.sleep(0.02)
    child.kill()
    child.wait()
    nothing_looks_whole(tmp_path / "show1")
    hub.requests.clear()
    assert fetch().is_dir()
    assert hub.fetched(UNET)[0].startswith("bytes=")


def test_two_at_once_do_not_meet(hub, fetch):
    hub.faults[UNET] = iter([Fault("slow", seconds=0.4)])
    first = threading.Thread(target=fetch)
    first.start()
    while not hub.fetched(UNET):
        time.sleep(0.01)
    assert "already" in refused(fetch)
    first.join()
    assert fetch().is_dir()


# The disk


def test_too_little_room_is_told_before_anything_comes(hub, fetch, tmp_path):
    hub.repos["showlab/show-1-base"].sizes[UNET] = 10**18
    message = refused(fetch)
    assert "1000000000.20 GB of room" in message and "are free" in message
    assert hub.requests == []
    nothing_looks_whole(tmp_path / "show1")


@pytest.mark.skipif(sys.platform == "win32", reason="needs resource limits")
def test_a_disk_that_fills_up_is_one_clear_error(hub, fetch, tmp_path):
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (100_000, hard)
    )  # a file may not grow past 100,000 bytes
    try:
        message = refused(fetch)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (
        str(tmp_path / "show1") in message
        and "cannot be written" in message
        and "run it again" in message
    )
    nothing_looks_whole(tmp_path / "show1")
    hub.requests.clear()
    assert fetch().is_dir()
    assert hub.fetched(UNET) == ["bytes=100000-"]


def test_a_folder_that_may_not_be_made_is_one_clear_error(fetch, tmp_path):
    (tmp_path / "show1").write_text("a file where the folder should be")
    assert "cannot be written" in refused(fetch)


def test_files_of_no_bytes_and_git_names(hub, fetch):
    files = hub.repos["showlab/show-1-base"].files
    files["README.md"] = b""
    assert digest(b"") == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
    assert (fetch() / "README.md").read_bytes() == b""


def test_symlinked_folders_serve(fetch, tmp_path):
    (tmp_path / "big disk").mkdir()
    (tmp_path / "show1").symlink_to(tmp_path / "big disk")
    assert fetch().is_dir() and (tmp_path / "big disk" / BASE / UNET).is_file()
    shutil.rmtree(tmp_path / "big disk")


# The command line


def command(*arguments: str, endpoint: str) -> subprocess.CompletedProcess:
    env = os.environ | {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": endpoint, "NO_PROXY": "127.0.0.1"}
    return subprocess.run(
        [sys.executable, "-m", "show1_engine", "download", *arguments],
        env=env,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )


def test_the_command_line_fetches_several(hub, tmp_path):
    done = command(
        BASE, "t5-v1_1-xxl", "--into", str(tmp_path), "--accept-license", endpoint=hub.url
    )
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert done.stdout.splitlines() == [str(tmp_path / BASE), str(tmp_path / "t5-v1_1-xxl")]
    assert set(find_models([tmp_path])) == {BASE} and set(find_text_encoders([tmp_path])) == {
        "t5-v1_1-xxl"
    }


def test_the_command_line_explains_the_licence_and_lists(capsys, tmp_path):
    assert main(["download", BASE, "--into", str(tmp_path)]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and "CC BY-NC 4.0" in shown.err and shown.err.count("\n") == 1
    assert main(["download", "--list"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in listed] == list(PUBLISHED)
    assert all(
        item.licence in line and item.size in line for item, line in zip(PUBLISHED.values(), listed)
    )
