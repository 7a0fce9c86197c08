"""Which stage a UNet serves, read from its config."""

from ..errors import ModelKindError

KEYFRAMES = "keyframes"
INTERPOLATION = "interpolation"
PIXEL_SR = "pixel_sr"
FIRST_FRAME_SR = "first_frame_sr"
LATENT_EXPERT = "latent_expert"

# ShowOneUNet3DConditionModel: Show-1's own class as sayakpaul/show-1-base-with-code names it.
_CLASSES = ("UNet3DConditionModel", "UNet2DConditionModel", "ShowOneUNet3DConditionModel")
_KIND_OF_CHANNELS = {3: KEYFRAMES, 4: LATENT_EXPERT, 6: PIXEL_SR, 7: INTERPOLATION}

DESCRIPTION = {
    KEYFRAMES: "a keyframe model (3 input channels)",
    INTERPOLATION: "an interpolation model (7 input channels)",
    PIXEL_SR: "a pixel super-resolution model (6 input channels, temporal layers)",
    FIRST_FRAME_SR: "a first-frame super-resolution model (6 input channels, no temporal layers)",
    LATENT_EXPERT: "a latent expert (4 input channels)",
}


def is_2d(config: dict) -> bool:
    """True for a UNet without temporal layers (DeepFloyd IF)."""
    return all(name.endswith("2D") for name in config["down_block_types"])


def kind_of(config: dict) -> str:
    """The stage a UNet config belongs to; ModelKindError if it is none of Show-1's."""
    channels, name = config.get("in_channels"), config.get("_class_name", "UNet3DConditionModel")
    blocks = config.get("down_block_types", ())
    video = all(block.endswith("3D") for block in blocks)
    if not blocks or name not in _CLASSES or not (video or is_2d(config)):
        raise ModelKindError(
            f"a {name} of {', '.join(blocks) or 'no'} blocks is not one of Show-1's models"
        )
    if not video:
        if channels != 6:
            raise ModelKindError(
                f"a 2-D UNet with {channels} input channels is not a super-resolution model; "
                "the first frame needs one of the DeepFloyd IF-II type (6 input channels)"
            )
        return FIRST_FRAME_SR
    if channels not in _KIND_OF_CHANNELS:
        raise ModelKindError(
            f"a UNet with {channels} input channels is none of Show-1's models "
            "(keyframes 3, interpolation 7, super-resolution 6, latent expert 4)"
        )
    return _KIND_OF_CHANNELS[channels]
