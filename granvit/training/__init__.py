"""Training: stages as data, batches of packed regions, distillation, and the one loop of every stage
(Sec. 4). Letters of shapes: see ``granvit.models``."""
