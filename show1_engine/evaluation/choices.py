"""Every free choice of the protocols, as data: metrics, which frames are seen, presets, the paper's
numbers. Imports nothing heavy, as --help reads it.

Sources: arXiv 2309.15818v3 (the paper, tables 1, 2, 4, 6); the authors' word that UCF-101 follows
TATS and the CLIP score torchmetrics (showlab/Show-1, issue 15); StyleGAN-V; VideoPoet, appendix
A.5.5. What none of them says is chosen here, and every report repeats it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

FITS = ("crop", "squash")
RESIZES = ("bilinear", "bicubic", "area")
PLACES = ("centre", "first", "random", "windows")
SHORT = ("refuse", "stretch")
BEST_OF_ONE = 1000  # an Inception score of fewer clips is refused


@dataclass(frozen=True)
class Sampling:
    """Which frames of a clip are seen, and how they come to one size.

    frames: frames of a clip that a network sees; 0: all.
    stride: every how many-th frame of generated clips.
    real_stride: the same of real clips; their rate is 25 to 30 frames a second, ours 7.5.
    place: which of a clip's frames: its centre, its first ones, at random (seeded by the clip's
        name), or windows drawn evenly from those of all clips.
    size: side in pixels that frames come to before a network sees them; 0: as they are.
    fit: crop (shorter side to the size, the middle cut out) or squash.
    resize: how they come to it: bilinear, bicubic or area.
    antialias: whether that resize is antialiased.
    short: what to do with a clip of fewer frames: refuse, or stretch (show frames more than once).
    """

    frames: int = 16
    stride: int = 1
    real_stride: int = 1
    place: str = "centre"
    size: int = 128
    fit: str = "crop"
    resize: str = "bilinear"
    antialias: bool = False
    short: str = "refuse"


@dataclass(frozen=True)
class Metric:
    """What a number is.

    of: "clips" or "frames": what one feature belongs to.
    against: whether it needs real clips; captions: whether it needs texts.
    """

    name: str
    definition: str
    network: str
    of: str
    against: bool = False
    captions: bool = False
    better: str = "lower"
    all_frames: bool = False


METRICS = {
    item.name: item
    for item in (
        Metric(
            "fvd",
            "Frechet distance between the features of clips",
            network="i3d",
            of="clips",
            against=True,
        ),
        Metric("is", "Inception score of clips", network="c3d", of="clips", better="higher"),
        Metric(
            "fid_frames",
            "Frechet distance between the features of single frames, pooled over all clips; one "
            "reading of the paper's undefined FID-vid",
            network="inception",
            of="frames",
            against=True,
        ),
        Metric(
            "fid_clip",
            "Frechet distance between CLIP's image features of single frames, pooled over all "
            "clips; another reading of FID-vid",
            network="clip",
            of="frames",
            against=True,
        ),
        Metric(
            "clipsim",
            "cosine of CLIP's image and text features, mean over a clip's frames, then over clips",
            network="clip",
            of="frames",
            captions=True,
            better="higher",
            all_frames=True,
        ),
    )
}
NETWORKS = ("i3d", "c3d", "inception", "clip", "lite0")


@dataclass(frozen=True)
class Preset:
    """A protocol.

    count: clips of each kind a distance is of. repeats: how often, on further clips.
    ddof: of the covariances. splits, score_seed: of the Inception score; no seed: not shuffled.
    real_place: which frames of real clips, where not as of generated ones.
    says: what the protocol is, and what is not known of it.
    """

    name: str
    says: str
    sampling: Sampling
    count: int = 2048
    repeats: int = 1
    ddof: int = 1
    splits: int = 10
    score_seed: int | None = None
    score_count: int = 10_000
    real_place: str = ""

    def sampling_of(self, metric: str, real: bool) -> Sampling:
        """Which frames of which clips a metric sees."""
        sampling = self.sampling
        if METRICS[metric].all_frames:
            sampling = replace(sampling, frames=0)
        if metric == "clipsim":
            sampling = replace(sampling, size=256, antialias=True)
        if real and self.real_place:
            sampling = replace(sampling, place=self.real_place)
        if real:
            sampling = replace(sampling, stride=sampling.real_stride)
        return sampling


PRESETS = {
    item.name: item
    for item in (
        Preset(
            "paper",
            "the paper's protocol as far as published: FVD as TATS, IS as TGAN2, CLIPSIM as "
            "torchmetrics. Not published: number and place of frames, crop, CLIP's backbone, the "
            "network of FID-vid",
            Sampling(),
            real_place="windows",
        ),
        Preset(
            "stylegan-v",
            "FVD of StyleGAN-V: 16 frames at a random place, 256x256, covariances divided by n",
            Sampling(place="random", size=256, antialias=True),
            ddof=0,
            score_seed=42,
        ),
        Preset(
            "videopoet",
            "VideoPoet's: the 16 middle frames, 256x256, the mean of 20 distances of 2,048 clips",
            Sampling(size=256, antialias=True),
            repeats=20,
        ),
    )
}

# (set, metric) -> what the paper says, and where. FID-vid is nobody's definition: not compared.
PAPER = {
    ("ucf101", "fvd"): (383.46, "table 1, square-tuned 369.33"),
    ("ucf101", "is"): (35.67, "table 1, square-tuned 36.02"),
    ("msrvtt", "fvd"): (536.0, "table 2"),
    ("msrvtt", "clipsim"): (0.3104, "table 2, of 59,794 captions"),
}
FID_VID = "the paper's FID-vid (12.97 on MSR-VTT) has no definition; this is not it for certain"
STAGES = {"keyframes": 569.0, "interpolated": 542.0, "pixel_sr": 474.0, "latent_expert_sr": 383.0}
