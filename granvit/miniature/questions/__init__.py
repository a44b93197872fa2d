"""What the miniature asks about its pictures."""
