"""What a model adds to an image: boxes, captions, lines of text."""
