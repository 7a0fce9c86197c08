"""What a user sees of a running node: progress bar, preview, time left; and cancelling."""

import logging
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..errors import printable
from ..frames import small_sheet
from ..pictures import curve
from ..progress import Clock, duration

log = logging.getLogger(__name__)
# Running out of the device's memory is a RuntimeError; a cancel, in the host, derives from
# Exception alone.
_PREVIEW_FAULTS = (
    RuntimeError,
    ValueError,
    ArithmeticError,
    LookupError,
    TypeError,
    AttributeError,
    OSError,
    MemoryError,
    AssertionError,
)


class ComfyReport:
    """A report() that moves the node's progress bar, shows the clip so far and the time left, and
    stops where the user cancels. `plan` says beforehand what is going to be done. `unit` is what
    its steps are, and `note` stands behind their number.
    """

    def __init__(self, unit: str = "step") -> None:
        import comfy.utils

        self.unit, self.note = unit, ""
        self._bar = comfy.utils.ProgressBar(1)  # every update says its total
        self._plan, self._clock, self._shown, self._told = "", Clock(), 0.0, False

    def plan(self, text: str) -> None:
        self._plan = text
        show_text(text)

    def restart(self) -> None:
        """What follows is other work: its pace is measured anew."""
        self._clock = Clock()

    def __call__(self, step: int, total: int, preview: Any = None) -> None:
        import comfy.model_management as mm

        mm.throw_exception_if_processing_interrupted()
        self._bar.update_absolute(step, total, self._shown_picture(preview) if preview else None)
        left = self._clock.left(step, total)
        if left is not None and (time.monotonic() - self._shown > 1 or step == total):
            self._shown = time.monotonic()
            note = f", {self.note}" if self.note else ""
            done = f"{self.unit} {step} of {total}{note}, {duration(left)} left"
            show_text(f"{done}\n{self._plan}")  # the node shows two lines

    def _shown_picture(self, preview: Any) -> tuple[str, Any, int] | None:
        """The preview, or none where it cannot be made: a picture is no reason to lose a run. A
        cancel while it is made is none of these errors.
        """
        try:
            return _picture(preview())
        except _PREVIEW_FAULTS as error:
            if not self._told:
                log.warning(
                    "A preview cannot be shown (%s: %s); the run goes on.",
                    type(error).__name__,
                    printable(error, 300),
                )
            self._told = True
            return None


class TrainingReport(ComfyReport):
    """A report() whose picture is the latest sample's strip with the curve of the losses below it;
    shown with every sample, and every second without.
    """

    def __init__(self, losses: list[float]):
        super().__init__()
        self._losses, self._strip, self._drawn = losses, None, 0.0

    def __call__(self, step: int, total: int, preview: Any = None) -> None:
        due = time.monotonic() - self._drawn > 1 or step == total
        super().__call__(step, total, self._picture_of(preview) if preview or due else None)

    def _picture_of(self, preview: Any) -> Callable[[], Tensor]:
        def drawn() -> Tensor:
            self._drawn = time.monotonic()
            if preview is not None:
                self._strip = small_sheet(preview()).float() / 255
            line = curve(self._losses, width=512 if self._strip is None else self._strip.shape[1])
            parts = [line] if self._strip is None else [self._strip, line]
            return torch.cat(parts)[None]

        return drawn


def show_text(text: str) -> None:
    """Text on the node that is running."""
    from comfy_execution.utils import get_executing_context
    from server import PromptServer

    context = get_executing_context()
    if context is not None and getattr(PromptServer, "instance", None) is not None:
        text = "\n".join(printable(line) for line in text.splitlines())
        PromptServer.instance.send_progress_text(text, context.node_id)


def cancelled() -> type[BaseException]:
    """What a report() raises where the user cancels.

    An Exception up to 0.26, a BaseException from 0.27 on: whoever handles it names it, and what has
    to be undone stands in a `finally`.
    """
    from comfy.model_management import InterruptProcessingException

    return InterruptProcessingException


def download_report() -> Callable[[int, int, str], None]:
    """A report(done, total, text) that moves the node's bar, shows the text on it, and stops where
    the user cancels.
    """
    import comfy.model_management as mm
    import comfy.utils

    bar = comfy.utils.ProgressBar(1)

    def report(done: int, total: int, text: str) -> None:
        mm.throw_exception_if_processing_interrupted()
        bar.update_absolute(done, total)
        show_text(text)

    return report


def _picture(frames: Tensor) -> tuple[str, Any, int]:
    """Frames (F, H, W, 3) as the host's preview: one contact sheet, its longer side 512 pixels."""
    from PIL import Image

    return "JPEG", Image.fromarray(small_sheet(frames).numpy()), 512


def to_output(images: Tensor) -> Tensor:
    """Frames where the host keeps what flows along links, in the dtype it keeps them in.

    That is float32, or on newer hosts float16 where the user asks for it (--fp16-intermediates).
    """
    import comfy.model_management as mm

    dtype = mm.intermediate_dtype() if hasattr(mm, "intermediate_dtype") else torch.float32
    return images.to(mm.intermediate_device(), dtype)
