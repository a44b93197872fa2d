"""GranViT (fine-grained vision encoder pretraining with region-level autoregression), reproduced as one
graph."""

__version__ = "0.1.0"
