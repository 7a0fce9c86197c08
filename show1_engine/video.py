"""Video files (PyAV) and pictures."""

from fractions import Fraction
from pathlib import Path

from torch import Tensor

from .frames import contact_sheet


def write_mp4(path: Path, images: Tensor, fps: float) -> None:
    """Frames (F, H, W, 3) as H.264. Odd sizes lose their last row or column, as yuv420p needs even ones."""
    import av

    height, width = (max(2, side - side % 2) for side in images.shape[1:3])
    pixels = (images[:, :height, :width, :3].clamp(0, 1) * 255).round().byte().numpy()
    partial = path.with_name(path.name + ".part")
    try:
        with av.open(str(partial), "w", format="mp4") as container:
            stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000),
                                          options={"crf": "12"})
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for image in pixels:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_sheet(path: Path, images: Tensor, columns: int | None = None) -> None:
    """All frames in one PNG."""
    from PIL import Image

    Image.fromarray(contact_sheet(images, columns).numpy()).save(path)
