"""A loaded model of the cascade: what flows along SHOW1_MODEL links."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError, ModelKindError
from .handle import Handle
from .kinds import DESCRIPTION
from .managed import Managed
from .unet import UNet

_MOST_TOKENS = 4096
_LARGEST = 1e6  # of a text state; T5's stay below 100


@dataclass(frozen=True)
class Show1Model(Managed):
    """A UNet with the schedule it was trained on; the latent expert has its VAE beside it.

    `unet` and `vae` are handles: `load()` puts them where they compute and says where that is.
    `trained`: latents along the wider side of a latent expert's training frames.
    """

    name: str
    kind: str
    unet: Handle
    scheduler_config: dict[str, Any]
    noising_config: dict[str, Any] | None = None
    vae: Handle | None = None
    trained: int = 72

    @property
    def network(self) -> UNet:
        return self.unet.module

    @property
    def student_steps(self) -> int:
        """In how many steps a student is sampled, without guidance; 0: this is none."""
        return int(self.scheduler_config.get("student_steps") or 0)

    def handles(self) -> list[Handle]:
        """The UNet, and the VAE where there is one."""
        return [self.unet] if self.vae is None else [self.unet, self.vae]

    def with_unet(self, unet: Handle) -> "Show1Model":
        """The same model on another handle (its weights patched, for instance)."""
        return replace(self, unet=unet)

    def require(self, stage: str, *kinds: str) -> None:
        """ModelKindError, by name, unless this model is of one of `kinds`."""
        if self.kind not in kinds:
            raise ModelKindError(
                f"{stage} needs {DESCRIPTION[kinds[0]]}; '{self.name}' is {DESCRIPTION[self.kind]}"
            )

    def require_noise(self, stage: str) -> None:
        """InputError unless this model is no student and predicts noise: its prediction is what
        training compares.
        """
        if self.student_steps:
            raise InputError(
                f"{stage} cannot train '{self.name}': it is a student; train on its teacher"
            )
        predicts = self.scheduler_config.get("prediction_type", "epsilon")
        if predicts != "epsilon":
            raise InputError(
                f"{stage} trains models that predict noise; '{self.name}' predicts {predicts}"
            )

    def text(self, stage: str, name: str, states: Tensor, device: torch.device) -> Tensor:
        """Text states (B, tokens, width) on the device; InputError if they are of another shape or
        width, or not finite."""
        width = self.network.text_width
        if not isinstance(states, Tensor) or states.ndim != 3 or not states.is_floating_point():
            what = getattr(states, "shape", type(states).__name__)
            raise InputError(f"{stage}: '{name}' is no prompt but {what}; connect Show1TextEncode")
        if not (len(states) and 1 <= states.shape[1] <= _MOST_TOKENS):
            raise InputError(
                f"{stage}: '{name}' holds {len(states)} prompts of {states.shape[1]} "
                f"tokens; Show-1 reads 1 to {_MOST_TOKENS} tokens"
            )
        if states.shape[-1] != width:
            reads = {4096: "T5 v1.1 XXL", 1024: "OpenCLIP-H"}.get(width, f"a {width} wide encoder")
            raise InputError(
                f"{stage}: '{name}' is {states.shape[-1]} wide, but '{self.name}' reads text "
                f"{width} wide ({reads}); encode the prompt with that text encoder"
            )
        most = float(states.float().abs().max())
        if not most <= _LARGEST:
            raise InputError(
                f"{stage}: '{name}' has NaN, infinite or huge values ({most:.3g}); its text "
                "encoder is damaged, or overflowed: load it again in fp32 or bf16"
            )
        return states.to(device)
