"""What the command line `granvit` offers, a module a group of commands."""
