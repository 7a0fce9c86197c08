"""What learns in a stage's network, in which precision, and its loss."""

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..lora.targets import student_layers, temporal_layers
from ..models.kinds import INTERPOLATION
from ..models.layers import TemporalConv, TemporalTransformer
from ..models.unet import UNet
from .adapters import Adapters
from .batch import Batch, denoising_loss
from .loop import Parameters
from .order import seeded
from .settings import StageTrainSettings
from .shards import divide
from .student import Teacher
from .variance import variance_loss


class Learner(nn.Module):
    """A network of which a part learns: that part in float32, the matrices of the rest in bfloat16
    where that is what it computes in. Called with a batch it gives the loss.

    Args:
        kind: of the model (models.kinds).
        alphas: the cumulated alphas of the schedule it is trained on, (T,).
        teacher: whose student it is to be; None: it learns from the clips.

    Raises:
        InputError: there is nothing to learn in this network as it is asked for.
    """

    def __init__(
        self,
        network: UNet,
        kind: str,
        s: StageTrainSettings,
        *,
        alphas: Tensor,
        device: torch.device,
        teacher: Teacher | None = None,
    ):
        super().__init__()
        self.network, self.s, self.teacher = network, s, teacher
        self.bf16 = s.precision == "bf16" or (s.precision == "auto" and device.type == "cuda")
        self.adapters: Adapters | None = None
        self._divided = False
        names = learned_names(network, kind, s)
        network.requires_grad_(False)
        for name, value in network.named_parameters():
            if name not in names and self.bf16 and value.ndim > 1:
                value.data = value.data.to(torch.bfloat16)
        network.to(device)
        self.learned: Parameters = {
            name: value.requires_grad_(True)
            for name, value in network.named_parameters()
            if name in names
        }
        for module in network.modules():
            if isinstance(module, nn.GroupNorm) and module.weight.requires_grad:
                module.register_forward_pre_hook(_with_slope)
        if s.train == "lora":
            layers = student_layers(network) if teacher else temporal_layers(network, s.targets)
            source = seeded(s.seed, "lora")
            self.adapters = Adapters(layers, s.rank, source, device=device)
            self.learned |= self.adapters.parameters
            # What is wrapped for several processes has to hold all that learns.
            self.pairs = nn.ParameterList(self.adapters.parameters.values())
        if teacher is not None and s.train not in ("all", "lora") and teacher.velocity:
            raise InputError(
                f"this student predicts velocity, not noise as its teacher does: 'train' "
                f"{s.train} cannot teach it that; train all, or lora"
            )
        if not self.learned:
            raise InputError(
                f"this model has no temporal layers, which 'train' {s.train} would train; train all"
            )
        self._alphas = alphas.to(device) if s.variance == "trained" else None

    def divide(self, device: torch.device) -> None:
        """What learns is divided over the processes from now on: `learned` is other parameters."""
        divide(self.network, device)
        own = dict(self.network.named_parameters())
        self.learned, self._divided = {name: own[name] for name in self.learned}, True

    def cast(self, device: torch.device) -> torch.autocast:
        """What it computes in, as a context. Of shards no cast weight is kept: that would be the
        whole network.
        """
        return torch.autocast(
            device.type, torch.bfloat16, enabled=self.bf16, cache_enabled=not self._divided
        )

    def forward(self, batch: Batch) -> Tensor:
        if self.teacher is not None:
            batch = self._shown(batch)
        with self.cast(batch.sample.device):
            predicted = self.network(batch.sample, batch.timesteps, batch.text, batch.labels)
        loss = denoising_loss(predicted, batch)
        if self._alphas is None:
            return loss
        return loss + variance_loss(predicted.float(), batch, self._alphas)

    def _shown(self, batch: Batch) -> Batch:
        """What the teacher makes of it, in the precision that it samples in: bfloat16 is too coarse
        for the little signal at its start.
        """
        device = batch.sample.device.type
        with torch.autocast(device, torch.float16, enabled=self.bf16 and device == "cuda"):
            return self.teacher.shown(batch)


def _with_slope(norm: nn.GroupNorm, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
    """An input whose gradient is asked for. Torch ends the process where a group norm of
    channels-last numbers is asked for its weights' gradient alone, as behind frozen layers.
    """
    if not torch.is_grad_enabled() or inputs[0].requires_grad:
        return None
    return (inputs[0].detach().requires_grad_(), *inputs[1:])


def learned_names(network: UNet, kind: str, s: StageTrainSettings) -> set[str]:
    """The network's own parameters that are trained; none with LoRA."""
    if s.train == "all":
        return {name for name, _ in network.named_parameters()}
    if s.train == "lora":
        return set()
    temporal = [
        f"{name}."
        for name, module in network.named_modules()
        if isinstance(module, (TemporalConv, TemporalTransformer))
    ]
    if s.train == "temporal-attention":
        temporal = [f"{name}." for name in temporal_layers(network, s.targets)]
    wanted = temporal
    if temporal and kind == INTERPOLATION and s.train == "temporal":
        wanted = [*wanted, "conv_in."]  # its condition's channels are new (section 3.3)
    if temporal and s.variance == "trained":
        wanted = [*wanted, "conv_out."]
    return (
        {n for n, _ in network.named_parameters() if n.startswith(tuple(wanted))}
        if wanted
        else set()
    )
