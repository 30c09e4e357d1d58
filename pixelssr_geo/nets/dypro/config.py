"""Every choice that the paper leaves to whoever builds DyPro-Mamba, as one value.

No code was published with the paper. Where its text can be read in more than one way, the field below
quotes it and says how we read it; the defaults meet its counts of 0.61 M parameters and 4.65 G
multiply-accumulates (3 bands to 31 channels, 128 x 128 pixels). Choices of training (the modelled
spectra, the losses) are fields of :class:`~pixelssr_geo.settings.Settings`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pixelssr_geo.errors import SettingsError
from pixelssr_geo.nets.options import check_options
from pixelssr_geo.nets.scan.walks import ALL_DIRECTIONS, DIRECTIONS

Transform = Literal["frft", "fft", "none"]
Trunk = Literal["whole", "no-attention", "no-last"]


@dataclass(frozen=True, slots=True)
class DyProConfig:
    """Settings of DyPro-Mamba; the defaults are the published size."""

    width: int = 40
    """Feature width, also the width of every attention head. "The band number of features in
    DyPro-Mamba (B) is empirically set to 40" (Section 4.1), while "Y_g in R^{B x H x W}" (Section
    3.1) makes B the channels of the cube, and "Q in R^{HW x B/N}" divides it by the heads. Read: 40
    for features Y1 to Y5, the cube's channels for Y_g, Y^r and Y^p; heads keep the width of P_spe
    at every level, so that eq. 9 is defined where the width doubles."""
    state: int = 16
    """States N per scanned channel. Not given; Mamba's default."""
    expand: int = 2
    """Scanned channels per channel in a PromptSSM. Not given; Mamba's default."""
    prompt_width: int = 3
    """Channels of F1, P_spa and P_hf. "F_1 = M_3x3(X)" (eq. 4) gives no width; Table 4's costs of
    P_spa (0.05 G) and P_hf (0.02 G) leave room for three."""
    prompt_inner: int = 18
    """Scanned channels in P_spa, in space and in the transform domain alike (at most; a multiple of
    the channels that come in). Not given; from Table 4's cost of P_spa."""
    directions: tuple[int, ...] = DIRECTIONS
    """Walks of every scan, numbered as in :mod:`pixelssr_geo.nets.scan.walks`. "diagonal
    orientations: top left to bottom right (left-right), top left to bottom right (topdown), and
    their inverse directions" (Section 3.2.1) names one path twice. Read: rows, columns and both
    backwards; 4 to 7 are the diagonals by the letter."""
    share_directions: bool = True
    """Whether the walks of a PromptSSM share their scan parameters. Not given; the count of
    parameters asks for it. The neck's walks have a set each."""
    transform: Transform = "frft"
    """Transform of P_spa: fractional ("frft"), the Fourier transform ("fft", Table 5), or "none":
    the scan in space alone."""
    initial_order: float = 0.5
    """Order that the fractional transform starts from. Not given; half way to the Fourier domain."""
    learn_order: bool = True
    """Whether the order is learnt. Not given; learnt in the paper's reference for it [40]."""
    parts: Literal["together", "apart"] = "together"
    """Scan of the complex transform, "M_scan(M_FRFT(F_1))" (eq. 4): real and imaginary part as
    channels of one scan ("together"), or each by itself with the same weights ("apart")."""
    inverse: Literal["real", "magnitude"] = "real"
    """What "M_iFRFT" (eq. 4) hands on of its complex result: not given. The real part undoes the
    transform of a real image; the published code of [40] takes the magnitude."""
    gate: Literal["after", "before"] = "after"
    """Place of SiLU(F1) in "M_3x3(M_ctc(F_spa, F_FRFT) . M_SiLU(F_1)" (eq. 4), whose brackets do
    not close: behind the convolution or before it."""
    upsampling: Literal["bilinear", "nearest"] = "bilinear"
    """"M_up(M_avg(F_1))" (eq. 5), where the prose calls M_up the pooling and M_avg the upsampling.
    Read: 2 x 2 average pooling first, as the symbols say, then this upsampling."""
    grey: tuple[int, ...] = ()
    """Bands that X_m averages, "(X_R + X_G + X_B) / 3" (eq. 6), which is undefined for other
    bands; none named: all of them."""
    attention: Literal["cosine", "product"] = "cosine"
    """"M_sft(K^T Q)" (eq. 9) has neither scale nor norm. Read as in MST++ (the paper's [6]): query
    and key of unit length over the pixels, a learnt temperature for each head ("cosine");
    "product" is the letter."""
    attention_sums: Literal["rows", "columns"] = "rows"
    """Axis of that softmax: not given. MST++ has rows that sum to one."""
    projections: Literal["depthwise", "full"] = "depthwise"
    """"three M_3x3 are performed to project F_in^2" (Section 3.2.2), tokens of shape HW x C. Read:
    a linear layer on each pixel, back to the image, then convolutions of each channel by itself;
    full ones alone cost 2 G."""
    norms: bool = True
    """Whether a LayerNorm goes before every attention and scan. The paper names none; nothing
    trains well without."""
    residuals: bool = True
    """Whether every attention, scan and feed-forward adds to its input. The paper names none."""
    feed_forward_convs: int = 2
    """Convolutions of the feed-forward, "several M_3x3 and M_GeLU" (Section 3.2.2), with a GELU
    between any two."""
    skip: bool = False
    """Whether the features before the downsampling are added behind the upsampling. Eq. 8 has no
    such connection, and gives neither the kind of M_ds and M_us nor their channels. Read: pixel
    (un)shuffle beside a 3 x 3 convolution; twice the width at half the resolution, without which
    the counts cannot be met."""
    spa: bool = True
    """Whether there is a spatial prompt P_spa (Table 4)."""
    hf: bool = True
    """Whether there is an edge prompt P_hf (Table 4)."""
    spe: bool = True
    """Whether P_spe enters the attention (Table 4); without it eq. 9 has the softmax alone. "P_spe
    in R^{C x C} is modeled via a spectral-wise self-attention" (Section 3.2.1), whose result would
    be a feature; by its shape, P_spe is the attention map."""
    drpn: bool = True
    """Whether there is a neck (Table 4); without it Y1 takes the place of Y3, no prompt is left."""
    prompt_ssm: Trunk = "whole"
    """Table 4's "w/o PromptSSM": "no-attention" drops the prompted attention of all three blocks,
    as "the guidance of spectral-wise dependency" suggests; "no-last" drops the block behind the
    upsampling, which alone fits the printed counts."""
    zero_head: bool = False
    """Whether the last convolution starts at zero, so that a fresh network returns zeros: for use
    as a correction of another estimate."""
    scan_backend: str = "auto"
    """Backend of the scans, see :func:`pixelssr_geo.nets.scan.selective_scan_2d`."""

    def __post_init__(self) -> None:
        check_options(self)
        for name in (
            "width", "state", "expand", "prompt_width", "prompt_inner", "feed_forward_convs",
        ):  # fmt: skip
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} is {getattr(self, name)}, expected at least 1")
        if not self.directions or any(k not in ALL_DIRECTIONS for k in self.directions):
            raise SettingsError(
                f"directions are {self.directions}, expected some of 0 to {ALL_DIRECTIONS[-1]}"
            )
