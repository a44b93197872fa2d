"""The miniature's benchmark files."""
