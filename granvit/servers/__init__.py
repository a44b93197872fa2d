"""Asking servers of models over HTTP, and remembering what they said."""
