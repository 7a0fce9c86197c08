"""The latent expert's autoencoder: its training, and latents for the expert's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from show1_engine.checkpoints.read import read_weights
from show1_engine.errors import InputError
from show1_engine.evaluation.measures import mean_psnr
from show1_engine.training.loop import annealed, load_state, warm_up

from .batches import checkered_scenes, cut, middles, pixels
from .editions import FIRST, Edition
from .initial import initial_vae
from .preview import save_sheet
from .runs import WARM_UP, Run, half_precision

if TYPE_CHECKING:
    from diffusers import AutoencoderKL
    from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

_BATCH, _RATE, _KL = 8, 1e-3, 1e-5
_FINE = (4.0, 16.0)  # how much absolute and squared error of fine detail count more
_PART, _WHOLE = 48, 3  # side of a training square; every how many batches have whole pictures
_CHECKERED = 0.25  # made so, to half of all frames: of two in three plain shapes came out checkered
_STRAY = 0.1  # largest noise on a decoder's latents when it learns alone, of their deviation


class TrainingCodec:
    """A trained autoencoder as the expert's training sees it."""

    def __init__(self, vae: AutoencoderKL, scaling: float):
        self.vae, self.scaling = vae, scaling

    @torch.no_grad()
    def encode(self, video: Tensor, generator: torch.Generator) -> Tensor:
        """Scaled posterior samples (B, 4, F, h, w) of pixels (B, 3, F, H, W) in [-1, 1]."""
        posterior = self.vae.encode(video.transpose(1, 2).flatten(0, 1)).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=generator)
        latents = (posterior.mean + posterior.std * noise) * self.scaling
        return latents.unflatten(0, (len(video), -1)).transpose(1, 2)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Pixels (B, 3, F, H, W), about [-1, 1], of scaled latents (B, 4, F, h, w)."""
        flat = self.vae.decode(latents.transpose(1, 2).flatten(0, 1) / self.scaling).sample
        return flat.unflatten(0, (len(latents), -1)).transpose(1, 2)


def load_codec(folder: Path) -> TrainingCodec:
    """The autoencoder trained in `folder` (its mean weights)."""
    state = load_state(folder / "state.pt")
    vae = initial_vae().eval()
    vae.load_state_dict(state["mean"])
    return TrainingCodec(vae, state["scaling"])


class VaeTraining(Run):
    """Training of the autoencoder on single frames.

    `start`: a VAE's folder to go on from. `decoder_only`: the latents stay as they are, and so an
    expert stays one of theirs; the decoder learns to read them as an expert leaves them, with noise
    in them, and on textures evenly.
    """

    def __init__(
        self,
        folder: Path,
        seed: int = 0,
        world: Edition = FIRST,
        start: Path | None = None,
        *,
        decoder_only: bool = False,
    ):
        torch.manual_seed(seed)
        self.vae, self.world, self.decoder_only = initial_vae(), world, decoder_only
        if decoder_only:
            self.vae.encoder.requires_grad_(False)
            self.vae.quant_conv.requires_grad_(False)
        generator = torch.Generator().manual_seed(seed)
        super().__init__("vae", folder, self.vae, generator=generator, ahead=1)
        if self.resume():
            return
        if decoder_only and start is None:
            raise InputError(
                f"vae: --decoder-only learns to read latents that are there, and {folder} holds no "
                "training; add --bundled"
            )
        if start is not None:
            weights, _ = read_weights(start, ("diffusion_pytorch_model",))
            self.vae.load_state_dict({key: value.float() for key, value in weights.items()})
            self.loop.average.restart()

    def loss(self, step: int) -> Tensor:
        """Absolute and squared error, of fine detail once more, which textures are, with a very
        small pull of the latents to a normal distribution.
        """
        whole = step % _WHOLE == 0
        area = self.world.large[0] * self.world.large[1] if whole else _PART**2
        count = max(1, _BATCH * 64**2 // area)
        more = 0.0 if self.decoder_only else _CHECKERED
        frames = self._frames(count, self.generator, whole, more=more)
        with half_precision():
            posterior = self.vae.encode(frames).latent_dist
            noise = torch.randn(posterior.mean.shape, generator=self.generator)
            again = self.vae.decode(posterior.mean + self._spread(posterior) * noise).sample.float()
        pull = _KL * posterior.kl().float().mean() / 64
        detail, true = _detail(again), _detail(frames)
        fine = _FINE[0] * F.l1_loss(detail, true) + _FINE[1] * F.mse_loss(detail, true)
        return F.l1_loss(again, frames) + F.mse_loss(again, frames) + fine + pull

    def _spread(self, posterior: DiagonalGaussianDistribution) -> Tensor:
        """Deviation of the noise that is put on the latents."""
        if not self.decoder_only:
            return posterior.std
        strays = _STRAY * torch.rand(len(posterior.mean), 1, 1, 1, generator=self.generator)
        return posterior.std + strays * posterior.mean.std()

    def rate(self, step: int, part: float) -> float:
        return _RATE * warm_up(step, WARM_UP) * annealed(part)

    def report(self) -> None:
        """Measure the reconstruction's PSNR and draw a sheet, with the mean weights."""
        frames, latents, again = self._examples()
        save_sheet(
            self.folder / f"sheet-{self.counters['step']:06d}.png",
            torch.stack([frames[:8], again[:8]]).permute(0, 2, 1, 3, 4),
            scale=2,
        )
        self.log(psnr=round(mean_psnr(again, frames), 2), scaling=_scaling(latents))

    def extra(self) -> dict[str, float]:
        _, latents, _ = self._examples()
        return {"scaling": _scaling(latents)}

    @torch.no_grad()
    def _examples(self) -> tuple[Tensor, Tensor, Tensor]:
        """Frames, their latents, and the frames decoded again, all by the mean weights."""
        frames = self._frames(32, torch.Generator().manual_seed(1234))
        with self.mean_weights():
            latents = self.vae.encode(frames).latent_dist.mean
            return frames, latents, self.vae.decode(latents).sample.clamp(-1, 1)

    def _frames(
        self,
        count: int,
        generator: torch.Generator,
        whole: bool = True,
        *,
        more: float = _CHECKERED,
    ) -> Tensor:
        """Single frames (B, 3, H, W) in [-1, 1], or squares out of them; a share `more` is made
        checkered.
        """
        many = checkered_scenes(count, generator, self.world, more=more)
        times = torch.rand(count, 1, generator=generator)
        frames = pixels(many, times, self.world.large, world=self.world)
        if not whole:
            about = middles(many, times, self.world)
            frames = cut(frames, _PART, generator, about=about)
        return frames[:, :, 0]


def _detail(pictures: Tensor) -> Tensor:
    """What differs from the mean of four by four pixels around (B, C, H, W): a texture's period."""
    return pictures[..., 2:-1, 2:-1] - F.avg_pool2d(pictures, kernel_size=4, stride=1)


def _scaling(latents: Tensor) -> float:
    """What latents have to be multiplied by for a deviation of 1."""
    return round(1.0 / float(latents.std()), 5)
