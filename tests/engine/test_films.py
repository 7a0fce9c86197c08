"""Films from file to file: parts, resuming, sources of every kind."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest
import reference
import torch
from stage_models import model, text

from show1_engine.__main__ import main
from show1_engine.errors import InputError
from show1_engine.films.film import Film, joined_in, make, prepare
from show1_engine.films.plan import Plan, Stretch, stretch_of
from show1_engine.films.source import FilmReader, look_through
from show1_engine.films.steps import Interpolate, Refine, Upscale
from show1_engine.films.worker import Worker
from show1_engine.progress import silent
from show1_engine.sampling.cuts import find_cuts
from show1_engine.stages.interpolate import InterpolateSettings
from show1_engine.stages.latent_expert_sr import LatentExpertSettings, latent_expert_sr
from show1_engine.stages.pixel_sr import PixelSRSettings, pixel_sr
from show1_engine.video import VideoReader, VideoWriter

MODELS = reference.reference_root() / "models"


@pytest.fixture
def film(tmp_path):
    """A function that writes a film: its path. `cuts`: frames that begin a shot; `times`: when
    frames are shown, in 90,000ths of a second.
    """

    def film(frames=20, cuts=(), name="film.mp4", sounds=0, codec="aac", times=None, size=(12, 8)):
        path, (width, height) = tmp_path / name, size
        with av.open(str(path), "w") as out:
            video = out.add_stream("libx264", rate=6, options={"g": "7"})
            video.width, video.height, video.pix_fmt = width, height, "yuv420p"
            if times is not None:
                video.codec_context.time_base = video.time_base = Fraction(1, 90000)
            tracks = [out.add_stream(codec, rate=48000, layout="mono") for _ in range(sounds)]
            for i in range(frames):
                shade = 30 + 90 * (sum(cut <= i for cut in cuts) % 3)
                pixels = np.full((height, width, 3), shade, np.uint8)
                pixels[i % height] += 20
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                if times is not None:
                    frame.pts, frame.time_base = times[i], Fraction(1, 90000)
                out.mux(video.encode(frame))
            out.mux(video.encode())
            for track in tracks:
                for start in range(0, 8000 * frames, 960):
                    tone = np.sin(np.arange(start, start + 960) / 5)[None]
                    tone = tone.astype(np.float32)
                    sound = av.AudioFrame.from_ndarray(tone, "fltp", "mono")
                    sound.rate, sound.pts = 48000, start
                    out.mux(track.encode(sound))
                out.mux(track.encode())
        return path

    return film


def upscale(**settings) -> Upscale:
    positive, negative = text("show-1-sr1")
    s = PixelSRSettings(**{"steps": 1, "cfg": 1.0, **settings})
    return Upscale(model=model("show-1-sr1"), positive=positive, negative=negative, settings=s)


def interpolate(**settings) -> Interpolate:
    positive, negative = text("show-1-interpolation")
    s = InterpolateSettings(**{"steps": 1, "cfg": 1.0, **settings})
    network = model("show-1-interpolation")
    return Interpolate(model=network, positive=positive, negative=negative, settings=s)


def refine(**settings) -> Refine:
    positive, negative = text("show-1-sr2")
    s = LatentExpertSettings(
        **{"steps": 2, "cfg": 1.0, "strength": 0.5, "width": 0, "height": 0, **settings}
    )
    return Refine(model=model("show-1-sr2"), positive=positive, negative=negative, settings=s)


def shown(path) -> list[float]:
    """When every frame of a file is shown, in seconds."""
    with av.open(str(path)) as file:
        return [float(frame.pts * frame.time_base) for frame in file.decode(video=0)]


def tracks(path) -> list[int]:
    """The packets of every sound track of a file."""
    with av.open(str(path)) as file:
        count = len(file.streams.audio)
    found = []
    for number in range(count):
        with av.open(str(path)) as file:
            packets = file.demux(file.streams.audio[number])
            found.append(sum(packet.dts is not None for packet in packets))
    return found


def hashes(prepared) -> list[str]:
    return [facts["frames_sha256"] for facts in prepared.done()]


def test_one_look_finds_the_cuts_of_the_whole(film):
    path = film(40, cuts=(11, 25))
    with VideoReader(path) as video:
        images = torch.stack(list(video))
    source = look_through(path)
    assert source.cuts() == find_cuts(images) == [11, 25]
    assert (source.frames, source.fps, source.even) == (40, 6, True)
    for start in (0, 1, 13, 14, 25, 39):
        with FilmReader(path) as reader:
            assert torch.equal(torch.stack(list(reader.frames_from(source, start))), images[start:])


@pytest.mark.parametrize("carries", [True, False])
@pytest.mark.parametrize("frames", [1, 7, 57, 63, 64, 120])
def test_stretches_cover_every_frame_once(frames, carries):
    plan = Plan({}, [0, *([30] if frames > 60 else [])], stretch=14, carries=carries)
    rows = plan.rows("film.mp4", frames)
    stretches = [stretch for row in rows for stretch in plan.stretches(row)]
    assert [n for s in stretches for n in range(s.start, s.stop)] == list(range(frames))
    assert len({s.name for s in stretches}) == len(stretches)
    assert all(s.stop == s.end or s.stop - s.start == 14 for s in stretches)
    assert (stretch_of(56, 1), stretch_of(56, 4), stretch_of(8, 16)) == (56, 14, 7)


def in_stretches(step, images, edges, frames) -> torch.Tensor:
    state, out = {}, []
    for i, (start, stop) in enumerate(zip(edges, [*edges[1:], frames])):
        stretch = Stretch(0, i, start, stop=stop, end=frames, film=frames)
        out.append(step.make(images[start : stretch.read], stretch, state, report=silent))
    return torch.cat(out)


def test_a_chain_in_stretches_is_the_chain():
    """Bit by bit, with a last window that was moved back."""
    images = torch.rand(25, 4, 6, 3, generator=torch.Generator().manual_seed(0))
    step = upscale(steps=2)
    whole = pixel_sr(step.model, images, step.positive, step.negative, step.settings)
    assert torch.equal(in_stretches(step, images, [0, 7, 14], 25), whole)


def test_the_expert_in_one_stretch_is_the_expert_and_in_more_goes_on():
    images = torch.rand(1, 8, 8, 3).expand(24, -1, -1, -1)
    step = refine(window=8, overlap=4)
    whole = latent_expert_sr(step.model, images, step.positive, step.negative, step.settings)
    assert torch.equal(in_stretches(step, images, [0], 24), whole)
    assert in_stretches(step, images, [0, 14], 24).shape == whole.shape
    alone = latent_expert_sr(
        step.model, images[14:], step.positive, step.negative, replace(step.settings, seed=1)
    )
    assert not torch.equal(in_stretches(step, images, [0, 14], 24)[14:], alone)


def command(source, target, *more) -> list[str]:
    return ["upscale", str(source), str(target), "--models", str(MODELS), "--steps", "1", *more]


def test_upscale_keeps_rate_and_every_track(film, tmp_path):
    source, target = film(30, cuts=(12,), sounds=2), tmp_path / "out.mp4"
    assert main(command(source, target, "--scale", "2")) == 0
    assert shown(target) == pytest.approx(shown(source)) and tracks(target) == tracks(source)
    assert not (tmp_path / "out.mp4.parts").exists()


def test_upscale_and_refine_in_one_pass(film, tmp_path):
    target = tmp_path / "out.mp4"
    assert main(command(film(9), target, "--refine", "--refine-steps", "2")) == 0
    with av.open(str(target)) as file:
        sizes = [(frame.width, frame.height) for frame in file.decode(video=0)]
    assert sizes == [(48, 32)] * 9


def test_interpolate_multiplies_the_rate_and_holds_over_cuts(film, tmp_path):
    made = make(Film(source=film(20, cuts=(9,)), target=tmp_path / "o.mp4"), [interpolate()])
    times = shown(tmp_path / "o.mp4")
    assert made.timeline.frames == len(times) == 77
    assert np.allclose(np.diff(times), 1 / 24, atol=1e-3)


def test_another_rate_is_reached(film, tmp_path):
    make(Film(source=film(13), target=tmp_path / "o.mp4", fps=10.0), [interpolate()])
    times = shown(tmp_path / "o.mp4")
    assert len(times) == 21 and np.allclose(np.diff(times), 0.1, atol=1e-3)


WORK = """
import os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
sys.path.insert(0, sys.argv[4])
import test_films
from show1_engine.films.film import Film, make
from show1_engine.films.parts import Parts

left = int(sys.argv[3])
commit = Parts.commit

def commit_and_die(self, *args, **how):
    global left
    facts = commit(self, *args, **how)
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    return facts

Parts.commit = commit_and_die
film = Film(source=Path(sys.argv[1]), target=Path(sys.argv[2]), stretch=8)
make(film, [test_films.upscale()])
"""


def test_killed_after_each_part_it_goes_on_to_the_same_frames(film, tmp_path, pack):
    """kill -9 after every single part: what is there is never made again, and nothing differs."""
    source = film(30, cuts=(18,))
    torch.set_num_threads(1)
    straight = Film(source=source, target=tmp_path / "straight.mp4", stretch=8)
    prepared = prepare(straight, [upscale()])
    with Worker(straight.parts.folder, lambda: [upscale()]) as worker:
        rows = [worker(row) for row in prepared.rows]
    expected = [one for row in rows for one in row["frames_sha256"]]
    assert [row["status"] for row in rows] == ["done", "done"] and len(expected) == 3

    target, here = tmp_path / "killed.mp4", pack / "tests" / "engine"
    paths = os.pathsep.join([str(pack), str(pack / "tests"), str(here)])
    for count in range(1, 4):
        done = subprocess.run(
            [sys.executable, "-c", WORK, str(source), str(target), "1", str(here)],
            env={**os.environ, "PYTHONPATH": paths},
            capture_output=True,
            text=True,
        )
        assert done.returncode == -signal.SIGKILL, done.stderr
        parts = sorted(path.name for path in (tmp_path / "killed.mp4.parts").glob("part*.json"))
        assert len(parts) == count and not target.exists()
    killed = prepare(Film(source=source, target=target, stretch=8), [upscale()])
    assert hashes(killed) == expected and killed.left() == []
    killed.finish()
    assert len(shown(target)) == 30 and not killed.film.parts.folder.exists()


def test_a_changed_setting_is_named_and_begins_anew(film, tmp_path):
    said: list[str] = []
    asked = Film(source=film(20, cuts=(9,)), target=tmp_path / "o.mp4", say=said.append)
    first = prepare(asked, [upscale()])
    Worker(asked.parts.folder, lambda: [upscale()])(first.rows[0])
    assert len(prepare(asked, [upscale()]).left()) == 1 and said == []
    assert len(prepare(asked, [upscale(steps=2, seed=3)]).left()) == 2
    assert "upscale steps is 2 and was 1" in said[0] and "upscale seed is 3 and was 0" in said[0]
    asked.source.write_bytes(film(21, name="other.mp4").read_bytes())
    prepare(asked, [upscale(steps=2, seed=3)])
    assert "source is" in said[1]


def test_what_is_not_ours_in_the_folder_stays(film, tmp_path):
    folder = tmp_path / "o.mp4.parts"
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    make(Film(source=film(5), target=tmp_path / "o.mp4"), [upscale()])
    assert [path.name for path in folder.iterdir()] == ["mine.txt"]


def test_interrupted_it_leaves_what_plays(film, tmp_path):
    said: list[str] = []

    def report(step, total, preview=None):
        if step > 9:
            raise KeyboardInterrupt

    asked = Film(source=film(20, (9,), sounds=1), target=tmp_path / "o.mp4", say=said.append)
    with pytest.raises(KeyboardInterrupt):
        make(asked, [upscale(steps=3)], report)
    assert len(shown(asked.parts.folder / "so-far.mp4")) == 9
    assert "9 of 20 frames are made" in said[-1] and not asked.target.exists()


def test_uneven_times_and_a_late_start_are_kept(film, tmp_path):
    rng = np.random.default_rng(0)
    times = np.cumsum(rng.integers(2000, 30000, 20)).tolist()
    source = film(20, times=times, sounds=1, cuts=(9,))
    make(Film(source=source, target=tmp_path / "o.mp4"), [upscale()])
    assert shown(tmp_path / "o.mp4") == pytest.approx(shown(source), abs=1e-3)
    make(Film(source=source, target=tmp_path / "i.mp4"), [interpolate()])
    assert shown(tmp_path / "i.mp4")[::4] == pytest.approx(shown(source), abs=1e-3)


def test_a_turned_film_is_turned(film, tmp_path):
    source, turned = film(5), tmp_path / "turned.mp4"
    with av.open(str(source)) as file, av.open(str(turned), "w") as out:
        stream = out.add_stream_from_template(file.streams.video[0])
        if not hasattr(stream, "set_display_rotation"):
            data = turned_header(source.read_bytes())
            stream = None
        if stream is not None:
            stream.set_display_rotation(90)
            for packet in file.demux(video=0):
                if packet.dts is not None:
                    packet.stream = stream
                    out.mux(packet)
    if stream is None:
        turned.write_bytes(data)
    make(Film(source=turned, target=tmp_path / "o.mp4"), [upscale()])
    with av.open(str(tmp_path / "o.mp4")) as file:
        assert [(f.width, f.height) for f in file.decode(video=0)] == [(32, 48)] * 5


def turned_header(data: bytes) -> bytes:
    """An mp4 whose track header says a quarter turn."""
    at = data.index(b"tkhd") + 4 + 40
    one, minus = (1 << 16).to_bytes(4, "big"), (-(1 << 16)).to_bytes(4, "big", signed=True)
    none, last = bytes(4), (1 << 30).to_bytes(4, "big")
    matrix = b"".join([none, one, none, minus, none, none, none, none, last])
    return data[:at] + matrix + data[at + 36 :]


def test_sound_that_an_mp4_cannot_hold_is_left_out(film, tmp_path, caplog):
    source = film(8, name="film.mkv", sounds=1, codec="wavpack")
    make(Film(source=source, target=tmp_path / "o.mp4"), [upscale()])
    assert len(shown(tmp_path / "o.mp4")) == 8
    assert tracks(tmp_path / "o.mp4") == [] and "Sound track 1" in caplog.text


def test_tags_of_any_encoding_do_not_matter(film, tmp_path):
    source = film(5, name="tagged.mkv")
    with av.open(str(source)) as file, av.open(str(tmp_path / "t.mkv"), "w") as out:
        out.metadata["title"] = "abcdefgh"
        stream = out.add_stream_from_template(file.streams.video[0])
        for packet in file.demux(video=0):
            if packet.size:
                packet.stream = stream
                out.mux(packet)
    spoiled = (tmp_path / "t.mkv").read_bytes().replace(b"abcdefgh", b"\xff\xfe\xe4bc\xffgh")
    (tmp_path / "t.mkv").write_bytes(spoiled)
    make(Film(source=tmp_path / "t.mkv", target=tmp_path / "o.mp4"), [upscale()])
    assert len(shown(tmp_path / "o.mp4")) == 5


@pytest.mark.parametrize("kept", [0.3, 0.7, 0.95])
def test_a_cut_off_film_is_one_line(film, tmp_path, capsys, kept):
    source = film(400, sounds=1, name="film.mkv")
    data = source.read_bytes()
    source.write_bytes(data[: int(kept * len(data))])
    assert main(command(source, tmp_path / "o.mp4")) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "film.mkv" in error and error.startswith("error: ")
    assert not (tmp_path / "o.mp4").exists()


@pytest.mark.parametrize("content", [b"", b"not a video", None])
def test_what_is_no_video_is_one_line(content, tmp_path, capsys):
    source = tmp_path / "clip.mp4"
    if content is not None:
        source.write_bytes(content)
    assert main(["upscale", str(source), str(tmp_path / "out.mp4")]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "clip.mp4" in error and not (tmp_path / "out.mp4").exists()
    assert not (tmp_path / "out.mp4.parts").exists()


FULL = """
import resource, signal, sys
from pathlib import Path
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
sys.path.insert(0, sys.argv[3])
import test_films
from show1_engine.films.film import Film, make
film = Film(source=Path(sys.argv[1]), target=Path(sys.argv[2]))
steps = [test_films.upscale()]
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
make(film, steps)
"""


def test_a_full_disk_is_no_whole_file(film, tmp_path, pack):
    """No file may grow past 2,000 bytes: nothing is left that looks done."""
    here, target = pack / "tests" / "engine", tmp_path / "o.mp4"
    paths = os.pathsep.join([str(pack), str(pack / "tests"), str(here)])
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(film(20)), str(target), str(here)],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0 and "File too large" in done.stderr
    assert not target.exists()
    left = {path.name for path in (tmp_path / "o.mp4.parts").iterdir()}
    assert not any(name.startswith("part") or name.endswith(".part") for name in left)


def test_a_failed_row_says_so(film, tmp_path):
    asked = Film(source=film(8), target=tmp_path / "o.mp4")
    (row,) = prepare(asked, [upscale()]).rows
    asked.source.unlink()
    result = Worker(asked.parts.folder, lambda: [upscale()])(row)
    assert result["status"] == "failed" and "film.mp4" in result["error"]
    assert json.dumps(row) and result["index"] == 0


def test_a_failed_run_leaves_no_file(tmp_path):
    with pytest.raises(RuntimeError), VideoWriter(tmp_path / "o.mp4", 8) as video:
        video.write(torch.rand(2, 8, 8, 3))
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_film_that_has_changed_is_refused(film, tmp_path):
    asked = Film(source=film(20), target=tmp_path / "o.mp4")
    (row,) = prepare(asked, [upscale()]).rows
    film(5)
    with pytest.raises(InputError, match="ends at frame|cannot be read"):
        Worker(asked.parts.folder, lambda: [upscale()]).work(row)


def test_another_process_that_would_make_others_refuses(film, tmp_path):
    """Its own threads, memory or settings: the name of what differs, and nothing made."""
    work = Film(source=film(), target=tmp_path / "out.mp4", place={"device": "cpu"})
    prepare(work, [upscale()])
    assert len(joined_in(work, [upscale()])) == 1
    with pytest.raises(InputError, match="upscale steps is 2 and was 1"):
        joined_in(work, [upscale(steps=2)])
    with pytest.raises(InputError, match="device is mps and was cpu"):
        joined_in(replace(work, place={"device": "mps"}), [upscale()])


def test_parts_made_elsewhere_are_joined(film, tmp_path):
    """Rows in any order; what fails elsewhere is told when the others are done, and stays to do."""
    source = film(frames=20, cuts=(9,))
    steps, seen = [upscale()], []
    make(Film(source=source, target=tmp_path / "here.mp4"), steps)
    work = Film(source=source, target=tmp_path / "there.mp4")

    def broken(rows):
        with Worker(work.parts.folder, lambda: steps) as worker:
            yield {**rows[0], "status": "failed", "error": "its card is on fire"}
            yield worker(rows[1])

    def mended(rows):
        seen.extend(row["index"] for row in rows)
        with Worker(work.parts.folder, lambda: steps) as worker:
            yield from map(worker, rows)

    with pytest.raises(InputError, match="1 part failed, the first: its card is on fire"):
        make(work, steps, elsewhere=broken)
    make(work, steps, elsewhere=mended)
    assert seen == [0]
    assert work.target.read_bytes() == (tmp_path / "here.mp4").read_bytes()


def test_a_decoders_messages_wait_for_no_python(film):
    """Where they do, as torchvision has it, a decoder's thread and whoever closes a damaged file
    now and then waited for each other for ever.
    """
    av.logging.set_level(av.logging.ERROR)
    with VideoReader(film()) as video:
        assert av.logging.get_level() is None and video.frames_at([0.0]).shape[0] == 1
