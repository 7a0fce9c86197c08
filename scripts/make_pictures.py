"""Pictures of the pack from runs of its templates. Called by scripts/pictures with ComfyUI's source
tree.

Every template that uses the bundled models is run on a real server, in the editor, with the
settings it is shipped with; what it saved becomes its thumbnail, and the text-to-video template's
stages the pictures of the help pages and the moving one of the README.
"""

import json
import sys
import tempfile
from pathlib import Path

import av
import numpy as np
import torch
from comfyui_server import BASE_FOLDERS, PACK, Run, Server, link_pack, run_prompt, ui_to_api
from PIL import Image, ImageDraw, ImageFont

sys.path[:0] = [str(PACK), str(PACK / "tests" / "host")]
from browser import Browser, launched_chromium  # noqa: E402

from show1_engine.bundled import EDITIONS  # noqa: E402
from show1_engine.video import write_mp4  # noqa: E402

HELP = PACK / "nodes" / "web" / "docs" / "pictures"
STAGES = ("Show1Keyframes", "Show1Interpolate", "Show1PixelSR", "Show1LatentExpertSR")
MOVING = ("1 keyframes", "2 interpolated", "3 upscaled pixels", "4 refined in latents")
SIDE, GAP, LABEL = 384, 6, 22  # width of a thumbnail, between frames, a line of text
MOVING_SIDE = 320
DARK, LIGHT, ACCENT = (24, 26, 31), (225, 228, 235), (255, 196, 64)
FULL_SIZE = (
    ("keyframes", "8 x 64x40"),
    ("interpolation", "29 x 64x40"),
    ("pixel super-resolution", "29 x 256x160"),
    ("latent expert", "29 x 576x320"),
)
VIEW = (2850, 1620)  # so large that the editor writes text; pictures are made smaller afterwards

Frames = list[Image.Image]


def main(comfyui: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        for name in BASE_FOLDERS:
            (base / name).mkdir()
        link_pack(base / "custom_nodes")
        settings = base / "user" / "default" / "comfy.settings.json"
        settings.parent.mkdir()
        settings.write_text(
            json.dumps({"Comfy.TutorialCompleted": True, "Comfy.Minimap.Visible": False})
        )
        with Server(comfyui, base=base, args=("--cpu", "--disable-api-nodes")) as server:
            clip = text_to_video(server)
            screenshots(server, clip, sorted((PACK / "workflows").glob("*.json")))
    full_size().save(PACK / "workflows" / "Show-1 Text to Video (full size).jpg", quality=88)


def text_to_video(server: Server) -> Frames:
    """Run the template with every stage's frames saved, for the help pages; the small frames before
    upscaling.
    """
    workflow = json.loads((PACK / "workflows" / "Show-1 Text to Video.json").read_text())
    prompt = ui_to_api(workflow, server.object_info())
    for key, node in list(prompt.items()):
        if node["class_type"] in STAGES:
            prompt[node["class_type"]] = {
                "class_type": "SaveImage",
                "inputs": {"images": [key, 0], "filename_prefix": node["class_type"]},
            }
    run = run_prompt(server, prompt)
    assert run.status == "success", run.message
    keyframes, interpolated, pixels, refined = (
        saved_images(server, run, stage) for stage in STAGES
    )
    picks = range(0, 29, 4)
    pictures = {
        STAGES[0]: [
            (
                "text",
                caption(
                    next(n["inputs"]["value"] for n in prompt.values() if "value" in n["inputs"])
                ),
            ),
            ("images", keyframes),
        ],
        STAGES[1]: [("images in", spread(keyframes[:3])), ("images out", interpolated[:9])],
        STAGES[2]: [
            ("images in", [interpolated[i] for i in picks]),
            ("images out", [pixels[i] for i in picks]),
        ],
        STAGES[3]: [
            ("images in", [pixels[i] for i in picks]),
            ("images out", [refined[i] for i in picks]),
        ],
    }
    held = [keyframes[i // 4] for i in range(len(interpolated))]
    frames = moving(list(zip(MOVING, (held, interpolated, pixels, refined), strict=True)))
    frames[0].save(
        PACK / "docs" / "show-1-text-to-video.webp",
        save_all=True,
        append_images=frames[1:],
        duration=125,
        loop=0,
        quality=85,
    )
    HELP.mkdir(exist_ok=True)
    for stage, rows in pictures.items():
        strips(rows).save(HELP / f"{stage}.jpg", quality=88)
    return interpolated


def screenshots(server: Server, clip: Frames, templates: list[Path]) -> None:
    """Run the templates that can run here in the editor, those that take one on a clip of the
    second edition: their thumbnails and screenshots.
    """
    lay_in(server.base / "input", clip)
    with launched_chromium() as chromium:
        browser = Browser(server, chromium)
        for file in templates:
            workflow = json.loads(file.read_text())
            if not runs_here(workflow):
                continue
            with browser.page(VIEW) as page:
                page.load(workflow)
                page.set_widgets("file", "clip.mp4")
                entry = page.wait_for(page.press_run(), 1800)
                assert entry["status"]["status_str"] == "success", f"{file.stem}: {entry['status']}"
                shot = server.base / "shot.png"
                page.picture(shot)
                shown = PACK / "docs" / f"{file.stem.lower().replace(' ', '-')}.jpg"
                if shown.exists():  # not every template's is on a page
                    cropped(shot).save(shown, quality=85)
            videos = [
                server.base / "output" / item["subfolder"] / item["filename"]
                for output in entry["outputs"].values()
                for item in output.get("images", [])
                if item["filename"].endswith(".mp4") and item["type"] == "output"
            ]
            result = frames_of(videos[-1])
            picture = halves(clip, result) if "Upscale" in file.stem else grid(result)
            picture.save(file.with_suffix(".jpg"), quality=88)


def cropped(screenshot: Path) -> Image.Image:
    """Without the editor's own bars: what remains holds a graph that was fitted to the view."""
    picture = Image.open(screenshot).convert("RGB").resize((1900, 1080), Image.LANCZOS)
    return picture.crop(
        (picture.width // 9, picture.height // 8, picture.width * 8 // 9, picture.height * 7 // 8)
    )


def runs_here(workflow: dict) -> bool:
    """Whether all its models are bundled."""
    return all(
        node["widgets_values"][0].partition("/")[0] in EDITIONS
        for node in workflow["nodes"]
        if node["type"] in ("Show1LoadModel", "Show1LoadTextEncoder")
    )


def lay_in(folder: Path, clip: Frames) -> None:
    """As what the templates read."""
    write_mp4(folder / "clip.mp4", torch.stack([tensor(frame) for frame in clip]), 8.0)
    clip[0].save(folder / "example.png")


def saved_images(server: Server, run: Run, key: str) -> Frames:
    return [
        Image.open(server.base / "output" / item["filename"]).convert("RGB")
        for item in run.outputs[key]["images"]
    ]


def tensor(frame: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(frame)) / 255


def frames_of(video: Path) -> Frames:
    with av.open(str(video)) as container:
        return [frame.to_image() for frame in container.decode(video=0)]


def enlarged(frame: Image.Image, width: int) -> Image.Image:
    """Small frames keep their pixels visible."""
    way = Image.NEAREST if frame.width < width // 2 else Image.BICUBIC
    return frame.resize((width, round(width * frame.height / frame.width)), way)


def caption(text: str) -> Image.Image:
    picture = Image.new("RGB", (640, 28), DARK)
    ImageDraw.Draw(picture).text((0, 2), f'"{text}"', LIGHT, ImageFont.load_default(18))
    return picture


def strips(rows: list[tuple[str, list[Image.Image | None] | Image.Image]]) -> Image.Image:
    """Labelled rows of frames, 640 pixels wide; a row that is a picture already is put there as it
    is.
    """
    parts = []
    for label, row in rows:
        frames, side = [row], 640
        if isinstance(row, list):
            side = (640 - (len(row) - 1) * GAP) // len(row)
            frames = [frame and enlarged(frame, side) for frame in row]
        strip = Image.new("RGB", (640, LABEL + frames[0].height + GAP), DARK)
        ImageDraw.Draw(strip).text((0, 2), label, ACCENT, ImageFont.load_default(14))
        for number, frame in enumerate(frames):
            if frame is not None:
                strip.paste(frame, (number * (side + GAP), LABEL))
        parts.append(strip)
    return stacked(parts)


def moving(stages: list[tuple[str, Frames]]) -> Frames:
    """What every stage made, two beside each other, frame by frame."""
    found = []
    for pictures in zip(*(frames for _, frames in stages), strict=True):
        large = [enlarged(picture, MOVING_SIDE) for picture in pictures]
        across, down = MOVING_SIDE + GAP, large[0].height + LABEL
        canvas = Image.new("RGB", (2 * across + GAP, 2 * down + GAP), DARK)
        for number, ((label, _), picture) in enumerate(zip(stages, large, strict=True)):
            left, top = GAP + number % 2 * across, number // 2 * down
            ImageDraw.Draw(canvas).text((left, top + 2), label, ACCENT, ImageFont.load_default(14))
            canvas.paste(picture, (left, top + LABEL))
        found.append(canvas)
    return found


def spread(frames: Frames) -> list[Image.Image | None]:
    """Frames with room for three new ones between every two."""
    return [
        frames[number // 4] if number % 4 == 0 else None for number in range(4 * len(frames) - 3)
    ]


def stacked(parts: Frames) -> Image.Image:
    picture = Image.new("RGB", (640 + 2 * GAP, sum(part.height for part in parts) + GAP), DARK)
    top = GAP
    for part in parts:
        picture.paste(part, (GAP, top))
        top += part.height
    return picture


def grid(frames: Frames) -> Image.Image:
    """Nine frames, evenly spread; six of wide ones."""
    columns = 2 if frames[0].width > frames[0].height else 3
    side = (SIDE - (columns - 1) * GAP) // columns
    picks = torch.linspace(0, len(frames) - 1, 3 * columns).round().long().tolist()
    chosen = [enlarged(frames[index], side) for index in picks]
    down = chosen[0].height + GAP
    picture = Image.new("RGB", (SIDE, 3 * down - GAP), DARK)
    for number, frame in enumerate(chosen):
        picture.paste(frame, (number % columns * (side + GAP), number // columns * down))
    return picture


def halves(before: Frames, after: Frames) -> Image.Image:
    """The middle frame: its left half as it came, its right half enlarged."""
    left, right = (enlarged(frames[len(frames) // 2], SIDE) for frames in (before, after))
    right.paste(left.crop((0, 0, SIDE // 2, left.height)), (0, 0))
    ImageDraw.Draw(right).line((SIDE // 2, 0, SIDE // 2, right.height), LIGHT, 3)
    return right


def full_size() -> Image.Image:
    """No output of the published models can be made here: their four stages, drawn to scale."""
    picture = Image.new("RGB", (SIDE, SIDE), DARK)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(19)
    top = 24
    for number, (stage, size) in enumerate(FULL_SIZE):
        width = (34, 34, 90, 170)[number]
        height = round(width * 0.6)
        for shift in (8, 4, 0):
            box = (24 + shift, top + shift, 24 + shift + width, top + shift + height)
            draw.rectangle(box, (60, 66, 80), ACCENT)
        draw.text(
            (24 + width + 24, top + height // 2 - 12),
            stage if width > 99 else f"{stage}\n{size}",
            LIGHT,
            font,
        )
        if width > 99:
            draw.text((24 + width + 24, top + height // 2 + 12), size, LIGHT, font)
        top += height + 38
    return picture


if __name__ == "__main__":
    main(Path(sys.argv[1]))
