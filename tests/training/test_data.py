"""Footage in all its forms, the order of samples, and what cannot be read."""

import csv
import json
import tarfile

import pytest
import torch

from show1_engine.errors import InputError
from show1_engine.training.clips import Cut, SceneClips, long_enough
from show1_engine.training.footage import fingerprint, looked_through, sources
from show1_engine.training.order import Order, seeded
from show1_engine.video import VideoReader, write_mp4

CUT = Cut(8, 2.0, [(16, 16)])


def listed(folder, form: str):
    """The footage with its captions in one list, or in shards."""
    videos = sorted(folder.glob("*.mp4"))
    captions = [video.with_suffix(".txt").read_text().strip() for video in videos]
    rows = [{"file_name": v.name, "text": c} for v, c in zip(videos, captions)]
    if form == "jsonl":
        (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif form == "csv":
        with (folder / "metadata.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerows(
                [["file_name", "caption"], *([v.name, c] for v, c in zip(videos, captions))]
            )
    else:
        for shard, part in (("000.tar", videos[:3]), ("001.tar", videos[3:])):
            with tarfile.open(folder / shard, "w") as tar:
                for video in part:
                    tar.add(video, video.name)
                    tar.add(video.with_suffix(".txt"), f"{video.stem}.txt")
    for video in videos:
        video.with_suffix(".txt").unlink()
        if form == "tar":
            video.unlink()


@pytest.mark.parametrize("form", ["jsonl", "csv", "tar"])
def test_every_form_gives_the_same_clips(form, footage, tmp_path):
    import shutil

    other = tmp_path / "other"
    shutil.copytree(footage, other)
    listed(other, form)
    one, two = looked_through(footage), looked_through(other)
    assert [x.source.caption for x in one.scenes] == [x.source.caption for x in two.scenes]
    clips = [SceneClips(found.scenes, CUT) for found in (one, two)]
    pair = [c.clip(5, seeded(0, 1)) for c in clips]
    assert pair[0].shape == (1, 3, 8, 16, 16) and torch.equal(*pair)


def test_what_cannot_be_read_is_named_and_counted(damaged):
    (damaged / "silent.mp4").write_bytes((damaged / "0001.mp4").read_bytes())
    found = looked_through(damaged)
    assert found.videos == 11 and len(found.scenes) == 8
    assert found.broken.keys() == {"cut off.mp4", "a text.mp4", "silent.mp4"}
    assert "no caption" in found.broken["silent.mp4"]
    assert "11 videos, 8 scenes; 3 left out" in found.told()


def test_what_was_found_is_kept_for_the_next_time(damaged, tmp_path):
    record = tmp_path / "run" / "data.jsonl"
    first = looked_through(damaged, record)
    before = record.stat().st_mtime_ns
    again = looked_through(damaged, record)
    assert (again.scenes, again.broken) == (first.scenes, first.broken)
    assert record.stat().st_mtime_ns == before and fingerprint(again) == fingerprint(first)
    (damaged / "0003.txt").write_text("another caption")
    assert fingerprint(looked_through(damaged, record)) != fingerprint(first)
    (damaged / "0003.mp4").write_bytes(b"gone bad")
    assert "0003.mp4" in looked_through(damaged, record).broken


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"file_name": "../outside.mp4", "text": "a"}, "outside"),
        ({"file_name": "/etc/hostname", "text": "a"}, "outside"),
        ({"file_name": "none.mp4", "text": "a"}, "no such file"),
        ({"file_name": "0000.mp4"}, "no 'file_name'"),
        (["0000.mp4"], "no 'file_name'"),
    ],
)
def test_entries_that_lead_nowhere_are_left_out(row, why, footage, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    (tmp_path / "outside.mp4").write_bytes(b"x")
    (data / "0001.mp4").write_bytes((footage / "0001.mp4").read_bytes())
    good = {"file_name": "0001.mp4", "caption": "a square"}
    (data / "metadata.jsonl").write_text("\n".join(map(json.dumps, (row, good))))
    found, broken = sources(data)
    assert [source.name for source in found] == ["0001.mp4"]
    assert why in next(iter(broken.values()))


@pytest.mark.parametrize("content", ["{not json", "\udcff"])
def test_a_list_that_cannot_be_read_is_one_line(content, tmp_path):
    (tmp_path / "metadata.jsonl").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match="metadata.jsonl"):
        sources(tmp_path)


def test_a_folder_without_captioned_videos_says_what_is_missing(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"x")
    with pytest.raises(InputError, match="a.mp4.*no caption 'a.txt'"):
        sources(tmp_path)


def test_films_are_split_at_their_cuts(tmp_path):
    scene = [torch.rand(1, 6, 8, 3).repeat_interleave(8, 1).repeat_interleave(8, 2) for _ in "abc"]
    write_mp4(tmp_path / "film.mp4", torch.cat([x.expand(20, -1, -1, -1) for x in scene]), 10)
    (tmp_path / "film.txt").write_text("three pictures")
    found = looked_through(tmp_path).scenes
    assert [(round(x.start, 2), round(x.stop, 2)) for x in found] == [(0, 1.9), (2, 3.9), (4, 5.9)]
    cut = Cut(4, 2.0, [(48, 64)])
    for number in range(20):
        clip = SceneClips(found, cut).clip(1, seeded(0, number))
        still = clip.std(dim=2).max()
        assert still < 0.1  # never of two scenes
    with pytest.raises(InputError, match=r"8 frames at 2 a second are 3.50 s.*1.90 s"):
        long_enough(found, CUT)


def test_frames_are_those_of_their_times(tmp_path):
    grey = torch.linspace(0, 1, 60).view(-1, 1, 1, 1).expand(-1, 16, 16, 3)
    write_mp4(tmp_path / "ramp.mp4", grey, 12)
    for times in ([0.0, 1.0, 4.9], [3.3, 3.4], [4.6, 9.0]):
        with VideoReader(tmp_path / "ramp.mp4") as video:
            levels = video.frames_at(times).mean((1, 2, 3))
        expected = torch.tensor([min(59, round(time * 12)) / 59 for time in times])
        assert (levels - expected).abs().max() < 0.012


def test_clips_fall_into_the_bucket_of_their_aspect(footage, tmp_path):
    tall = torch.rand(30, 48, 24, 3)
    write_mp4(tmp_path / "tall.mp4", tall, 8)
    (tmp_path / "tall.txt").write_text("noise")
    clips = SceneClips(looked_through(tmp_path).scenes, Cut(4, 2.0, [(16, 16), (32, 16)]))
    assert clips.clip(0, seeded(0)).shape == (1, 3, 4, 32, 16)


def test_an_epoch_has_every_item_once_and_the_next_another_order():
    order = Order(["a"] * 12, batch=3, seed=4)
    epochs = [[order.item(12 * e + n) for n in range(12)] for e in range(3)]
    assert all(sorted(epoch) == list(range(12)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert epochs[1] == [Order(["a"] * 12, batch=3, seed=4).item(12 + n) for n in range(12)]


def test_batches_are_of_one_bucket_and_padded():
    buckets = "aaaaabbbbbbb"
    order = Order(buckets, batch=4, seed=0)
    groups = [{buckets[order.item(4 * g + n)] for n in range(4)} for g in range(order.groups)]
    assert order.groups == 4 and all(len(group) == 1 for group in groups)
    assert {order.item(n) for n in range(16)} == set(range(12))
    assert {order.after(i) for i in range(5)} == set(range(5))
