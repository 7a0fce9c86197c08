"""The same UNets without our speed-ups, for comparison: what the released implementation's
structure costs.

Written for this purpose, on our own layers and with our weights, so its numbers must equal ours. It
does what the
released code does at every step: the text is pooled, projected and, a copy for each frame, turned
into keys and values in every layer; temporal convolutions are Conv3d; feed-forwards see all tokens
at once; attention writes its weights down (`fused_attention`: it does not, as diffusers on a torch
from 2.0 on). `one_by_one` interpolates as it does: segment by segment.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from show1_engine.models.layers import AddedKVAttention, Attention, FeedForward, TemporalConv
from show1_engine.models.unet import TextStates, UNet


def plain_twin(unet: UNet, fused_attention: bool = False) -> UNet:
    """A baseline UNet on the very same weights."""
    with torch.device("meta"):
        twin = PlainUNet(unet.config).eval().requires_grad_(False)
    twin.load_state_dict(unet.state_dict(), assign=True)
    for module in twin.modules():
        module.__class__ = _PLAIN.get(type(module), type(module))
        module.fused_attention = fused_attention
    return twin


def one_by_one(interpolate: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Interpolation of every two neighbouring frames on their own; where two meet the later one's
    frame is kept.
    """
    parts = [interpolate(images[k : k + 2]) for k in range(len(images) - 1)]
    return torch.cat([*(part[:-1] for part in parts), parts[-1][-1:]])


class PlainUNet(UNet):
    """Takes the raw text and works it through at every forward."""

    def prepare_text(self, text: Tensor) -> TextStates:
        return TextStates(text)  # nothing is prepared

    def forward(
        self,
        sample: Tensor,
        timestep: int | Tensor,
        text: Tensor | TextStates,
        class_labels: Tensor | None = None,
        kept: list[Tensor] | None = None,
    ) -> Tensor:
        raw = text.pooled if isinstance(text, TextStates) else text
        if sample.ndim == 4:
            return self(sample.unsqueeze(2), timestep, raw, class_labels, kept=kept).squeeze(2)
        states = self.encoder_hid_proj(raw) if hasattr(self, "encoder_hid_proj") else raw
        pooled = self.add_embedding(raw) if hasattr(self, "add_embedding") else None
        each = states.repeat_interleave(sample.shape[2], 0)
        layers = {
            name: [each for _ in block.text_layers()]
            for block, name in self._text_layer_names.items()
        }
        states = TextStates(pooled, layers)
        return super().forward(sample, timestep, states, class_labels, kept=kept)


def attend(layer: nn.Module, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention that writes its weights down, (B * heads, tokens, keys), unless the layer has a
    fused one.
    """
    q, k, v = (rearrange(x, "b n (h d) -> b h n d", h=layer.heads) for x in (q, k, v))
    if layer.fused_attention:
        return rearrange(F.scaled_dot_product_attention(q, k, v), "b h n d -> b n (h d)")
    q, k, v = (x.flatten(0, 1) for x in (q, k, v))
    weights = torch.bmm(q * q.shape[-1] ** -0.5, k.transpose(1, 2)).softmax(dim=-1)
    return rearrange(torch.bmm(weights, v), "(b h) n d -> b n (h d)", h=layer.heads)


class PlainAttention(Attention):
    def forward(self, x: Tensor, text: Tensor | None = None) -> Tensor:
        k, v = self.keys_values(x if text is None else text)
        return self.to_out[0](attend(self, self.to_q(x), k, v=v))


class PlainAddedKVAttention(AddedKVAttention):
    def forward(self, x: Tensor, text: list[Tensor]) -> Tensor:
        k, v = self.keys_values(text[0])
        h = rearrange(self.group_norm(x), "b c h w -> b (h w) c")
        if not self.text_only:
            k, v = torch.cat([k, self.to_k(h)], dim=1), torch.cat([v, self.to_v(h)], dim=1)
        h = self.to_out[0](attend(self, self.to_q(h), k, v=v))
        return x + h.transpose(1, 2).reshape(x.shape)


class PlainTemporalConv(TemporalConv):
    def forward(self, x: Tensor, frames: int) -> Tensor:
        h = rearrange(x, "(b f) c h w -> b c f h w", f=frames)
        for step in (self.conv1, self.conv2, self.conv3, self.conv4):
            norm, *between, convolution = step
            h = norm(h)
            for layer in between:
                h = layer(h)
            h = F.conv3d(h, convolution.weight.unsqueeze(-1), convolution.bias, padding=(1, 0, 0))
        return x + rearrange(h, "b c f h w -> (b f) c h w")


class PlainFeedForward(FeedForward):
    def forward(self, x: Tensor) -> Tensor:
        return self.net[2](self.net[0](x))


_PLAIN = {
    Attention: PlainAttention,
    AddedKVAttention: PlainAddedKVAttention,
    TemporalConv: PlainTemporalConv,
    FeedForward: PlainFeedForward,
}
