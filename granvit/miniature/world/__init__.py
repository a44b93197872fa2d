"""What the miniature shows: scenes and documents, drawn."""
