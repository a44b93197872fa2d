"""From raw source folders to training mixtures (Sec. 3); knows no model of the MLLM."""
