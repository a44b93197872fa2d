"""What stands in for the world when nothing can be downloaded: images with exact truth, questions, and small
checkpoints."""
