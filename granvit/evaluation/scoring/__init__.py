"""What the scoring rules compute: pure Python, no model, no judge. `granvit.evaluation.rules` names them."""

from __future__ import annotations
