"""Small pretrained checkpoints in place of the published ones."""
