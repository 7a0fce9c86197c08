"""The pack's nodes. One file per node, named like the engine stage it calls."""

from comfy_api.latest import ComfyExtension, io

from ..show1_engine.host.folders import register_folders
from .compare_clips import Show1CompareClips
from .download import Show1DownloadModel
from .given_frames import Show1GivenFrames
from .interpolate import Show1Interpolate
from .interpolate_video import Show1InterpolateVideo
from .keyframes import Show1Keyframes
from .latent_expert_sr import Show1LatentExpertSR
from .load import Show1LoadModel, Show1LoadTextEncoder
from .motion_lora import Show1MotionLoRA
from .pick_clip import Show1PickClip
from .pixel_sr import Show1PixelSR
from .prompt_schedule import Show1PromptSchedule
from .refine_video import Show1RefineVideo
from .text import Show1TextEncode
from .train_motion_lora import Show1TrainMotionLoRA
from .upscale_video import Show1UpscaleVideo

NODES: list[type[io.ComfyNode]] = [
    Show1LoadModel,
    Show1LoadTextEncoder,
    Show1TextEncode,
    Show1Keyframes,
    Show1Interpolate,
    Show1PixelSR,
    Show1LatentExpertSR,
    Show1DownloadModel,
    Show1MotionLoRA,
    Show1TrainMotionLoRA,
    Show1PromptSchedule,
    Show1GivenFrames,
    Show1PickClip,
    Show1CompareClips,
    Show1UpscaleVideo,
    Show1InterpolateVideo,
    Show1RefineVideo,
]


class Show1Extension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return NODES


async def comfy_entrypoint() -> Show1Extension:
    register_folders()
    return Show1Extension()
