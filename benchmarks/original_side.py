"""The original's side of beside_original.py, for the Python that has its libraries: it calls the
original's classes on what it is given, and holds none of its code.

Jobs come as lines of JSON on stdin: the kind of work, the model's folder, a file of inputs, a file
for the result, numbers. Each is answered by a line of JSON with the CPU seconds.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

Job = dict[str, Any]
Work = Callable[[], torch.Tensor]


def answer(prepare: Callable[[Job, dict[str, torch.Tensor]], Work]) -> None:
    """Works on jobs until there are no more. `prepare` gives what is timed, its model loaded."""
    answers, sys.stdout = sys.stdout, sys.stderr  # libraries print
    for line in sys.stdin:
        job = json.loads(line)
        torch.set_num_threads(job["threads"])
        with torch.no_grad():
            work = prepare(job, load_file(job["inputs"]))
            start, wall = time.process_time(), time.perf_counter()
            made = work()
            took = time.process_time() - start, time.perf_counter() - wall
        save_file({"made": made.float().contiguous()}, job["result"])
        print(json.dumps(took), file=answers, flush=True)


_held: dict[str, Any] = {}


def held(folder: str, load: Callable[[Path], Any]) -> Any:
    """A model, loaded once; the one before it is let go first."""
    if folder not in _held:
        _held.clear()
        _held[folder] = load(Path(folder))
    return _held[folder]


def network(folder: Path) -> torch.nn.Module:
    import diffusers
    from showone.models import UNet3DConditionModel

    flat = "2D" in json.loads((folder / "unet" / "config.json").read_text())["_class_name"]
    cls = diffusers.UNet2DConditionModel if flat else UNet3DConditionModel
    return cls.from_pretrained(str(folder / "unet"), torch_dtype=torch.float32).eval()


def scheduler(folder: Path, name: str = "scheduler") -> Any:
    import diffusers

    config = json.loads((folder / name / "scheduler_config.json").read_text())
    return getattr(diffusers, config["_class_name"]).from_config(config)


def prepared(job: Job, x: dict[str, torch.Tensor]) -> Work:
    """A job of this side."""
    net = held(job["folder"], network)
    if job["kind"] == "forward":
        labels = {"class_labels": x["level"]} if "level" in x else {}
        return lambda: net(x["sample"], job["timestep"], x["positive"], **labels).sample
    pipeline = PIPELINES[job["kind"]](net, Path(job["folder"]))
    pipeline.set_progress_bar_config(disable=True)
    return lambda: frames(STAGES[job["kind"]](pipeline, job, x))


def frames(video: torch.Tensor) -> torch.Tensor:
    """(1, 3, F, H, W) in [-1, 1] as (F, H, W, 3) in [0, 1]."""
    return video[0].permute(1, 2, 3, 0) / 2 + 0.5


def common(job: Job, x: dict[str, torch.Tensor]) -> dict[str, Any]:
    """What every pipeline is called with."""
    return {
        "prompt_embeds": x["positive"],
        "negative_prompt_embeds": x["negative"],
        "num_inference_steps": job["steps"],
        "guidance_scale": job["cfg"],
        "generator": torch.Generator().manual_seed(job["seed"]),
        "output_type": "pt",
    }


# Text comes as states.
_NO_TEXT = dict.fromkeys(("tokenizer", "text_encoder", "feature_extractor"))


def _keyframes_pipeline(net: torch.nn.Module, folder: Path) -> Any:
    from showone.pipelines import TextToVideoIFPipeline

    return TextToVideoIFPipeline(**_NO_TEXT, unet=net, scheduler=scheduler(folder))


def _interpolation_pipeline(net: torch.nn.Module, folder: Path) -> Any:
    from showone.pipelines import TextToVideoIFInterpPipeline

    return TextToVideoIFInterpPipeline(**_NO_TEXT, unet=net, scheduler=scheduler(folder))


def _first_frame_pipeline(net: torch.nn.Module, folder: Path) -> Any:
    from diffusers import IFSuperResolutionPipeline

    return IFSuperResolutionPipeline(
        **_NO_TEXT,
        **dict.fromkeys(("safety_checker", "watermarker")),
        unet=net,
        scheduler=scheduler(folder),
        image_noising_scheduler=scheduler(folder, "image_noising_scheduler"),
        requires_safety_checker=False,
    )


def _pixel_sr_pipeline(net: torch.nn.Module, folder: Path) -> Any:
    from showone.pipelines.pipeline_t2v_sr_pixel_cond import (
        TextToVideoIFSuperResolutionPipeline_Cond,
    )

    return TextToVideoIFSuperResolutionPipeline_Cond(
        **_NO_TEXT,
        unet=net,
        scheduler=scheduler(folder),
        image_noising_scheduler=scheduler(folder, "image_noising_scheduler"),
    )


def _expert_pipeline(net: torch.nn.Module, folder: Path) -> Any:
    from diffusers import AutoencoderKL, VideoToVideoSDPipeline
    from transformers import CLIPTextConfig, CLIPTextModel

    vae = AutoencoderKL.from_pretrained(str(folder / "vae"), torch_dtype=torch.float32).eval()
    # Encodes nothing, but is asked for its dtype.
    text = CLIPTextModel(CLIPTextConfig(vocab_size=8, hidden_size=64, num_hidden_layers=1))
    return VideoToVideoSDPipeline(vae, text, None, unet=net, scheduler=scheduler(folder))


PIPELINES = {
    "keyframes": _keyframes_pipeline,
    "interpolation": _interpolation_pipeline,
    "first frame": _first_frame_pipeline,
    "pixel SR": _pixel_sr_pipeline,
    "expert": _expert_pipeline,
}


def _keyframes(pipeline: Any, job: Job, x: dict[str, torch.Tensor]) -> torch.Tensor:
    size = {"num_frames": job["frames"], "height": job["height"], "width": job["width"]}
    return pipeline(**common(job, x), **size).frames


def _interpolation(pipeline: Any, job: Job, x: dict[str, torch.Tensor]) -> torch.Tensor:
    """Window by window, all from the same noise; a later one's first frame stands."""
    given = x["video"]
    noise = torch.randn(
        (1, 3, 5, *given.shape[-2:]), generator=torch.Generator().manual_seed(job["seed"])
    )
    made = torch.zeros(1, 3, 4 * (given.shape[2] - 1) + 1, *given.shape[-2:])
    for i in range(given.shape[2] - 1):
        window = torch.zeros(1, 3, 5, *given.shape[-2:])
        window[:, :, 0], window[:, :, 4] = given[:, :, i], given[:, :, i + 1]
        more = {"init_noise": noise, "cond_interpolation": True, "num_frames": 5}
        size = {"height": given.shape[-2], "width": given.shape[-1]}
        made[:, :, 4 * i : 4 * i + 5] = pipeline(window, **common(job, x), **size, **more).frames
    return made


def _sr(job: Job, x: dict[str, torch.Tensor]) -> dict[str, Any]:
    height, width = (4 * side for side in x["video"].shape[-2:])
    return {**common(job, x), "height": height, "width": width, "noise_level": job["noise_level"]}


def _first_frame(pipeline: Any, job: Job, x: dict[str, torch.Tensor]) -> torch.Tensor:
    return pipeline(image=x["video"][:, :, 0], **_sr(job, x)).images.unsqueeze(2)


def _pixel_sr(pipeline: Any, job: Job, x: dict[str, torch.Tensor]) -> torch.Tensor:
    return pipeline(image=x["video"], first_frame_cond=x["first"], **_sr(job, x)).frames


def _expert(pipeline: Any, job: Job, x: dict[str, torch.Tensor]) -> torch.Tensor:
    video = [frame.numpy() for frame in x["bytes"]]
    return pipeline(video=video, strength=job["strength"], **common(job, x)).frames


STAGES = {
    "keyframes": _keyframes,
    "interpolation": _interpolation,
    "first frame": _first_frame,
    "pixel SR": _pixel_sr,
    "expert": _expert,
}

if __name__ == "__main__":
    answer(prepared)
