"""Classifier-free guidance: the UNet as a noise predictor that follows a prompt."""

from collections.abc import Collection

import torch
from torch import Tensor

from ..models.unet import TextStates, UNet
from ..out_of_memory import retried_smaller
from .reuse import Kept
from .schedules import AsNoise


class Guidance:
    """A UNet that predicts noise towards one prompt and away from another.

    The text is prepared once, when this is made; it then serves any number of windows.

    Args:
        unet: on the device it computes on, as the text is.
        positive, negative: text states (1, tokens, width), or one for each video of the batch (B,
            ...).
        scale: noise = negative + scale * (positive - negative), when above 1; the variance is the
            positive's (Ho and Salimans 2022; the paper's defaults are those of its script).
        dtype: what the UNet computes in; what goes in and comes out is float32.
        channels: how many channels of the output are noise; the others are variance.
        noise_level: of every video, super-resolution only: (1,).
        at_once: samples (a video costs two where it is guided) that memory allows in one forward;
            None: all. Halved when the device runs out of memory all the same.
        guided_timesteps: the timesteps that are guided; None: all.
        reuse: every how many-th step computes the whole network (reuse.Kept).
        as_noise: what makes noise of the prediction, where the UNet predicts something else.
    """

    def __init__(
        self,
        unet: UNet,
        positive: Tensor,
        negative: Tensor,
        scale: float,
        *,
        dtype: torch.dtype,
        channels: int = 3,
        noise_level: Tensor | None = None,
        at_once: int | None = None,
        guided_timesteps: Collection[int] | None = None,
        reuse: int = 1,
        as_noise: AsNoise | None = None,
    ):
        self.unet, self.scale, self.dtype, self.channels = unet, scale, dtype, channels
        self._as_noise = as_noise
        self.noise_level, self.at_once, self.guided_timesteps = (
            noise_level,
            at_once,
            guided_timesteps,
        )
        self._kept = Kept(reuse)
        texts = [negative, positive] if scale > 1 else [positive]
        # Texts of unequal length cannot share a batch.
        together = [torch.cat(texts)] if len({text.shape for text in texts}) == 1 else texts
        self._videos = len(positive)
        self._states = [unet.prepare_text(text.to(dtype)) for text in together]
        self._repeated = 1, self._states

    def __call__(self, sample: Tensor, timestep: int) -> Tensor:
        """Noise and variance (B, C', F, H, W) of the sample (B, C, F, H, W) and what stands beside
        it.
        """
        out = self._guided(sample, timestep)
        if self._as_noise is None:
            return out
        predicted, rest = out[:, : self.channels], out[:, self.channels :]
        noise = self._as_noise(predicted, sample[:, : self.channels], timestep)
        return torch.cat([noise, rest], dim=1)

    def _guided(self, sample: Tensor, timestep: int) -> Tensor:
        self._kept.begin(timestep)
        states = self._for_videos(len(sample))
        levels = None if self.noise_level is None else self.noise_level.expand(len(sample))
        x = sample.to(self.dtype)
        if self.scale <= 1 or not self._guides(timestep):
            return self._forward(x, timestep, states[-1][-len(x) :], levels=levels)
        if len(states) == 1:
            both = None if levels is None else torch.cat([levels, levels])
            away, towards = self._forward(
                torch.cat([x, x]), timestep, states[0], levels=both
            ).chunk(2)
        else:
            away = self._forward(x, timestep, states[0], levels=levels, after=len(x))
            towards = self._forward(x, timestep, states[1], levels=levels)
        without, wanted = away[:, : self.channels], towards[:, : self.channels]
        noise = without + self.scale * (wanted - without)
        return torch.cat([noise, towards[:, self.channels :]], dim=1)

    def _guides(self, timestep: int) -> bool:
        return self.guided_timesteps is None or timestep in self.guided_timesteps

    def _for_videos(self, count: int) -> list[TextStates]:
        """The text once for every video: several windows share one."""
        windows = count // self._videos
        if self._repeated[0] != windows:
            self._repeated = windows, [states.repeat(windows) for states in self._states]
        return self._repeated[1]

    def _forward(
        self,
        x: Tensor,
        timestep: int,
        text: TextStates,
        levels: Tensor | None,
        after: int = 0,
    ) -> Tensor:
        """The UNet on a batch, some samples at a time: the same numbers with less memory. `after`
        is how many samples of the step stand behind these; from its end on they are counted, as the
        prompt's are the last, guided or not.
        """
        # A number of the processor's would be copied over at every step, and compiled in by
        # torch.compile.
        step = torch.full((), timestep, dtype=torch.float32, device=x.device)

        def run() -> Tensor:
            size = self._samples_of(x)
            parts = [slice(i, i + size) for i in range(0, len(x), size)]
            return torch.cat([forward(part) for part in parts])

        def forward(part: slice) -> Tensor:
            some = None if levels is None else levels[part]
            names = range(-after - len(x), -after)[part]
            return self._kept.forward(
                names, lambda kept: self.unet(x[part], step, text[part], some, kept=kept).float()
            )

        def shrink() -> bool:
            size = self._samples_of(x)
            self.at_once = -(-size // 2)
            return size > 1

        return retried_smaller(run, shrink)

    def _samples_of(self, x: Tensor) -> int:
        return min(self.at_once or len(x), len(x))
