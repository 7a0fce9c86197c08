"""The engine stands alone, and its command line works."""

import json
import subprocess
import sys

import reference
from safetensors.torch import load_file

from show1_engine.__main__ import main


def test_the_engine_imports_nothing_of_the_host(pack):
    code = (
        "import sys, pkgutil, importlib, show1_engine\n"
        "for m in pkgutil.walk_packages(show1_engine.__path__, 'show1_engine.'):\n"
        "    m.name.endswith('__main__') or importlib.import_module(m.name)\n"
        "late = 'comfy', 'folder_paths', 'diffusers', 'transformers'\n"
        "print([name for name in sys.modules if name.split('.')[0] in late])"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], cwd=pack, capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == "[]"


def test_generate(tmp_path):
    models = reference.reference_root() / "models"
    frames, video, stages = (
        tmp_path / "frames.safetensors",
        tmp_path / "out.mp4",
        tmp_path / "stages",
    )
    assert (
        main(
            [
                "generate",
                "--models",
                str(models),
                "--prompt",
                "a cat",
                "--until",
                "pixel-sr",
                "--seed",
                "3",
                "--keyframes-width",
                "8",
                "--keyframes-height",
                "8",
                "--keyframes-num-frames",
                "3",
                "--keyframes-steps",
                "2",
                "--interpolate-steps",
                "2",
                "--first-frame-steps",
                "2",
                "--pixel-sr-steps",
                "2",
                "--out",
                str(video),
                "--save-stages",
                str(stages),
                "--frames-out",
                str(frames),
            ]
        )
        == 0
    )
    shapes = {name: tuple(value.shape) for name, value in load_file(frames).items()}
    assert shapes == {
        "keyframes": (3, 8, 8, 3),
        "interpolated": (9, 8, 8, 3),
        "first_frame": (1, 32, 32, 3),
        "pixel_sr": (9, 32, 32, 3),
    }
    import av

    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height, float(stream.average_rate)) == (32, 32, 8.0)
        assert len(list(container.decode(video=0))) == 9
    assert {path.name for path in stages.iterdir()} == {
        f"{n}.{e}" for n in shapes for e in ("mp4", "png")
    }


def test_a_converted_file_gives_the_same_frames(tmp_path):
    from show1_engine.loading import load_model
    from show1_engine.runtime import PlainRuntime

    source = reference.reference_root() / "models" / "show-1-sr2"
    target = tmp_path / "show-1-sr2.safetensors"
    assert main(["convert", str(source), str(target)]) == 0
    one, other = (load_model(path, PlainRuntime()) for path in (source, target))
    assert json.dumps(one.scheduler_config) == json.dumps(other.scheduler_config)
    for a, b in ((one.unet, other.unet), (one.vae, other.vae)):
        mine, theirs = a.module.state_dict(), b.module.state_dict()
        assert mine.keys() == theirs.keys() and all((mine[k] == theirs[k]).all() for k in mine)


def test_errors_are_one_line(capsys, tmp_path):
    assert main(["generate", "--models", str(tmp_path), "--prompt", "a cat"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
