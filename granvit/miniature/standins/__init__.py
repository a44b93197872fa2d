"""Small pretrained checkpoints in place of the published ones."""

SMALLEST_LLM = "Qwen2.5-1.5B"  # trained from nothing; the others grow out of it
