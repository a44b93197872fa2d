"""The models of the paper: vision encoders, projector, language models, and the multimodal model of the
three."""
