"""Encoders: any timm backbone behind one token interface."""

from gkd.models.backbones import check_name
from gkd.models.encoder import Encoder, Tokens, resample_patches

__all__ = ["Encoder", "Tokens", "check_name", "resample_patches"]
