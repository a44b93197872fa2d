"""Which images and questions a training run sees."""
