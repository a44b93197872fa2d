"""The twenty benchmarks: reading them, asking a model, scoring its answers."""

from __future__ import annotations
