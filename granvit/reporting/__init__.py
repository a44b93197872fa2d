"""Tables and figures, made from score files only; nothing here imports training code."""

from __future__ import annotations
