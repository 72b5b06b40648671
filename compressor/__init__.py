"""Compress BERT checkpoints for devices: recipes in, measured and gated ONNX and TorchScript artifacts out."""

from compressor.models import registration

registration.install()

__version__ = "0.1.0"
